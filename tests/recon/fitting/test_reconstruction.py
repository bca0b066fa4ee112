"""The folder of a scene while it is fitted, when it is finished, and after every interruption."""

import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recon.errors import GridError, InputError, Interrupted, OutputExistsError
from recon.film.rendering import render_video
from recon.fitting import fit as fitting
from recon.fitting import reconstruction
from recon.fitting.config import FitConfig
from recon.fitting.densification import Relocation
from recon.fitting.reconstruction import reconstruct
from recon.fitting.visual_hull import visual_hull
from recon.grid import Grid
from recon.grid.writing import write_posed_images
from recon.media import read_video
from recon.native.library import built, kernels
from recon.progress import Progress
from recon.rasterizers.cpu import _Workspace
from recon.scene import load_scene

CONFIG = FitConfig(
    iterations=196,
    initial_gaussians=800,
    max_gaussians=1000,
    views_per_step=2,
    motion_image_size=12,
    densification=Relocation(every=10),
    threads=1,
    checkpoint_every=10,
)
ITERATIONS = CONFIG.for_grid(24, 1).iterations  # of the tiny grid: 60
HULL_RESOLUTION = 24
FILES = {"scene.safetensors", "scene.json", "preview.mp4", "metrics.json", "train"}
KEYS = {"psnr", "ssim", "iou", "psnr_foreground", "worst_psnr", "images"}

CHILD = f"""
import functools, sys, time
from pathlib import Path
from recon.fitting import fit as fitting
from recon.fitting.densification import Relocation
from recon.fitting.config import FitConfig
from recon.losses import LossWeights
from recon.fitting.config import LearningRates
from recon.fitting.reconstruction import reconstruct
from recon.fitting.visual_hull import visual_hull

fitting.visual_hull = functools.partial(visual_hull, resolution={HULL_RESOLUTION})
config = {CONFIG!r}
reconstruct(sys.argv[1], sys.argv[2], config=config, on_step=lambda _: time.sleep(0.05))
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A coarse hull and a short video."""
    coarse = functools.partial(visual_hull, resolution=HULL_RESOLUTION)
    monkeypatch.setattr(fitting, "visual_hull", coarse)
    short = functools.partial(render_video, frames=6)
    monkeypatch.setattr(reconstruction, "render_video", short)
    yield
    if built():
        kernels().set_threads(0)


@pytest.fixture
def scene_folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "scene"


def stop_after(iterations: int) -> Callable[[], bool]:
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= iterations


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train" / "log.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def interrupt(grid: Path, folder: Path, iterations: int, config: FitConfig = CONFIG) -> None:
    with pytest.raises(Interrupted):
        reconstruct(grid, folder, config=config, should_stop=stop_after(iterations))


def test_a_finished_folder_has_all_documented_files(
    tiny_grid_folder: Path, tiny_grid: Grid, scene_folder: Path
):
    progress: list[Progress] = []
    scene = reconstruct(tiny_grid_folder, scene_folder, config=CONFIG, on_step=progress.append)
    assert {path.name for path in scene_folder.iterdir()} == FILES
    assert [path.name for path in (scene_folder / "train").iterdir()] == ["log.jsonl"]
    assert [path.name for path in scene_folder.parent.iterdir()] == ["scene"]
    assert [step.step for step in progress] == list(range(1, ITERATIONS + 1))
    assert all(step.steps == ITERATIONS and (step.seconds_left or 0) >= 0 for step in progress)
    assert [step.phase for step in progress] == sorted(
        (step.phase for step in progress), key=["static", "motion", "refinement"].index
    )
    loaded = load_scene(scene_folder)
    assert loaded.deformation.name == "bones"
    np.testing.assert_allclose(loaded.times, tiny_grid.times)
    assert len(loaded.cameras) == tiny_grid.V
    assert loaded.provenance["settings"]["iterations"] == ITERATIONS
    for moment in (0.0, 0.3, 1.0):
        assert torch.equal(loaded.at(moment).means, scene.at(moment).means)


def test_the_preview_can_be_read(tiny_grid_folder: Path, scene_folder: Path):
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    video = read_video(scene_folder / "preview.mp4")
    assert len(video.frames) == 6
    assert video.frames.min() < 128 < video.frames.max()


def test_metrics_have_the_documented_keys(tiny_grid_folder: Path, scene_folder: Path):
    scene = reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    metrics = json.loads((scene_folder / "metrics.json").read_text())
    assert set(metrics) == {"train", "seconds", "iterations", "gaussians", "warnings"}
    assert set(metrics["train"]) >= KEYS
    assert len(metrics["train"]["images"]) == 12
    assert set(metrics["train"]["images"][0]) >= {"view", "frame", "psnr", "ssim", "iou"}
    assert metrics["iterations"] == ITERATIONS
    assert metrics["gaussians"] == len(scene.gaussians.means)
    assert metrics["seconds"] > 0
    assert load_scene(scene_folder).metrics["train"]["psnr"] == metrics["train"]["psnr"]


def test_held_out_views_are_evaluated_if_there_are_any(
    tiny_grid_folder: Path, tiny_grid: Grid, scene_folder: Path
):
    held_out = tiny_grid.subset(np.array([0, 5]))
    write_posed_images(held_out, tiny_grid_folder, "transforms_test.json", "test_images")
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    metrics = json.loads((scene_folder / "metrics.json").read_text())
    assert set(metrics["test"]) >= KEYS
    assert len(metrics["test"]["images"]) == 2
    assert len(metrics["train"]["images"]) == 12


def test_log_lines_are_json_and_count_up(tiny_grid_folder: Path, scene_folder: Path):
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    iterations = [line["iteration"] for line in lines(scene_folder)]
    assert iterations == sorted(set(iterations))
    assert iterations[-1] == ITERATIONS
    assert all(
        {"iteration", "phase", "psnr", "gaussians", "seconds"} <= set(line)
        for line in lines(scene_folder)
    )


@pytest.mark.parametrize("iterations", [1, 25, ITERATIONS])
def test_a_resumed_fit_ends_at_the_result_of_an_uninterrupted_one(
    iterations: int, tiny_grid_folder: Path, scene_folder: Path, tmp_path: Path
):
    interrupt(tiny_grid_folder, scene_folder, iterations)
    assert {path.name for path in scene_folder.iterdir()} == {"train"}
    progress: list[Progress] = []
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG, on_step=progress.append)
    assert [step.step for step in progress] == list(range(iterations + 1, ITERATIONS + 1))
    whole = tmp_path / "whole"
    reconstruct(tiny_grid_folder, whole, config=CONFIG)
    name = "scene.safetensors"
    assert (scene_folder / name).read_bytes() == (whole / name).read_bytes()
    numbers = [line["iteration"] for line in lines(scene_folder)]
    assert numbers == [line["iteration"] for line in lines(whole)]


def test_seconds_of_all_runs_are_added_up(tiny_grid_folder: Path, scene_folder: Path):
    with pytest.raises(Interrupted):
        reconstruct(
            tiny_grid_folder, scene_folder, config=CONFIG, should_stop=stop_after(40),
            on_step=lambda step: time.sleep(0.02),
        )  # fmt: skip
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    metrics = json.loads((scene_folder / "metrics.json").read_text())
    assert metrics["seconds"] > 40 * 0.02
    seconds = [line["seconds"] for line in lines(scene_folder)]
    assert seconds == sorted(seconds)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_process_loses_at_most_the_last_interval(
    tiny_grid_folder: Path, scene_folder: Path, tmp_path: Path
):
    command = [sys.executable, "-c", CHILD, str(tiny_grid_folder), str(scene_folder)]
    checkpoint = scene_folder / "train" / "checkpoint.safetensors"
    with subprocess.Popen(command) as child:
        while not checkpoint.exists() and child.poll() is None:
            time.sleep(0.02)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    progress: list[Progress] = []
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG, on_step=progress.append)
    assert progress[0].step > CONFIG.checkpoint_every
    reconstruct(tiny_grid_folder, tmp_path / "whole", config=CONFIG)
    assert load_bytes(scene_folder) == load_bytes(tmp_path / "whole")


def load_bytes(folder: Path) -> bytes:
    return (folder / "scene.safetensors").read_bytes()


def test_an_unfinished_fit_with_other_settings_is_kept(tiny_grid_folder: Path, scene_folder: Path):
    interrupt(tiny_grid_folder, scene_folder, 12)
    before = contents(scene_folder)
    with pytest.raises(OutputExistsError, match="seed"):
        reconstruct(tiny_grid_folder, scene_folder, config=replace(CONFIG, seed=1))
    assert contents(scene_folder) == before
    reconstruct(tiny_grid_folder, scene_folder, config=replace(CONFIG, seed=1), overwrite=True)
    assert load_scene(scene_folder).provenance["settings"]["seed"] == 1
    assert lines(scene_folder)[0]["iteration"] <= 20


def test_an_unfinished_fit_can_be_started_again(tiny_grid_folder: Path, scene_folder: Path):
    for config in (CONFIG, replace(CONFIG, seed=1)):
        interrupt(tiny_grid_folder, scene_folder, 12, config)
        progress: list[Progress] = []
        with pytest.raises(Interrupted):
            reconstruct(
                tiny_grid_folder, scene_folder, config=replace(CONFIG, seed=1), restart=True,
                on_step=progress.append, should_stop=stop_after(2),
            )  # fmt: skip
        assert [step.step for step in progress] == [1, 2]
        shutil.rmtree(scene_folder)
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG, restart=True)
    with pytest.raises(OutputExistsError):
        reconstruct(tiny_grid_folder, scene_folder, config=CONFIG, restart=True)


def test_a_finished_folder_is_refused_and_kept(tiny_grid_folder: Path, scene_folder: Path):
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    before = contents(scene_folder)
    with pytest.raises(OutputExistsError):
        reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    assert contents(scene_folder) == before


def test_overwriting_replaces_a_finished_folder_only_at_the_end(
    tiny_grid_folder: Path, scene_folder: Path
):
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    old = contents(scene_folder)
    other = replace(CONFIG, seed=1)
    with pytest.raises(Interrupted):
        reconstruct(
            tiny_grid_folder, scene_folder, config=other, overwrite=True, should_stop=stop_after(30)
        )
    found = contents(scene_folder)
    state = {f"replacement/{name}" for name in ("checkpoint.safetensors", "log.jsonl")}
    assert {name: data for name, data in found.items() if name not in state} == old
    assert state <= set(found)
    progress: list[Progress] = []
    reconstruct(
        tiny_grid_folder, scene_folder, config=other, overwrite=True, on_step=progress.append
    )
    assert progress[0].step == 31
    assert load_bytes(scene_folder) != old["scene.safetensors"]
    assert lines(scene_folder)[-1]["iteration"] == ITERATIONS
    assert {path.name for path in scene_folder.iterdir()} == FILES


def test_a_folder_with_other_files_is_refused_and_kept(tiny_grid_folder: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError):
        reconstruct(tiny_grid_folder, tmp_path / "mine", config=CONFIG)
    assert contents(tmp_path / "mine") == {"thesis.tex": b"years of work"}


def test_a_train_folder_with_other_files_is_refused_and_kept(
    tiny_grid_folder: Path, tmp_path: Path
):
    (tmp_path / "dataset" / "train").mkdir(parents=True)
    (tmp_path / "dataset" / "train" / "photo.png").write_bytes(b"the only one")
    with pytest.raises(OutputExistsError):
        reconstruct(tiny_grid_folder, tmp_path / "dataset", config=CONFIG)
    assert contents(tmp_path / "dataset") == {"train/photo.png": b"the only one"}


def test_an_empty_folder_is_used(tiny_grid_folder: Path, scene_folder: Path):
    scene_folder.mkdir(parents=True)
    reconstruct(tiny_grid_folder, scene_folder, config=replace(CONFIG, iterations=5))
    assert {path.name for path in scene_folder.iterdir()} == FILES


def test_a_grid_that_is_not_valid_leaves_nothing_behind(tmp_path: Path, scene_folder: Path):
    with pytest.raises(GridError):
        reconstruct(tmp_path / "nothing", scene_folder, config=CONFIG)
    assert not scene_folder.exists()


def test_a_damaged_checkpoint_is_an_error_that_names_the_file(
    tiny_grid_folder: Path, scene_folder: Path
):
    interrupt(tiny_grid_folder, scene_folder, 5)
    checkpoint = scene_folder / "train" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match=rf"{checkpoint.name}.*delete it"):
        reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)


def test_a_disk_that_is_full_at_the_end_keeps_the_state(
    tiny_grid_folder: Path, scene_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(reconstruction, "render_video", full)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            reconstruct(tiny_grid_folder, scene_folder, config=CONFIG)
    assert {path.name for path in scene_folder.iterdir()} == {"train"}
    assert [path.name for path in scene_folder.parent.iterdir()] == ["scene"]
    progress: list[Progress] = []
    reconstruct(tiny_grid_folder, scene_folder, config=CONFIG, on_step=progress.append)
    assert len(progress) <= CONFIG.checkpoint_every
    assert {path.name for path in scene_folder.iterdir()} == FILES


def test_threads_of_torch_are_restored_and_memory_of_kernels_is_freed(
    tiny_grid_folder: Path, scene_folder: Path
):
    before = torch.get_num_threads()
    reconstruct(tiny_grid_folder, scene_folder, config=replace(CONFIG, iterations=3))
    assert torch.get_num_threads() == before
    assert _Workspace._free == []  # and the memory of the kernels is freed
