"""From a grid to a scene: `fit` in memory, and `reconstruct` into a folder, resumable.

SCENE/train/                         checkpoint and log while unfinished
SCENE/replacement/                   the same in a finished scene that the fit will replace
SCENE/scene.safetensors, scene.json, preview.mp4, metrics.json   all at once, when finished
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.devices import resolve_device
from recon.errors import Interrupted, OutOfMemoryError
from recon.evaluation import evaluate_scene
from recon.film.rendering import render_video
from recon.fitting.checkpoint import TrainFolder, fit_identity, is_unfinished
from recon.fitting.config import DEFAULT_QUALITY, FitConfig, fit_config
from recon.fitting.fit import Fit
from recon.fitting.weak_input import disagreeing_views, weak_views
from recon.grid import Grid, read_splits
from recon.native.library import built, kernels
from recon.output import check_output, output_folder, write_json
from recon.progress import Eta, OnStep, Progress, ShouldStop, ignore_progress, never_stop
from recon.rasterizers.cpu import free_workspaces
from recon.scene import LOG, TRAIN, Scene, write_scene
from recon.selection import evenly_spaced

WITHOUT_KERNELS = (
    "the CPU kernels are not compiled, so the fit runs in plain PyTorch, hundreds of times slower; "
    "install a C++ compiler and run `python -m recon.native.build`"
)
METRIC_IMAGES = 48  # evenly chosen training images; all held-out images are evaluated
PSNR_SMOOTHING = 0.98
PREVIEW_SIZE = 512  # pixels of the longer side of preview.mp4, whatever the size of the grid

_log = logging.getLogger(__name__)


def fit(
    grid: Grid | str | Path,
    *,
    quality: str = DEFAULT_QUALITY,
    motion: str | None = None,
    device: str = "auto",
    seed: int = 0,
    sh_degree: int = 0,
    config: FitConfig | None = None,
    test_grid: Grid | None = None,
    on_step: OnStep = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> Scene:
    """Fit deformable 3D Gaussians to a grid of posed images.

    Example:
        >>> scene = fit("examples/robot", quality="draft", on_step=print)
        >>> scene.metrics["train"]["psnr"]
        >>> scene.save("out/scene")

    Args:
        grid: a grid, or a path that `recon.grid.read_grid` reads; the held-out views in its folder
            are evaluated as well.
        quality: "draft", "standard" or "high": standard takes about a minute on two CPU cores
            for 21 frames at 256², longer for more; draft has a third of its iterations, high 2.4
            times as many and twice the Gaussians.
        motion: motion model: "bones" (the default, None), "hexplane", "keyframes" or "static".
        device: "auto", "cpu" or "cuda", see `recon.devices.resolve_device`.
        seed: random seed; on a CPU the same seed gives the same scene.
        sh_degree: degree of the spherical harmonics, 0 to 3; above 0 colors depend on the view.
        config: all settings, instead of the five arguments above; they are those for images of 256²
            and 21 frames: the numbers of Gaussians are scaled to the image size of the grid, and
            the iterations grow with the square root of the frames beyond that, see
            `FitConfig.for_grid`.
        test_grid: held-out views to evaluate.
        on_step: called after every iteration; the metrics are `psnr` (running mean over the
            training images in dB, over random colors) and `gaussians` (number of Gaussians).
        should_stop: called after every iteration; True stops the fit.

    Returns:
        The scene, on the device of the fit, with `metrics` for "train" and, if there are held-out
        views, "test".

    Raises:
        GridError: the grid is not valid.
        InputError: a setting is not valid.
        BackendError: the device is not available.
        Interrupted: `should_stop` returned True; nothing is saved.
        OutOfMemoryError: the GPU has too little memory.
    """
    if isinstance(grid, Grid):
        source, train_grid, held_out = None, grid, None
    else:
        source = Path(grid)
        train_grid, held_out = read_splits(source)
    test_grid = held_out if test_grid is None else test_grid
    config = config or fit_config(quality, motion, resolve_device(device), seed, sh_degree)
    config = config.for_grid(max(train_grid.height, train_grid.width), train_grid.T)
    with kernel_threads(config), memory_errors():
        running = Fit(train_grid, config)
        seconds = _run(running, on_step, should_stop, None)
        return _measured_scene(running, seconds, source, test_grid)[0]


def reconstruct(
    grid_path: str | Path,
    folder: str | Path,
    *,
    quality: str = DEFAULT_QUALITY,
    motion: str | None = None,
    device: str = "auto",
    seed: int = 0,
    sh_degree: int = 0,
    config: FitConfig | None = None,
    up: str = "auto",
    skip_missing: bool = False,
    overwrite: bool = False,
    restart: bool = False,
    on_step: OnStep = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> Scene:
    """Fit a scene to a grid folder and write it, or resume a fit that was interrupted.

    Example:
        >>> scene = reconstruct("examples/robot", "out/scene", quality="draft")

    Args:
        grid_path: a path that `recon.grid.read_grid` reads; the held-out views in its folder are
            evaluated at the end.
        folder: scene folder to write; until it is complete, it contains the state to resume from.
        quality: see `fit`.
        motion: see `fit`.
        device: see `fit`.
        seed: see `fit`.
        sh_degree: see `fit`.
        config: see `fit`.
        up: see `recon.grid.read_grid`.
        skip_missing: see `recon.grid.read_grid`.
        overwrite: whether a finished scene, or an unfinished one with other settings, may be
            replaced; a finished one stays as it is until the new one is complete.
        restart: whether the state of an interrupted fit, whatever its settings, is discarded
            instead of being resumed.
        on_step: see `fit`.
        should_stop: called after every iteration; True saves the state and raises `Interrupted`.

    Returns:
        The scene as written, on the device of the fit.

    Raises:
        GridError: the grid is not valid.
        InputError: a setting is not valid, or the checkpoint is damaged.
        BackendError: the device is not available.
        OutputExistsError: the folder contains anything else and `overwrite` is False; an
            unfinished fit may also be discarded with `restart`.
        Interrupted: `should_stop` returned True; the state is saved.
        OutOfMemoryError: the GPU has too little memory; the last checkpoint is kept.
    """
    grid_path, folder = Path(grid_path), Path(folder)
    if not is_unfinished(folder):
        check_output(folder, overwrite)
    config = config or fit_config(quality, motion, resolve_device(device), seed, sh_degree)
    grid, test_grid = read_splits(grid_path, up=up, skip_missing=skip_missing)
    config = config.for_grid(max(grid.height, grid.width), grid.T)
    train = TrainFolder(folder, fit_identity(grid, config))
    if restart:
        train.discard()
    train.check(overwrite)
    with kernel_threads(config), memory_errors():
        running = Fit(grid, config)
        seconds = _run(running, on_step, should_stop, train)
        scene, metrics = _measured_scene(running, seconds, grid_path, test_grid)
        _finish(scene, metrics, train)
    return scene


def _run(fit: Fit, on_step: OnStep, should_stop: ShouldStop, train: TrainFolder | None) -> float:
    """Run the remaining iterations; return the duration in seconds, earlier runs included."""
    earlier = train.resume(fit) if train else 0.0
    iterations = fit.config.iterations
    if fit.iteration:
        _log.info("resuming the fit after iteration %d of %d", fit.iteration, iterations)
    cost = fit.schedule.cost
    eta = Eta(sum(map(cost, range(fit.iteration, iterations))), earlier)
    psnr = None
    while not fit.done:
        step = fit.step()
        eta.tick(cost(step.iteration - 1))
        past = step.psnr if psnr is None else psnr
        psnr = PSNR_SMOOTHING * past + (1 - PSNR_SMOOTHING) * step.psnr
        metrics = {"psnr": psnr, "gaussians": step.gaussians}
        if train:
            train.record(fit, psnr, eta.seconds)
        on_step(Progress(fit.phase, step.iteration, iterations, eta.seconds_left, metrics))
        stop = should_stop()
        if train and (stop or step.iteration % fit.config.checkpoint_every == 0):
            train.save(fit)
        if stop:
            state = "nothing is saved"
            if train:
                state = f"the state is saved in {train.folder.parent}"
            raise Interrupted(f"stopped at iteration {step.iteration} of {iterations}; {state}")
    return eta.seconds


def fitted_scene(fit: Fit, source: Path | None) -> Scene:
    """Return the scene of a fit as it is now, without metrics.

    Args:
        fit: the fit; the scene shares no memory with it.
        source: path of its grid, which the scene records; None if it came from memory.
    """
    grid = fit.grid
    gaussians, deformation = fit.result()
    return Scene(
        gaussians=gaussians,
        deformation=deformation,
        times=grid.times,
        cameras=grid.cameras,
        fps=grid.fps,
        R_world_source=grid.R_world_source,
        source_camera=grid.source_camera,
        provenance={
            "grid": None if source is None else str(source.resolve()),
            "settings": asdict(fit.config),
            "torch": torch.__version__,
        },
    )


def _measured_scene(
    fit: Fit, seconds: float, source: Path | None, test_grid: Grid | None
) -> tuple[Scene, dict[str, Any]]:
    """Return the scene of a finished fit, and its metrics including those of every image."""
    grid, scene = fit.grid, fitted_scene(fit, source)
    chosen = np.array(evenly_spaced(len(grid), METRIC_IMAGES))
    splits = {"train": grid.subset(chosen)} | ({} if test_grid is None else {"test": test_grid})
    evaluations = {
        name: evaluate_scene(scene, split, fit.config.device) for name, split in splits.items()
    }
    measured = {name: found.to_json() for name, found in evaluations.items()}
    totals = {
        "seconds": seconds,
        "iterations": fit.config.iterations,
        "gaussians": len(scene.gaussians.means),
        "warnings": weak_views(grid) + disagreeing_views(evaluations["train"].images),
    }
    scene.metrics = totals | {
        name: {k: v for k, v in metrics.items() if k != "images"}
        for name, metrics in measured.items()
    }
    return scene, measured | totals


def _finish(scene: Scene, metrics: dict[str, Any], train: TrainFolder) -> None:
    """Write the finished scene in place of what its folder contains, keeping the log."""
    log = train.log.read_bytes()
    with output_folder(train.folder.parent, overwrite=True) as partial:
        write_scene(scene, partial)
        write_json(partial / "metrics.json", metrics)
        render_video(scene, partial / "preview.mp4", size=PREVIEW_SIZE)
        (partial / TRAIN).mkdir()
        (partial / TRAIN / LOG).write_bytes(log)


@contextlib.contextmanager
def kernel_threads(config: FitConfig) -> Iterator[None]:
    """Limit PyTorch to one thread, because its threads would compete with those of the kernels.

    The memory that the kernels keep between the steps of a fit is freed at the end.
    """
    before = torch.get_num_threads()
    if config.device == "cpu" and not built():
        _log.warning(WITHOUT_KERNELS)
    elif config.device == "cpu":
        kernels().set_threads(config.threads)
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        free_workspaces()


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raise `OutOfMemoryError` where PyTorch runs out of GPU memory."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "the GPU has too little free memory for this fit; close other programs, choose the "
            "quality draft, or run on the CPU"
        ) from error
