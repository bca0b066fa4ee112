"""A scene is drawn with alpha, and over the frames of the video that it was made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from recon import render_video
from recon.deformation.interface import StaticDeformation
from recon.errors import InputError
from recon.film.camera_paths import plan_camera_path
from recon.film.compositing import render_over, render_rgba
from recon.gaussians import gaussians_from_points
from recon.grid.grid import composite
from recon.grid.video_thumbnails import thumbnails_of
from recon.media import read_video, write_png, write_video
from recon.scene import Scene
from tests.recon.grid.test_source_camera import make_source

FRAMES = 16  # of the video; those from 5 to 13 were fitted


@pytest.fixture
def scene() -> Scene:
    """A red ball with soft edges, whose source camera follows it across 40 × 60 pixels."""
    gaussians = gaussians_from_points(torch.zeros(1, 3), torch.tensor([[1.0, 0, 0]]), 0.15, 0.9)
    source = make_source()
    return Scene(
        gaussians, StaticDeformation(), source.times, (source.camera,), 2.5, source_camera=source
    )


def film(count: int = FRAMES, height: int = 40, width: int = 60) -> np.ndarray:
    """Frames of one gray each, which tells their number."""
    grays = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(10 * grays, (count, height, width, 3))


def write_folder(folder, frames: np.ndarray):
    folder.mkdir()
    for number, frame in enumerate(frames):
        write_png(folder / f"{number}.png", frame)
    return folder


def test_straight_alpha_over_a_color_is_the_rendering_over_it(scene):
    camera = scene.cameras[0]
    for background in (scene.background, (0.1, 0.5, 0.0)):
        expected = scene.render(camera, 0.0, background)
        found = composite(render_rgba(scene, camera, 0.0), background)
        np.testing.assert_allclose(found.astype(int), expected, atol=2)
        flat = np.broadcast_to(np.rint(255 * np.array(background)), (40, 60, 3)).astype(np.uint8)
        np.testing.assert_allclose(
            render_over(scene, camera, 0, flat).astype(int), expected, atol=1
        )


def test_the_path_has_one_camera_for_each_frame_of_the_video(scene):
    planned = plan_camera_path(scene, "source")
    np.testing.assert_allclose(planned.times, np.arange(9) / 8)
    assert planned.fps == pytest.approx(10)  # 3 frames in 0.8 seconds are every fourth
    assert [camera.cx for camera in planned.cameras[:3]] == [12.5, 14.5, 16.5]
    assert {(camera.width, camera.height) for camera in planned.cameras} == {(60, 40)}


@pytest.mark.parametrize(
    ("options", "times", "fps"),
    [
        ({"frames": 5}, [0, 0.25, 0.5, 0.75, 1], 5),
        ({"fps": 5.0}, [0, 0.25, 0.5, 0.75, 1], 5),
        ({"fps": 4.0}, [0, 0.3125, 0.625, 0.9375], 4),
        ({"fps": 8.0, "frames": 3}, [0, 0.5, 1], 8),
        ({"frames": 1}, [0], 2.5),
    ],
)
def test_other_frames_and_rates_play_the_same_seconds(scene, options, times, fps):
    planned = plan_camera_path(scene, "source", **options)
    np.testing.assert_allclose(planned.times, times)
    assert planned.fps == pytest.approx(fps)


def test_the_path_of_a_still_scene_has_one_camera(scene):
    still = make_source(1)
    scene = replace(scene, times=still.times, source_camera=still)
    for planned in (
        plan_camera_path(scene, "source"),
        plan_camera_path(scene, "source", frames=1),
        plan_camera_path(scene, "source", fps=5.0),
    ):
        assert (len(planned.cameras), planned.times.tolist()) == (1, [0.0])
    with pytest.raises(InputError, match="one time") as refusal:
        plan_camera_path(scene, "source", frames=3)
    assert refusal.value.argument == "frames"
    assert len(plan_camera_path(scene, "orbit", frames=3).cameras) == 3


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_frames_lie_over_those_of_the_same_number(scene, tmp_path, kind):
    if kind == "folder":
        path = write_folder(tmp_path / "film", film())
    else:
        path = tmp_path / "film.mp4"
        write_video(path, film(), 12)
    render_video(scene, tmp_path / "over", "source", over=path)
    drawn = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "over").iterdir())]
    assert np.shape(drawn) == (9, 40, 60, 3)
    np.testing.assert_allclose([image[-1, 0, 0] for image in drawn], np.arange(50, 140, 10), atol=3)
    for image, center in zip(drawn[::4], scene.source_camera.principal_points, strict=True):
        reds = image[..., 0].astype(int) - image[..., 1]
        rows, columns = np.nonzero(reds > reds.max() / 2)
        np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], center, atol=0.6)


def test_another_video_is_warned_of_but_not_another_compression(scene, tmp_path, caplog):
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 255, (2 * FRAMES, 5, 5, 3), np.uint8), 8, axis=1)
    frames = np.repeat(frames, 12, axis=2)
    source = scene.source_camera
    known = thumbnails_of(frames[list(source.source_frames)])
    scene.source_camera = replace(source, thumbnails=known)
    write_video(tmp_path / "same.mp4", frames[:FRAMES], 12)
    render_video(scene, tmp_path / "same", "source", over=tmp_path / "same.mp4")
    assert not caplog.records
    for name, other in (("other", frames[FRAMES:]), ("later", frames[2:])):
        path = write_folder(tmp_path / f"{name} film", other)
        render_video(scene, tmp_path / name, "source", over=path)
        assert f"{path}: its frames differ" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 2


def test_a_video_is_warned_of_if_the_scene_was_made_of_an_image(scene, tmp_path, caplog):
    still = make_source(1)
    scene = replace(scene, times=still.times, source_camera=still)
    count = still.source_frames[0] + 1
    path = write_folder(tmp_path / "film", film(count + 3))
    render_video(scene, tmp_path / "over", "source", over=path)
    (warning,) = caplog.records
    assert f"{path}: " in warning.getMessage() and f"of the {count + 3}" in warning.getMessage()
    assert len(list((tmp_path / "over").iterdir())) == 1


def test_another_size_enlarges_the_video_too(scene, tmp_path):
    path = write_folder(tmp_path / "film", film())
    render_video(scene, tmp_path / "over.mp4", "source", size=120, over=path)
    assert read_video(tmp_path / "over.mp4").frames.shape == (9, 80, 120, 3)


def test_transparent_films_show_the_background(scene, tmp_path):
    path = write_folder(tmp_path / "film", np.zeros((FRAMES, 40, 60, 4), np.uint8))
    render_video(scene, tmp_path / "over", "source", over=path)
    assert (np.asarray(Image.open(tmp_path / "over" / "frame_0000.png"))[-1, -1] == 255).all()


def test_transparent_images_have_alpha(scene, tmp_path):
    render_video(scene, tmp_path / "images", "source", frames=1, transparent=True)
    with Image.open(tmp_path / "images" / "frame_0000.png") as image:
        assert image.mode == "RGBA"
        assert np.asarray(image)[-1, -1, 3] == 0


@pytest.mark.parametrize(
    ("output", "path", "options", "found"),
    [
        ("x.mp4", "orbit", {"over": "film"}, "found 'orbit'"),
        ("x.mp4", "source", {"over": "film", "frames": 2}, "own frames"),
        ("x.mp4", "source", {"over": "film", "fps": 5.0}, "own frames"),
        ("x", "source", {"over": "film", "transparent": True}, "opaque"),
        ("x.mp4", "orbit", {"transparent": True}, "suffix"),
        ("x.mp4", "source", {"over": "nothing"}, "no such file"),
        ("x.mp4", "source", {"over": "short"}, "14 frames or more, found 13"),
        ("x.mp4", "source", {"over": "wide"}, "60×40 pixels, found 40×60"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    scene, tmp_path, monkeypatch, output, path, options, found
):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "film", film())
    write_folder(tmp_path / "short", film(13))
    write_folder(tmp_path / "wide", film(height=60, width=40))
    with pytest.raises(InputError, match=found):
        render_video(scene, tmp_path / output, path, **options)
    assert not (tmp_path / output).exists()


def test_a_scene_without_a_source_camera_says_how_to_get_one(scene, tmp_path):
    with pytest.raises(InputError, match="generate the grid"):
        render_video(replace(scene, source_camera=None), tmp_path / "x.mp4", "source")
