"""The cascade of trained networks from a clip to a grid."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from generation import grid_sampler as sampler
from generation.checkpoint import UNFINISHED
from generation.diffusion import euler
from generation.pipeline import Generated
from generation.pipelines import open_pipeline
from generation.presets import presets
from generation.settings import GenerateSettings
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE, VAE_FILE
from recon.errors import InputError, Interrupted, OutputExistsError, WeightsError
from recon.grid import read_grid
from recon.grid.cameras import viewing_angles_deg
from tests.generation.tiny_networks import tiny_clip
from tests.generation.tiny_trained import write_autoencoder, write_trained_cascade
from tests.generation.training.tiny_stages import on_one_thread

SIZE, COARSE = 64, 32


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_trained_cascade(tmp_path_factory.mktemp("cascade"))


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """Options for a coarse grid that is smaller than the clip."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets, "mini", replace(presets["mini"], coarse_size=COARSE))
        yield


@pytest.fixture(scope="module")
def uninterrupted(weights, small, tmp_path_factory) -> np.ndarray:
    """Images of an uninterrupted run with the tests' number of threads."""
    with on_one_thread():
        return make(
            weights, tmp_path_factory.mktemp("uninterrupted") / "grid", T=9, views=1
        ).grid.images


def make(
    weights: Path, folder: Path, T: int = 5, size: int = SIZE, views: int | None = 2, **others
) -> Generated:
    given = ("overwrite", "on_step", "should_stop")
    passed = {key: others.pop(key) for key in given if key in others}
    chosen = GenerateSettings("mini", steps=2, views=views, size=size, **others)
    return open_pipeline(chosen, weights).generate(tiny_clip(T, size), folder, **passed)


@pytest.mark.parametrize("size", [64, 128])
def test_a_clip_becomes_a_grid_of_16_views_of_its_size(weights, tmp_path, size):
    made = make(weights, tmp_path / "grid", size=size, views=None)
    grid = read_grid(tmp_path / "grid")
    assert (grid.V, grid.T, grid.height, grid.width) == (16, 5, size, size)
    assert grid.is_full
    assert grid.input_view == 0
    azimuths = [22.5 * k for k in range(16)]
    assert made.report["azimuths_deg"] == azimuths
    angles = [viewing_angles_deg(camera) for camera in grid.cameras]
    assert [azimuth for azimuth, _ in angles] == pytest.approx(azimuths)
    assert [elevation for _, elevation in angles] == pytest.approx([0] * 16)
    report = json.loads((tmp_path / "grid" / "generate.json").read_text())
    assert report == json.loads(json.dumps(made.report))
    assert report["model"] == "mini"
    assert set(report["weights"]) == {"mini_sv3d", "mini", LORA_FILE, BRANCH_FILE}
    assert {"orbit", "coarse sample", "fine sample"} <= report["seconds"].keys()


def test_view_0_of_the_grid_is_the_input(weights, tmp_path):
    grid = make(weights, tmp_path / "grid").grid
    seen = tiny_clip(5, SIZE).images
    opaque = seen[..., 3:] > 0
    assert (np.where(opaque, grid.images[grid.of_view(0)], 0) == np.where(opaque, seen, 0)).all()


def test_the_coarse_grid_alone_is_written_at_the_size_of_the_input(weights, small, tmp_path):
    steps: list[tuple[int, str]] = []
    made = make(
        weights,
        tmp_path / "grid",
        coarse_only=True,
        on_step=lambda each: steps.append((each.step, each.phase)),
    )
    titles = ["reference views"] * 2 + ["coarse frames 0–4"] * 2
    assert steps == list(zip(range(1, 5), titles, strict=True))
    assert (made.grid.V, made.grid.height) == (3, SIZE)
    assert BRANCH_FILE not in made.report["weights"]


def test_views_of_frame_0_are_made_at_the_size_that_their_network_knows(
    weights, small, tmp_path, monkeypatch
):
    seen = []

    def recording(denoisers, x, sigmas, on_step=None):
        seen.append(tuple(x.shape))
        return euler(denoisers, x, sigmas, on_step)

    monkeypatch.setattr(sampler, "euler", recording)
    monkeypatch.setitem(presets, "mini", replace(presets["mini"], orbit_size=16))
    make(weights, tmp_path / "grid")
    sides = [shape[-1] for shape in seen]
    assert sides == [2, 4, 8]  # latents of the orbit, of the coarse grid and of the fine one


def test_the_same_seed_makes_the_same_grid_and_another_seed_another(weights, tmp_path):
    first, again, other = (
        make(weights, tmp_path / name, seed=seed).grid.images
        for name, seed in (("a", 4), ("b", 4), ("c", 5))
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.slow
def test_little_memory_makes_the_same_grid(weights, small, tmp_path, monkeypatch):
    monkeypatch.setattr("generation.networks.LOW_MEMORY_TOKENS", 50)
    # At the edges of silhouettes, alpha may depend on rounding.
    monkeypatch.setitem(presets, "mini", replace(presets["mini"], soft_silhouettes=False))
    usual = make(weights, tmp_path / "a").grid.images
    little = make(weights, tmp_path / "b", low_memory=True).grid.images
    assert np.abs(usual[..., :3].astype(int) - little[..., :3]).max() <= 1


def test_half_precision_makes_a_grid_too(weights, small, tmp_path):
    made = make(weights, tmp_path / "grid", precision="bfloat16")
    assert made.report["dtype"] == "bfloat16"
    assert (made.grid.V, made.grid.height) == (3, SIZE)


def test_lora_and_branch_decide_about_the_grid(weights, tmp_path):
    other = write_trained_cascade(tmp_path / "other", effect=0.6)
    grids = [
        make(folder, tmp_path / name).grid.images for folder, name in ((weights, "a"), (other, "b"))
    ]
    assert (grids[0] != grids[1]).any()


@pytest.mark.parametrize(
    ("stop_after", "resumes_at", "saved"),
    [(1, 1, set()), (6, 5, {"reference_views", "coarse"}), (11, 11, {"reference_views", "coarse"}),
     (14, 13, {"reference_views", "coarse", "fine"})],
)  # fmt: skip
def test_a_run_resumed_in_any_stage_equals_an_uninterrupted_one(
    weights, uninterrupted, tmp_path, stop_after, resumes_at, saved
):
    count = itertools.count(1)
    folder = tmp_path / "grid"
    with pytest.raises(Interrupted):
        make(weights, folder, T=9, views=1, should_stop=lambda: next(count) == stop_after)
    assert {path.name for path in (folder / UNFINISHED).iterdir()} == {
        f"{name}.safetensors" for name in saved
    } | {"input"}
    steps: list[int] = []
    made = make(weights, folder, T=9, views=1, on_step=lambda each: steps.append(each.step))
    assert steps == list(range(resumes_at, 19))
    assert (made.grid.images == uninterrupted).all()
    assert not (folder / UNFINISHED).exists()


def test_an_unfinished_run_of_another_cascade_is_kept(weights, tmp_path):
    count = itertools.count(1)
    with pytest.raises(Interrupted):
        make(weights, tmp_path / "grid", should_stop=lambda: next(count) == 3)
    other = write_trained_cascade(tmp_path / "other", effect=0.6)
    with pytest.raises(OutputExistsError):
        make(other, tmp_path / "grid")
    make(other, tmp_path / "grid", overwrite=True)


def test_files_for_another_base_are_refused_before_any_step(tmp_path):
    other = write_trained_cascade(tmp_path / "cascade", base_sha256=64 * "0")
    steps: list[int] = []
    with pytest.raises(WeightsError, match="base of sha256"):
        make(other, tmp_path / "grid", on_step=lambda each: steps.append(each.step))
    assert not steps


def test_networks_of_another_autoencoder_are_refused_before_any_step(tmp_path):
    other = write_trained_cascade(tmp_path / "cascade")
    write_autoencoder(other / VAE_FILE, seed=9)
    steps: list[int] = []
    with pytest.raises(WeightsError, match="vae of sha256"):
        make(other, tmp_path / "grid", on_step=lambda each: steps.append(each.step))
    assert not steps


def test_a_size_that_the_networks_cannot_halve_is_refused(weights, tmp_path):
    with pytest.raises(InputError, match="96"):
        make(weights, tmp_path / "grid", size=96)
