"""The pipeline of lift: from a clip to a grid, in memory and in a folder."""

import itertools
import json

import numpy as np
import pytest
import torch

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
    }  # fmt: skip
    report = json.loads((tmp_path / "grid" / "generate.json").read_text())
    assert report == json.loads(json.dumps(made.report))
    assert report["model"] == "lift"
    assert report["weights"]["lift"]["file"] == "lift.safetensors"
    assert len(report["weights"]["lift"]["sha256"]) == 64
    assert report["dtype"] == "float32"
    assert len(report["yaw_deg"]) == 3
    assert report["seconds"].keys() == {"load", "predict", "draw"}


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


def test_a_clip_is_cropped_so_that_longer_objects_fit(weights, tmp_path):
    image = np.full((80, 80, 3), 255, np.uint8)
    image[20:60, 36:44] = (90, 20, 20)
    write_png(tmp_path / "x.png", image)
    grid = load_pipeline("lift", weights=weights, device="cpu")(load_clip(tmp_path / "x.png"))
    rows = np.flatnonzero((grid.image(0, 0)[..., 3] > 128).any(1))
    assert len(rows) / 256 == pytest.approx(RATIO, abs=0.03)
