"""From a grid's folder to a scene's folder: a fit that can be stopped, gone on with and watched.

    SCENE/train/checkpoint.safetensors   while unfinished
    SCENE/train/log.jsonl                a line of JSON every few steps
    SCENE/scene.safetensors, scene.json, preview.mp4, metrics.json   all at once, when finished

What it does not know: who looks at the progress, and how.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recon.errors import Interrupted, OutOfMemoryError, OutputExistsError
from recon.evaluation import evaluate_scene
from recon.film.free_view import free_view_frames, plan_shot
from recon.film.writing import write_film
from recon.fitting.checkpoint import (
    CHECKPOINT,
    PARTIAL,
    fit_identity,
    load_checkpoint,
    read_identity,
    save_checkpoint,
)
from recon.fitting.config import FitConfig
from recon.fitting.fit import Fit, Step
from recon.grid import Grid, has_split, read_grid
from recon.native.library import built, kernels
from recon.output import check_output, output_folder, write_json
from recon.scene import Scene, save_scene

LOG_EVERY = 20  # iterations
METRIC_IMAGES = 48  # of the training views, evenly chosen; all held-out ones are measured
TRAIN, LOG = "train", "log.jsonl"


class Progress(NamedTuple):
    """How far a fit is.

    Attributes:
        iteration: number of iterations made.
        iterations: number of all.
        psnr: running mean over the training images, dB.
        gaussians: N.
        seconds_left: estimate for the rest of the iterations.
        stage: "static", "motion" or "refinement".
    """

    iteration: int
    iterations: int
    psnr: float
    gaussians: int
    seconds_left: float
    stage: str


def reconstruct(
    grid_path: Path,
    folder: Path,
    config: FitConfig,
    *,
    overwrite: bool = False,
    on_step: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Scene:
    """Fits a scene to a grid, or goes on with a fit that was interrupted.

    Args:
        grid_path: as of `recon.grid.read_grid`; held-out views beside it are measured at the end.
        folder: of the scene; complete at the end, resumable until then.
        config: of the fit, for images of 256²; it is scaled to those of the grid.
        overwrite: whether a finished scene, or an unfinished one of other settings, may be
            replaced.
        on_step: called after every iteration.
        should_stop: asked after every iteration; True saves the state and stops.

    Returns:
        The finished scene, as written.

    Raises:
        GridError: the grid is not valid.
        OutputExistsError: the folder holds something else and `overwrite` is False.
        Interrupted: `should_stop` said so; the state is saved.
        OutOfMemoryError: the accelerator's memory is spent; the last checkpoint is kept.
    """
    grid_path, folder = Path(grid_path), Path(folder)
    if not _unfinished(folder):
        check_output(folder, overwrite)
    grid = read_grid(grid_path)
    config = config.for_images(max(grid.height, grid.width))
    identity = fit_identity(grid, config)
    _check_identity(folder, identity, overwrite)
    with _kernel_threads(config), _memory_errors():
        fit = Fit(grid, config)
        seconds = _run(fit, identity, folder, on_step, should_stop or (lambda: False))
        scene = _scene(fit, grid_path)
        with torch.no_grad():
            metrics = _metrics(scene, grid, grid_path, config.device)
            metrics |= {
                "seconds": seconds,
                "iterations": config.iterations,
                "gaussians": len(fit.gaussians.means),
            }
            scene.metrics = _summary(metrics)
            _finish(scene, metrics, folder)
    return scene


def _unfinished(folder: Path) -> bool:
    """Whether nothing is there but a fit in progress: the folder will be replaced by the scene."""
    ours = {TRAIN, *(f"{TRAIN}/{name}" for name in (CHECKPOINT, PARTIAL, LOG))}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return TRAIN in found and found <= ours


def _check_identity(folder: Path, identity: dict[str, Any], overwrite: bool) -> None:
    checkpoint = folder / TRAIN / CHECKPOINT
    if not checkpoint.exists():
        return
    # Through JSON, as the saved one went: tuples become lists.
    if read_identity(checkpoint) == json.loads(json.dumps(identity)):
        return
    if not overwrite:
        raise OutputExistsError(
            folder,
            "it holds an unfinished fit of another grid or with other settings; "
            "choose another folder, or pass --overwrite to start again",
        )
    shutil.rmtree(checkpoint.parent)


def _run(
    fit: Fit,
    identity: dict[str, Any],
    folder: Path,
    on_step: Callable[[Progress], None] | None,
    should_stop: Callable[[], bool],
) -> float:
    """All iterations that are left; returns the seconds of all, earlier runs included."""
    train = folder / TRAIN
    train.mkdir(parents=True, exist_ok=True)
    checkpoint, log = train / CHECKPOINT, train / LOG
    if checkpoint.exists():
        load_checkpoint(fit, checkpoint)
    earlier = _trim_log(log, fit.iteration)
    clock = Clock(fit.config.iterations - fit.iteration, earlier)
    psnr = 0.0
    with log.open("a", encoding="utf-8") as lines:
        while not fit.done:
            step = fit.step()
            psnr = step.psnr if step.iteration < 2 or psnr == 0 else 0.98 * psnr + 0.02 * step.psnr
            clock.tick()
            if step.iteration % LOG_EVERY == 0 or fit.done:
                lines.write(json.dumps(_log_line(step, psnr, fit, clock)) + "\n")
            if on_step:
                on_step(_progress(step, psnr, fit, clock))
            stop = should_stop()
            if stop or step.iteration % fit.config.checkpoint_every == 0:
                lines.flush()
                save_checkpoint(fit, identity, checkpoint)
            if stop:
                raise Interrupted(
                    f"stopped at iteration {step.iteration} of {fit.config.iterations}; "
                    f"the state is saved in {folder}, and the same command goes on from there"
                )
    return clock.seconds


class Clock:
    """Seconds that a fit has taken, and what the rest will take at the pace of late."""

    def __init__(self, steps: int, earlier: float):
        self._left, self._earlier = steps, earlier
        self._start = self._last = time.monotonic()
        self._pace = 0.0

    def tick(self) -> None:
        """One more step is made."""
        now = time.monotonic()
        pace = now - self._last
        self._pace = pace if self._pace == 0 else 0.98 * self._pace + 0.02 * pace
        self._last, self._left = now, self._left - 1

    @property
    def seconds(self) -> float:
        """Since the very beginning, earlier runs included."""
        return self._earlier + self._last - self._start

    @property
    def seconds_left(self) -> float:
        """At the pace of late; steps get slower when the images become larger."""
        return self._pace * self._left


def _progress(step: Step, psnr: float, fit: Fit, clock: Clock) -> Progress:
    count = fit.config.iterations
    return Progress(step.iteration, count, psnr, step.gaussians, clock.seconds_left, fit.stage)


def _log_line(step: Step, psnr: float, fit: Fit, clock: Clock) -> dict[str, Any]:
    return {
        "iteration": step.iteration,
        "stage": fit.stage,
        "size": fit.schedule.image_size(fit.iteration),
        "psnr": round(psnr, 3),
        "gaussians": step.gaussians,
        "seconds": round(clock.seconds, 2),
    }


def _trim_log(log: Path, iteration: int) -> float:
    """Drops lines of work that was lost after the checkpoint; returns the seconds up to there."""
    kept, seconds = [], 0.0
    if log.exists():
        for line in log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                values = json.loads(line)
                if values["iteration"] <= iteration:
                    kept.append(line)
                    seconds = float(values["seconds"])
    log.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return seconds


def _scene(fit: Fit, grid_path: Path) -> Scene:
    grid = fit.grid
    provenance = {
        "grid": str(grid_path.resolve()),
        "settings": asdict(fit.config),
        "torch": torch.__version__,
    }
    fit.deformation.requires_grad_(False)
    return Scene(
        gaussians=fit.gaussians.map(lambda tensor: tensor.detach()),
        deformation=fit.deformation,
        times=grid.times,
        cameras=grid.cameras,
        fps=grid.fps,
        provenance=provenance,
    )


def _metrics(scene: Scene, grid: Grid, grid_path: Path, device: str) -> dict[str, Any]:
    chosen = np.unique(np.linspace(0, len(grid) - 1, METRIC_IMAGES).round().astype(int))
    splits = {"train": grid.subset(chosen)}
    if has_split(grid_path, "test"):
        splits["test"] = read_grid(grid_path if grid_path.is_dir() else grid_path.parent, "test")
    return {name: evaluate_scene(scene, split, device).to_json() for name, split in splits.items()}


def _summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics without the single images."""
    return {
        name: {k: v for k, v in value.items() if k != "images"}
        if isinstance(value, dict)
        else value
        for name, value in metrics.items()
    }


def _finish(scene: Scene, metrics: dict[str, Any], folder: Path) -> None:
    """Puts the finished scene into the place of the unfinished one."""
    log = (folder / TRAIN / LOG).read_bytes()
    with output_folder(folder, overwrite=True) as partial:
        save_scene(scene, partial)
        write_json(partial / "metrics.json", metrics)
        shot = plan_shot(scene)
        write_film(
            partial / "preview.mp4", free_view_frames(scene, shot.cameras, shot.times), shot.fps
        )
        (partial / TRAIN).mkdir()
        (partial / TRAIN / LOG).write_bytes(log)


@contextlib.contextmanager
def _kernel_threads(config: FitConfig) -> Iterator[None]:
    """Gives the processors to the kernels: PyTorch's own threads would spin beside them."""
    before = torch.get_num_threads()
    if config.device == "cpu" and built():
        kernels().set_threads(config.threads)
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "the GPU has too little free memory for this fit; close other programs, choose "
            "--quality draft, or pass --device cpu; the same command goes on where it stopped"
        ) from error
