"""From a prepared clip to a grid of views, on one page.

    clip ─▶ passes (see `passes`) ─▶ n × V views ─▶ grid
    clip ─▶ coarse passes ─▶ n × V small views ─▶ fine passes ─▶ n × V views ─▶ grid     (cascade)

Letters: n frames of the clip, V generated views. View 0 of the grid is the input. What it does not
know: who looks at the progress, and how.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from generation.checkpoint import check_folder, discard_other, write_input
from generation.clip.preparing import PreparedClip
from generation.clip.silhouettes import cut_silhouette
from generation.clip.writing import write_clip
from generation.coarse import CoarseStage
from generation.fine import FineStage
from generation.grid_sampler import Job, Run
from generation.presets import Plan, make_plan
from generation.progress import Progress, StepCounter
from generation.report import generation_report
from generation.settings import GenerateSettings, check_size
from generation.stages import Stage, enlarged
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from generation.weights.model_weights import ModelWeights, open_cascade_files
from generation.weights.verify import file_sha256
from recon.errors import OutOfMemoryError
from recon.grid import Grid, grid_from_views
from recon.grid.matte import border_color, matte
from recon.grid.writing import write_posed_images, write_previews
from recon.output import output_folder, write_json

WHITE = np.ones(3)
DECISIVE = tuple(sorted(GenerateSettings.__dataclass_fields__.keys() - {"low_memory"}))


class Generated(NamedTuple):
    """A finished grid, and what `generate.json` says of it."""

    grid: Grid
    report: dict[str, Any]


def generate(
    clip: PreparedClip,
    folder: Path,
    settings: GenerateSettings,
    weights: Mapping[str, ModelWeights],
    *,
    trained: Mapping[str, Path] | None = None,
    overwrite: bool = False,
    on_step: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Generated:
    """Makes the grid folder of a clip, or goes on with one that was interrupted.

    Args:
        clip: the input.
        folder: of the grid; complete at the end, resumable after each pass until then.
        settings: what to make.
        weights: opened weights of the models that `Plan.models` names.
        trained: files that `Plan.cascade_files` names, of the cascade.
        overwrite: whether a finished folder, or an unfinished one of other settings, may be
            replaced.
        on_step: called after every step of the sampler.
        should_stop: asked after every step; True stops. The passes that are done are saved.

    Returns:
        The grid, as written: view 0 is the input. And how it was made.

    Raises:
        InputError: the frames are not of a size that the networks take.
        OutputExistsError: the folder holds something else and `overwrite` is False.
        WeightsError: the weights are not those of the networks, or were trained on others.
        Interrupted: `should_stop` said so.
        DivergedError: the networks gave numbers that are not finite.
        OutOfMemoryError: the accelerator's memory is spent; the passes that are done are saved.
    """
    folder, trained = Path(folder), trained or {}
    check_folder(folder, overwrite)
    check_size(clip.images.shape[1])
    ours = {name: file_sha256(path) for name, path in trained.items()}
    identity = identity_of(clip, settings, weights, ours)
    if overwrite:
        discard_other(folder, identity)
    todo = make_plan(settings, len(clip.images))
    todo = todo.with_network(weights[todo.preset.model].architecture.unet)
    write_input(folder, clip)
    counter = StepCounter(todo.total_steps, on_step, should_stop)
    job = Job(clip, folder, settings, todo, weights, identity, counter)
    with ThreadPoolExecutor() as pool, _memory_errors(settings):
        hashes = {name: pool.submit(getattr, file, "sha256") for name, file in weights.items()}
        if todo.cascade_files:
            made = make_in_cascade(job, trained, hashes[todo.preset.model].result())
        else:
            made = make_at_once(job)
        grid = _grid(clip, made.views, settings, todo)
        report = generation_report(
            clip,
            settings,
            todo,
            {**{name: file.path for name, file in weights.items()}, **trained},
            {name: found.result() for name, found in hashes.items()} | ours,
            made.seconds,
        )
    with output_folder(folder, overwrite=True) as partial:  # what is there is this run's own state
        write_posed_images(grid, partial)
        write_previews(grid, partial)
        (partial / "input").mkdir()
        write_clip(clip, partial / "input")
        write_json(partial / "generate.json", report)
    return Generated(grid, report)


class Made(NamedTuple):
    """What the networks made.

    Attributes:
        views: in [−1, 1], the generated ones only, [n, V, 3, H, W].
        seconds: by part of the work.
    """

    views: Tensor
    seconds: dict[str, float]


def make_at_once(job: Job) -> Made:
    """Makes the grid with the network that is published, alone."""
    run = Run(job, Stage())
    return Made(run.views()[:, job.inputs_own :], run.state.seconds)


def make_in_cascade(job: Job, trained: Mapping[str, Path], base_sha256: str) -> Made:
    """Makes a coarse grid of all frames, and then the fine one, if it is in the plan.

    Args:
        job: of a model that has a coarse stage.
        trained: files by the names that `Plan.cascade_files` has.
        base_sha256: of the published file of the network.

    Raises:
        WeightsError: the files are not what they should be, or were trained on another network.
    """
    size, coarse_size = job.video.shape[-1], job.plan.coarse_size
    assert coarse_size is not None
    open_cascade_files(trained, base_sha256)
    coarse = Run(job, CoarseStage(coarse_size, trained[LORA_FILE], base_sha256))
    layout = coarse.views()
    if not job.plan.fine:
        return Made(enlarged(layout[:, job.inputs_own :], size), coarse.state.seconds)
    stage = FineStage(layout, trained[BRANCH_FILE], base_sha256)
    fine = Run(job, stage, coarse.state.orbit)
    return Made(fine.views()[:, job.inputs_own :], coarse.state.seconds | fine.state.seconds)


def identity_of(
    clip: PreparedClip,
    settings: GenerateSettings,
    weights: Mapping[str, ModelWeights],
    trained: Mapping[str, str],
) -> dict[str, Any]:
    """What an unfinished generation must have in common with the one that goes on with it.

    Args:
        clip: the input.
        settings: as chosen.
        weights: of the models.
        trained: sha256 of the cascade's files, which all are of one size.
    """
    return {
        "settings": {name: asdict(settings)[name] for name in DECISIVE},
        "clip": hashlib.sha256(clip.images.tobytes()).hexdigest(),
        "weights": {name: file.identity for name, file in weights.items()},
        "trained": dict(trained),
    }


def _grid(clip: PreparedClip, views: Tensor, settings: GenerateSettings, todo: Plan) -> Grid:
    """The input and the generated views [n, V, 3, H, W] with their cameras."""
    pixels = ((views + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    generated = pixels.permute(1, 0, 3, 4, 2).numpy()  # [V, n, H, W, 3]
    cut = cut_silhouette if todo.preset.soft_silhouettes else _cutter(generated)
    images = np.concatenate(
        [clip.images[None], [[cut(each) for each in view] for view in generated]]
    )
    cameras = todo.cameras(views.shape[-1])
    return grid_from_views(cameras, images, clip.fps, alpha_known=False, input_view=0)


def _cutter(generated: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Gives alpha to images of the same background as all of [V, n, H, W, 3]."""
    background = border_color(generated.reshape(-1, *generated.shape[-3:]))
    return partial(matte, background=WHITE if background is None else background)


@contextmanager
def _memory_errors(settings: GenerateSettings) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = "a smaller --size" if settings.low_memory else "--low-memory, or a smaller --size"
        raise OutOfMemoryError(
            "the accelerator has too little memory for this; the finished passes are saved",
            hint=f"try {smaller}; with --low-memory it goes on after the saved passes",
        ) from error
