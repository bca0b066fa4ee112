"""The Python API of generation: load_clip, load_pipeline and the pipeline."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import generation
from generation import Pipeline, load_clip, load_pipeline
from generation.weights.model_weights import TrainedWeights
from recon.errors import InputError, Interrupted, WeightsError
from recon.grid import read_grid
from recon.progress import Progress

ROBOT = Path(__file__).parents[2] / "examples" / "robot.mp4"


@pytest.fixture(scope="module")
def clip() -> generation.Clip:
    return load_clip(ROBOT, frames=5)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline("mini", device="cpu", coarse_only=True)


def test_a_pipeline_generates_many_grids_and_loads_its_networks_once(clip, monkeypatch):
    loaded, load = [], TrainedWeights.load

    def recording(self, *arguments):
        loaded.append(self.name)
        return load(self, *arguments)

    monkeypatch.setattr(TrainedWeights, "load", recording)
    steps: list[Progress] = []
    pipeline = load_pipeline("mini", device="cpu")
    first = pipeline(clip, seed=0, views=1, on_step=steps.append)
    assert (first.V, first.T, first.height, first.input_view) == (2, 5, 128, 0)
    assert [step.step for step in steps] == [1, 2, 3]
    assert loaded == ["mini_sv3d", "mini", "mini"]  # for the orbit, coarse and fine
    monkeypatch.setattr(TrainedWeights, "load", None)
    assert np.array_equal(pipeline(clip, seed=0, views=1).images, first.images)
    assert not np.array_equal(pipeline(clip, seed=1, views=1).images, first.images)


def test_a_grid_in_memory_is_the_one_in_the_folder(pipeline, clip, tmp_path):
    in_memory = pipeline(clip, seed=0)
    made = pipeline.generate(clip, tmp_path / "grid")
    assert np.array_equal(in_memory.images, made.grid.images)
    written = read_grid(tmp_path / "grid")  # in another order, without hidden colors
    for view, frame in zip(written.view, written.frame, strict=True):
        ours, theirs = in_memory.image(view, frame), written.image(view, frame)
        assert np.array_equal(ours[..., 3], theirs[..., 3])
        assert np.array_equal(ours[ours[..., 3] > 0], theirs[ours[..., 3] > 0])


def test_options_of_a_grid_reach_its_cameras(pipeline, clip):
    grid = pipeline(clip, azimuths_deg=(90.0, 180.0), elevation_deg=20.0, size=64)
    assert (grid.V, grid.height) == (3, 64)
    with pytest.raises(InputError, match="100"):
        pipeline(clip, size=100)


def test_a_generation_in_memory_can_be_stopped(pipeline, clip):
    with pytest.raises(Interrupted):
        pipeline(clip, should_stop=lambda: True)


def test_missing_weights_are_reported_when_the_pipeline_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("generation.weights.store.find_in_cache", lambda model: None)
    monkeypatch.delenv("FOURDVD_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match="sv4d2"):
        load_pipeline("sv4d2-8views", weights=tmp_path, device="cpu")


def test_public_names_exist_and_others_do_not():
    assert all(getattr(generation, name) for name in generation.__all__)
    assert set(generation.__all__) <= set(dir(generation))
    with pytest.raises(AttributeError, match="nothing"):
        _ = generation.nothing


def test_importing_the_package_imports_no_torch():
    code = "import sys, generation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
