"""Resumed fits equal uninterrupted ones bit by bit, and invalid files are refused."""

import errno
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from recon import resume
from recon.errors import InputError
from recon.fitting import fit as fitting
from recon.fitting.checkpoint import (
    fit_identity,
    fit_state,
    is_unfinished,
    load_checkpoint,
    restore_fit,
    save_checkpoint,
    scene_of_state,
)
from recon.fitting.config import FitConfig
from recon.fitting.densification import GrowAndPrune, Relocation
from recon.fitting.fit import Fit
from recon.fitting.visual_hull import visual_hull
from recon.grid import Grid
from recon.grid.initial_gaussians import InitialGaussians
from recon.native.library import built, kernels
from recon.resume import SavedState, differences

CONFIG = FitConfig(
    iterations=40,
    initial_gaussians=80,
    max_gaussians=100,
    views_per_step=2,
    static_fraction=0.2,
    motion_fraction=0.4,
    motion_image_size=12,
    densification=Relocation(every=7),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use a coarse hull and one thread."""
    monkeypatch.setattr(fitting, "visual_hull", functools.partial(visual_hull, resolution=24))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    if built():
        kernels().set_threads(1)
    yield
    torch.set_num_threads(before)
    if built():
        kernels().set_threads(0)


def steps(fit: Fit, until: int) -> Fit:
    while fit.iteration < until:
        fit.step()
    return fit


def state(fit: Fit) -> dict[str, torch.Tensor]:
    tensors = {name: value.detach() for name, value in fit.parameters.items()}
    tensors |= {f"motion.{k}": v.clone() for k, v in fit.deformation.state_dict().items()}
    tensors["errors"], tensors["generator"] = (
        torch.from_numpy(fit.frame_errors.copy()),
        fit.generator.get_state(),
    )
    return tensors


def assert_same_bits(a: Fit, b: Fit) -> None:
    found, expected = state(a), state(b)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def resumed(grid: Grid, config: FitConfig, path: Path) -> Fit:
    fit = Fit(grid, config)
    load_checkpoint(fit, path)
    return fit


STOPS = (0, 3, 8, 14, 24, 33, 40)
POLICIES = [Relocation(every=7), GrowAndPrune(every=7, gradient=1e-6)]


@pytest.mark.parametrize("policy", POLICIES, ids=["relocation", "growth"])
def test_a_resumed_fit_ends_at_the_bits_of_an_uninterrupted_one(
    policy, tiny_grid: Grid, tmp_path: Path
):
    """The stops are in all phases and at their boundaries."""
    config = replace(CONFIG, densification=policy)
    whole = Fit(tiny_grid, config)
    identity = fit_identity(tiny_grid, config)
    for stop in STOPS:
        save_checkpoint(steps(whole, stop), identity, tmp_path / f"{stop}.safetensors")
    steps(whole, config.iterations)
    assert_same_bits(steps(Fit(tiny_grid, config), config.iterations), whole)
    for stop in STOPS:
        fit = resumed(tiny_grid, config, tmp_path / f"{stop}.safetensors")
        assert fit.iteration == stop
        assert_same_bits(steps(fit, config.iterations), whole)


@pytest.mark.parametrize(
    "motion",
    ["static", "hexplane", "keyframes"],
)
def test_every_motion_model_is_resumed_bit_by_bit(motion: str, tiny_grid: Grid, tmp_path: Path):
    config = replace(CONFIG, motion=motion, iterations=24, sh_degree=1)
    fit = steps(Fit(tiny_grid, config), 12)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(fit, fit_identity(tiny_grid, config), path)
    other = resumed(tiny_grid, config, path)
    assert_same_bits(steps(other, config.iterations), steps(fit, config.iterations))


@pytest.mark.parametrize("policy", POLICIES, ids=["relocation", "growth"])
def test_a_training_loop_around_the_parts_of_a_step_gives_the_same_bits(policy, tiny_grid: Grid):
    config = replace(CONFIG, densification=policy)
    whole, parts = Fit(tiny_grid, config), Fit(tiny_grid, config)
    while not parts.done:
        forward = parts.forward(parts.begin_step())
        (forward.image_loss.total + forward.motion_loss).backward()
        assert parts.end_step(forward) == whole.step()
        del forward
    assert_same_bits(parts, whole)


def test_a_state_in_memory_resumes_a_fit_and_shows_its_scene(tiny_grid: Grid):
    fit = steps(Fit(tiny_grid, CONFIG), 20)
    saved = fit_state(fit, {})
    other = Fit(tiny_grid, CONFIG)
    restore_fit(other, saved, "memory")
    assert_same_bits(steps(other, CONFIG.iterations), steps(fit, CONFIG.iterations))
    scene = scene_of_state(saved, "memory")
    assert len(scene.gaussians.means) == len(saved.tensors["gaussians.means"])
    with pytest.raises(InputError, match="memory"):
        restore_fit(other, SavedState({}, saved.description), "memory")


def test_frames_with_lost_parts_are_saved(tiny_grid: Grid, tmp_path: Path):
    fit = steps(Fit(tiny_grid, CONFIG), 3)
    fit.lost_steps = {0: 5, 2: 80}
    save_checkpoint(fit, fit_identity(tiny_grid, CONFIG), tmp_path / "checkpoint.safetensors")
    restored = Fit(tiny_grid, CONFIG)
    load_checkpoint(restored, tmp_path / "checkpoint.safetensors")
    assert restored.lost_steps == {0: 5, 2: 80}


def test_a_saved_checkpoint_leaves_nothing_beside_it(tiny_grid: Grid, tmp_path: Path):
    path = tmp_path / "checkpoint.safetensors"
    fit = steps(Fit(tiny_grid, CONFIG), 2)
    save_checkpoint(fit, {}, path)
    save_checkpoint(steps(fit, 4), {}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert resumed(tiny_grid, CONFIG, path).iteration == 4


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"iterations": 41}, {"motion": "keyframes"}, {"sh_degree": 1}]
)
def test_other_settings_change_the_identity(change: dict, tiny_grid: Grid):
    assert fit_identity(tiny_grid, replace(CONFIG, **change)) != fit_identity(tiny_grid, CONFIG)


def test_settings_without_effect_on_the_result_keep_the_identity(tiny_grid: Grid):
    other = replace(CONFIG, threads=3, checkpoint_every=7)
    assert fit_identity(tiny_grid, other) == fit_identity(tiny_grid, CONFIG)


def test_other_images_times_cameras_or_another_input_view_change_the_identity(tiny_grid: Grid):
    images = tiny_grid.images.copy()
    images[3, 5, 5, 1] ^= 1
    first = replace(tiny_grid.cameras[0], fl_x=tiny_grid.cameras[0].fl_x * 1.01)
    others = [
        replace(tiny_grid, images=images),
        replace(tiny_grid, times=np.array([0.0, 0.4, 1.0])),
        replace(tiny_grid, cameras=(first, *tiny_grid.cameras[1:])),
        replace(tiny_grid, input_view=1),
    ]
    identity = fit_identity(tiny_grid, CONFIG)
    assert all(fit_identity(grid, CONFIG) != identity for grid in others)
    assert fit_identity(replace(tiny_grid, images=tiny_grid.images.copy()), CONFIG) == identity


def test_initial_gaussians_of_another_frame_change_the_identity(tiny_grid: Grid):
    arrays = [np.zeros(shape, np.float32) for shape in ((2, 3), (2, 4), (2, 3), (2,), (2, 1, 3))]
    first, last = (
        replace(tiny_grid, initial_gaussians=InitialGaussians(frame, *arrays)) for frame in (0, 2)
    )
    found = differences(fit_identity(first, CONFIG), fit_identity(last, CONFIG))
    assert found == "initial_frame was 0, is now 2"


@pytest.fixture
def saved(tiny_grid: Grid, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(steps(Fit(tiny_grid, CONFIG), 10), fit_identity(tiny_grid, CONFIG), path)
    return path


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_refused(share: float, saved: Path, tiny_grid: Grid):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=saved.name):
        load_checkpoint(Fit(tiny_grid, CONFIG), saved)


def test_a_file_of_another_format_is_refused(saved: Path, tiny_grid: Grid):
    saved.write_bytes(os.urandom(1000))
    with pytest.raises(InputError, match=saved.name):
        load_checkpoint(Fit(tiny_grid, CONFIG), saved)
    save_file({"x": torch.zeros(2)}, saved)
    with pytest.raises(InputError, match="version"):
        load_checkpoint(Fit(tiny_grid, CONFIG), saved)


def test_another_version_is_refused(saved: Path, tiny_grid: Grid, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("recon.fitting.checkpoint.VERSION", "another")
    with pytest.raises(InputError, match="version another"):
        load_checkpoint(Fit(tiny_grid, CONFIG), saved)


def test_a_partial_file_of_a_killed_process_is_part_of_an_unfinished_scene(tmp_path: Path):
    train = tmp_path / "train"
    assert not is_unfinished(tmp_path)
    train.mkdir()
    for name in ("log.jsonl", "checkpoint.safetensors", ".checkpoint.partial-0a1b.safetensors"):
        (train / name).touch()
        assert is_unfinished(tmp_path)
    (train / "thesis.tex").touch()
    assert not is_unfinished(tmp_path)


def header_of(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


@pytest.mark.parametrize("missing", ["gaussians.means", "deformation.logits", "generator"])
def test_a_file_without_one_of_its_tensors_is_refused(missing: str, saved: Path, tiny_grid: Grid):
    tensors = load_file(saved)
    del tensors[missing]
    save_file(tensors, saved, metadata=header_of(saved))
    with pytest.raises(InputError, match=r"damaged|missing"):
        load_checkpoint(Fit(tiny_grid, CONFIG), saved)


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(
    saved: Path, tiny_grid: Grid, monkeypatch: pytest.MonkeyPatch
):
    before, save = saved.read_bytes(), resume.save_file

    def half(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        save(tensors, path, metadata)
        os.truncate(path, path.stat().st_size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(resume, "save_file", half)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        save_checkpoint(steps(Fit(tiny_grid, CONFIG), 12), {}, saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    load_checkpoint(Fit(tiny_grid, CONFIG), saved)
