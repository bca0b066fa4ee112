import numpy as np
import pytest
import torch
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from recon import render_video
from recon.deformation.interface import StaticDeformation
from recon.errors import InputError, OutputExistsError
from recon.film.camera_paths import plan_camera_path
from recon.film.options import SUFFIXES, check_video_options
from recon.film.rendering import _writers, render_frames
from recon.gaussians import gaussians_from_points
from recon.grid.cameras import orbit_camera
from recon.media import read_video
from recon.progress import Progress
from recon.scene import Scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A red Gaussian in the middle and a blue one beside it, seen by one camera."""
    points = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.2]])
    gaussians = gaussians_from_points(points, torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), 0.1, 0.9)
    camera = orbit_camera(0, 10, 3.2, 33.8, 16, 24)
    return Scene(gaussians, StaticDeformation(), np.linspace(0, 1, 3), (camera,))


@pytest.mark.parametrize("fps", [10.0, 12.5, 23.976])
def test_a_video_has_the_rendered_frames_and_the_frame_rate(scene, tmp_path, fps):
    rendered = render_video(scene, tmp_path / "x.mp4", fps=fps, frames=4)
    video = read_video(tmp_path / "x.mp4")
    assert video.fps == pytest.approx(fps, rel=1e-3)
    expected = np.stack(list(render_frames(scene, rendered.cameras, rendered.times)))
    assert np.abs(video.frames.astype(int) - expected).mean() < 12


def test_a_gif_loops_and_keeps_the_frames(scene, tmp_path):
    rendered = render_video(scene, tmp_path / "x.gif", fps=10, frames=4)
    expected = list(render_frames(scene, rendered.cameras, rendered.times))
    with Image.open(tmp_path / "x.gif") as gif:
        assert isinstance(gif, GifImageFile)
        assert gif.n_frames == 4
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 100
        gif.seek(2)
        np.testing.assert_allclose(np.asarray(gif.convert("RGB")), expected[2], atol=2)


def test_the_rate_of_a_gif_is_the_one_that_it_plays_with(scene, tmp_path):
    fast = render_video(scene, tmp_path / "fast.gif", fps=120, frames=4)
    assert fast.fps == 50
    slower = plan_camera_path(scene, fps=50, frames=4)
    np.testing.assert_allclose(fast.times, slower.times)
    assert render_video(scene, tmp_path / "x.gif", frames=4).fps == 24


def test_a_name_without_a_suffix_becomes_a_folder_of_png_files(scene, tmp_path):
    rendered = render_video(scene, tmp_path / "x", frames=3)
    names = sorted(path.name for path in (tmp_path / "x").iterdir())
    assert names == [f"frame_{index:04d}.png" for index in range(3)]
    expected = list(render_frames(scene, rendered.cameras, rendered.times))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x" / names[2])), expected[2])


def test_progress_counts_the_frames(scene, tmp_path):
    progress: list[Progress] = []
    render_video(scene, tmp_path / "x", frames=3, on_step=progress.append)
    assert [(step.step, step.steps) for step in progress] == [(1, 3), (2, 3), (3, 3)]


def test_unsupported_suffixes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.avi"):
        check_video_options(tmp_path / "x.avi")


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x"])
def test_an_existing_video_is_replaced_only_with_overwrite(scene, tmp_path, name):
    render_video(scene, tmp_path / name, frames=1)
    with pytest.raises(OutputExistsError):
        render_video(scene, tmp_path / name, frames=2)
    render_video(scene, tmp_path / name, frames=2, overwrite=True)


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x"])
def test_a_video_that_fails_midway_leaves_nothing(scene, tmp_path, name):
    def fail(progress: Progress) -> None:
        if progress.step == 2:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        render_video(scene, tmp_path / name, frames=3, on_step=fail)
    assert list(tmp_path.iterdir()) == []


def test_frames_are_uint8_over_the_background_of_the_scene(scene):
    cameras = [scene.cameras[0]] * 3
    frames = list(render_frames(scene, cameras, [0.0, 0.5, 1.0]))
    assert [frame.shape for frame in frames] == [(16, 24, 3)] * 3
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert (frames[0][0, 0] == 255).all()
    assert frames[0][8, 12, 0] > frames[0][8, 12, 2]  # the red Gaussian is in the middle


def test_another_background_can_be_set(scene):
    (frame,) = render_frames(scene, scene.cameras, [0.0], (0.0, 1.0, 0.0))
    assert tuple(frame[0, 0]) == (0, 255, 0)


def test_every_accepted_suffix_has_a_writer():
    assert set(SUFFIXES) == set(_writers)
