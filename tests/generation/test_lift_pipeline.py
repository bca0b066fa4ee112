"""The pipeline of lift: from a clip to a grid, in memory and in a folder."""

import itertools
import json

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from generation import load_clip, load_pipeline
from generation.checkpoint import UNFINISHED
from generation.lift_pipeline import RATIO, LiftPipeline, working_dtype
from generation.pipelines import open_pipeline
from generation.settings import GenerateSettings
from recon.errors import InputError, Interrupted, OutputExistsError, WeightsError
from recon.grid import read_grid
from recon.grid.cameras import viewing_angles_deg
from recon.media import write_png
from recon.progress import Progress
from tests.generation.lift.tiny_lift import write_lift
from tests.generation.tiny_networks import tiny_clip


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "weights").mkdir()
    return write_lift(tmp_path / "weights")


def settings(**others) -> GenerateSettings:
    return GenerateSettings(
        **{"model": "lift", "size": 64, "views": 3, "precision": "float32"} | others
    )


@pytest.fixture
def pipeline(weights):
    return open_pipeline(settings(), weights)


def test_a_grid_has_the_input_as_view_0_and_all_others_drawn(weights):
    pipeline = load_pipeline("lift", weights=weights, device="cpu")
    clip, found = tiny_clip(2, 256), []
    grid = pipeline(clip, seed=0, on_step=found.append)
    assert (grid.V, grid.T, grid.height, grid.width, grid.input_view) == (16, 2, 256, 256, 0)
    assert grid.alpha_known and grid.fps == clip.fps
    azimuths, elevations = zip(*map(viewing_angles_deg, grid.cameras), strict=True)
    assert azimuths == pytest.approx([22.5 * k for k in range(16)])
    assert elevations == pytest.approx([10.0] * 16)
    for t in range(2):
        assert (grid.image(0, t) == clip.images[t]).all()
    assert (grid.images[..., 3] > 128).any(axis=(1, 2)).all()
    assert [each.step for each in found][-1] == found[0].steps == 6
    assert isinstance(found[0], Progress)


def test_the_times_of_the_clip_travel_into_the_grid(pipeline):
    clip = tiny_clip(3, 256)._replace(times=(0.0, 0.1, 1.0))
    assert pipeline(clip, seed=0).times.tolist() == [0, 0.1, 1]


def test_the_seed_has_no_effect(pipeline):
    clip = tiny_clip(2)
    one, other = (pipeline(clip, seed=seed, size=64).images for seed in (0, 7))
    assert (one == other).all()


def test_a_grid_in_memory_is_the_one_in_the_folder(pipeline, tmp_path):
    clip = tiny_clip(3)
    made = pipeline.generate(clip, tmp_path / "grid")
    assert (pipeline(clip, views=3, size=64).images == made.grid.images).all()
    written = read_grid(tmp_path / "grid")
    assert (written.images[..., 3] == made.grid.images[..., 3]).all()
    assert written.input_view == 0
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {
        "transforms.json", "images", "videos", "contact_sheet.png", "input", "generate.json",
        "initial_gaussians.safetensors",
    }  # fmt: skip
    report = json.loads((tmp_path / "grid" / "generate.json").read_text())
    assert report == json.loads(json.dumps(made.report))
    assert report["model"] == "lift"
    assert report["weights"]["lift"]["file"] == "lift.safetensors"
    assert len(report["weights"]["lift"]["sha256"]) == 64
    assert report["dtype"] == "float32"
    assert len(report["yaw_deg"]) == 3
    assert report["seconds"].keys() == {"load", "predict", "smooth", "draw"}


def test_the_grid_comes_with_gaussians_on_the_surface_of_its_middle_frame(pipeline):
    clip = tiny_clip(5)
    grid = pipeline(clip, views=3, size=64)
    start = grid.initial_gaussians
    assert start is not None and start.frame == 2
    places, depths = grid.cameras[0].project(start.means)
    alpha = grid.image(0, 2)[..., 3]
    row, column = places[:, 1].astype(int), places[:, 0].astype(int)
    assert (alpha[row, column] > 0).mean() > 0.95
    assert 1.0 < depths.min() < depths.max() < 3.0
    clip.images[2] = 0
    assert pipeline(clip, views=3, size=64).initial_gaussians is None


def test_options_reach_the_cameras(pipeline):
    others = {"fov_deg": 50.0, "distance": 4.0, "clockwise": True, "elevation_deg": -5.0}
    square, plan = pipeline.prepare(tiny_clip(2), settings(views=None, azimuths_deg=(30.0, 90.0)))
    assert plan.azimuths_deg == (30.0, 90.0)
    square, plan = pipeline.prepare(tiny_clip(2), settings(**others))
    own, *drawn = plan.cameras(square.images.shape[1])
    assert [viewing_angles_deg(camera)[0] for camera in drawn] == pytest.approx([270, 180, 90])
    assert viewing_angles_deg(own)[1] == pytest.approx(-5)
    assert np.linalg.norm(own.position) == pytest.approx(4)


def test_the_views_do_not_depend_on_the_distance(pipeline):
    """A camera twice as far sees an object twice as large."""
    clip = tiny_clip(1)
    near, far = (
        pipeline.generate(clip, folder, settings(distance=distance)).grid.images
        for folder, distance in (("near", 2.0), ("far", 4.0))
    )
    assert np.abs(near.astype(int) - far).mean() < 0.5


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_stopped_generation_resumes_after_the_network(pipeline, tmp_path, monkeypatch):
    clip, count = tiny_clip(4), itertools.count(1)
    whole = pipeline.generate(clip, tmp_path / "whole").grid.images
    with pytest.raises(Interrupted):
        pipeline.generate(clip, tmp_path / "grid", should_stop=lambda: next(count) == 4)
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {UNFINISHED}
    monkeypatch.setattr(LiftPipeline, "_predictor", None)
    found: list[Progress] = []
    made = pipeline.generate(clip, tmp_path / "grid", on_step=found.append)
    assert [(each.step, each.steps) for each in found] == [(n, 12) for n in (9, 10, 11, 12)]
    assert (made.grid.images == whole).all()
    assert "predict" in made.report["seconds"]


def test_a_generation_stopped_before_that_starts_again(pipeline, tmp_path):
    clip, count = tiny_clip(9), itertools.count(1)
    with pytest.raises(Interrupted):
        pipeline.generate(clip, tmp_path / "grid", should_stop=lambda: next(count) == 1)
    assert pipeline.generate(clip, tmp_path / "grid").grid.T == 9


def test_an_unfinished_generation_of_another_elevation_needs_overwrite(pipeline, tmp_path):
    clip, count = tiny_clip(2), itertools.count(1)
    with pytest.raises(Interrupted):
        pipeline.generate(clip, tmp_path / "grid", should_stop=lambda: next(count) == 3)
    other = settings(elevation_deg=20.0)
    with pytest.raises(OutputExistsError, match="elevation"):
        pipeline.generate(clip, tmp_path / "grid", other)
    pipeline.generate(clip, tmp_path / "grid", other, overwrite=True)


def test_the_network_is_read_once_for_many_grids(weights, tmp_path):
    pipeline = open_pipeline(settings(), weights)
    first = pipeline(tiny_clip(1), size=64)
    (weights / "lift.safetensors").unlink()
    assert (pipeline(tiny_clip(1), size=64).images == first.images).all()


def test_low_memory_gives_the_same_grid(pipeline, weights):
    little = open_pipeline(settings(low_memory=True), weights)
    one, other = (each(tiny_clip(3), views=2, size=64).images for each in (pipeline, little))
    assert np.abs(one.astype(int) - other).max() <= 1


def test_options_of_diffusion_models_are_refused(pipeline):
    with pytest.raises(InputError, match="no steps for lift"):
        pipeline(tiny_clip(2), steps=10, size=64)


def test_missing_weights_name_the_file_and_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match=r"lift\.safetensors") as caught:
        load_pipeline("lift", device="cpu")
    assert "train lift" in (caught.value.hint or "")


def test_bfloat16_is_used_where_the_machine_has_instructions_for_it(monkeypatch):
    for found, dtype in (({"avx512_bf16": True}, torch.bfloat16), ({}, torch.float32)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=found: found)
        assert working_dtype(settings(precision="auto")) == dtype
        assert working_dtype(settings(precision="float32")) == torch.float32
    assert working_dtype(settings(precision="auto", device="cuda")) == torch.bfloat16


def test_the_estimate_grows_with_frames_and_views(pipeline):
    few = pipeline.estimate(tiny_clip(2))
    many = pipeline.estimate(tiny_clip(9))
    assert 0 < few.flops < many.flops
    assert few.disk_bytes < many.disk_bytes
    assert few.device_memory_bytes < many.device_memory_bytes
    assert 0 < few.seconds < many.seconds
    _, plan = pipeline.prepare(tiny_clip(2), settings(views=9))
    wide = LiftPipeline.estimate_cost(plan, settings(), 64, 2, 1e9, pipeline.weights.path.parent)
    assert wide.disk_bytes > few.disk_bytes


def frames_folder(folder, frames):
    """A folder of PNG images."""
    folder.mkdir()
    for t, frame in enumerate(frames):
        write_png(folder / f"{t:03d}.png", frame)
    return folder


def white(T: int, height: int = 80, width: int = 80, channels: int = 3) -> np.ndarray:
    return np.full((T, height, width, channels), 255, np.uint8)


def grid_of(pipeline, source, **options):
    clip = load_clip(source, **options)
    return clip, pipeline(clip, views=3, size=64)


def test_an_object_fills_seven_tenths_of_the_image_wherever_it_is(pipeline, tmp_path):
    frames = white(2, 80, 120)
    frames[0, 10:40, 4:12] = frames[1, 20:50, 4:12] = (90, 20, 20)
    _, grid = grid_of(pipeline, frames_folder(tmp_path / "x", frames))
    shown = (grid.images[grid.is_input][..., 3] > 128).any(0)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    assert len(rows) / 64 == pytest.approx(RATIO, abs=0.04)
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(31.5, abs=1.5)
    assert (columns[0] + columns[-1]) / 2 == pytest.approx(31.5, abs=1.5)


def test_frames_without_an_object_are_empty_in_all_views(pipeline, tmp_path):
    frames = white(4)
    frames[[0, 3], 20:60, 36:44] = (90, 20, 20)
    clip, grid = grid_of(pipeline, frames_folder(tmp_path / "x", frames))
    assert any("2 of 4 frames" in warning for warning in clip.warnings)
    is_shown = (grid.images[..., 3] > 128).any(axis=(1, 2))
    assert (is_shown == np.isin(grid.frame, [0, 3])).all()


def test_an_object_that_is_cut_off_is_closed_at_the_border_and_warned_of(pipeline, tmp_path):
    frames = white(1)
    frames[:, 20:60, 60:] = (90, 20, 20)
    clip, grid = grid_of(pipeline, frames_folder(tmp_path / "x", frames))
    assert any("right" in warning for warning in clip.warnings)
    assert (grid.images[..., 3] > 128).any(axis=(1, 2)).all()


def test_two_objects_are_lifted_as_one(pipeline, tmp_path):
    frames = white(1)
    frames[:, 20:60, 16:28] = frames[:, 20:60, 50:62] = (90, 20, 20)
    _, grid = grid_of(pipeline, frames_folder(tmp_path / "x", frames))
    middle = grid.image(0, 0)[32, :, 3] > 128
    assert np.diff(middle.astype(int)).tolist().count(1) == 2  # both are there, and a gap
    back = grid.image(2, 0)[32, :, 3] > 128
    assert np.diff(back.astype(int)).tolist().count(1) == 2


@pytest.mark.parametrize("T", [1, pytest.param(300, marks=pytest.mark.slow)])
def test_clips_of_any_length_become_grids(pipeline, tmp_path, T):
    frames = white(T, 32, 32)
    frames[:, 8:24, 12:20] = (90, 20, 20)
    clip = load_clip(frames_folder(tmp_path / "x", frames), frames=T)
    grid = pipeline(clip, views=1, size=64)
    assert (grid.V, grid.T) == (2, T)
    assert (grid.images[..., 3] > 128).any(axis=(1, 2)).all()


@pytest.mark.parametrize(("side", "extent"), [(16, 8), (256, 16)])
def test_small_objects_are_enlarged(pipeline, tmp_path, side, extent):
    frames = white(1, side, side)
    low, high = (side - extent) // 2, (side + extent) // 2
    frames[:, low:high, low:high] = (90, 20, 20)
    _, grid = grid_of(pipeline, frames_folder(tmp_path / "x", frames))
    rows = np.flatnonzero((grid.image(0, 0)[..., 3] > 128).any(1))
    assert len(rows) / 64 == pytest.approx(RATIO, abs=0.1)
    assert (grid.images[..., 3] > 128).any(axis=(1, 2)).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_frames_make_grey_views(pipeline, tmp_path, mode):
    frames = white(2)
    frames[:, 20:60, 30:50] = 60 if mode != "1" else 0
    (tmp_path / "x").mkdir()
    for t, frame in enumerate(frames):
        image = Image.fromarray(frame)
        if mode == "LA":
            image.putalpha(Image.fromarray((frame[..., 0] < 255).astype(np.uint8) * 255))
        image.convert(mode).save(tmp_path / "x" / f"{t}.png")
    _, grid = grid_of(pipeline, tmp_path / "x")
    own = grid.images[grid.is_input]
    shown = own[own[..., 3] > 200][:, :3]
    assert len(shown)
    assert np.ptp(shown, axis=1).max() == 0


def test_a_video_in_grey_is_read(pipeline, tmp_path):
    frames = white(5)
    frames[:, 20:60, 30:50] = 60
    with imageio.imopen(tmp_path / "x.mp4", "w", plugin="pyav") as file:
        file.init_video_stream("libx264", fps=10, pixel_format="gray")
        for frame in frames:
            file.write_frame(frame[..., 0], pixel_format="gray")
    _, grid = grid_of(pipeline, tmp_path / "x.mp4")
    assert (grid.images[..., 3] > 128).any(axis=(1, 2)).all()


def test_an_image_without_an_object_is_refused(pipeline, tmp_path):
    with pytest.raises(InputError, match="nothing but background in all 2 frames"):
        grid_of(pipeline, frames_folder(tmp_path / "x", white(2)))
