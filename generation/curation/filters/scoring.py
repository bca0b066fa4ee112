"""Scoring of one grid: image quality, motion, render hash and optionally LPIPS.

`score_grid` is a module-level function, so that executors can pickle it.
Letters: V views, T frames.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from generation.curation.filters.clips import evenly, view_clip
from generation.curation.filters.duplicates import VIEWS, render_hash
from generation.curation.filters.image_quality import measure_quality
from generation.curation.filters.motion import Flow, dis_flow, measure_motion
from recon.errors import GridError
from recon.grid import Grid, read_grid
from recon.media import encode_image, tile_images

MEASURES = 1  # version of the scores; increase it when a change gives a grid other scores
STRIP_FRAMES = 2
STRIP_TILE_PX = 96
STRIP_BACKGROUND = (0.9, 0.9, 0.9)  # white objects are visible on it


@dataclass(frozen=True)
class Scores:
    """Scores of a grid, defined in the modules that compute them.

    Attributes:
        coverage: see `image_quality`.
        cut_off: see `image_quality`.
        sharpness: see `image_quality`.
        clutter: see `image_quality`.
        grain: see `image_quality`.
        motion: see `motion`.
        peak_motion: see `motion`.
        smoothness: see `motion`.
        render_hash: see `duplicates`; hexadecimal.
        lpips: see `networks`; None if it is not computed.
    """

    coverage: float
    cut_off: float
    sharpness: float
    clutter: float
    grain: float
    motion: float
    peak_motion: float
    smoothness: float
    render_hash: str
    lpips: float | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        """All scores but the hash, by name."""
        return {name: value for name, value in asdict(self).items() if name != "render_hash"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Scores:
        """Create scores from the result of `asdict`; raise ValueError for anything else."""
        if values.keys() != {each.name for each in fields(cls)}:
            raise ValueError(f"expected the scores of a grid, found {sorted(values)}")
        return cls(**values)


@dataclass(frozen=True)
class ScoringSettings:
    """Weights files of the networks that score grids.

    Attributes:
        lpips: paths of VGG16's weights and of LPIPS's heads; None skips LPIPS.
        raft: path of RAFT's weights; None computes the optical flow by DIS.
    """

    lpips: tuple[Path, Path] | None = None
    raft: Path | None = None

    def absolute(self) -> ScoringSettings:
        """Return the settings with absolute paths."""
        files = None if self.lpips is None else (self.lpips[0].resolve(), self.lpips[1].resolve())
        return ScoringSettings(files, None if self.raft is None else self.raft.resolve())

    def to_json(self) -> dict[str, Any]:
        """Return all that determines the scores as JSON, with the sha256 of each file.

        Raises:
            OSError: a file cannot be read.
        """
        from generation.weights.verify import file_sha256

        return {
            "measures": MEASURES,
            "lpips": None if self.lpips is None else [file_sha256(file) for file in self.lpips],
            "raft": None if self.raft is None else file_sha256(self.raft),
        }


class ScoringTask(NamedTuple):
    """A grid folder to score."""

    folder: Path
    settings: ScoringSettings


class Scored(NamedTuple):
    """Scores of a grid, and its thumbnails as one JPEG."""

    scores: Scores
    strip: bytes


def score_grid(task: ScoringTask) -> Scored:
    """Score a grid folder in four of its views.

    Raises:
        GridError: the grid is not valid or lacks some images.
        BackendError, WeightsError: a package or weights file is missing.
    """
    grid = read_grid(task.folder)
    if not grid.is_full:
        raise GridError(
            f"expected {grid.V} views × {grid.T} frames, found {len(grid)} images", task.folder
        )
    clips = [view_clip(grid, int(view)) for view in evenly(grid.V, VIEWS)]
    quality = measure_quality(clips)
    motion = measure_motion(clips, _flow(task.settings))
    lpips = None
    if task.settings.lpips is not None:
        from generation.curation.filters.networks import measure_lpips  # imports torch
        from generation.metrics.lpips import load_lpips

        lpips = measure_lpips(clips, load_lpips(*task.settings.lpips))
    scores = Scores(
        coverage=quality.coverage,
        cut_off=quality.cut_off,
        sharpness=quality.sharpness,
        clutter=quality.clutter,
        grain=quality.grain,
        motion=motion.motion,
        peak_motion=motion.peak,
        smoothness=motion.smoothness,
        render_hash=render_hash(clips).hex(),
        lpips=lpips,
    )
    return Scored(scores, _strip(grid))


def check_settings(settings: ScoringSettings) -> None:
    """Load all networks and packages that scoring needs, to fail early.

    Raises:
        BackendError, WeightsError: a package or weights file is missing.
    """
    _flow(settings)
    if settings.lpips is not None:
        from generation.metrics.lpips import load_lpips

        load_lpips(*settings.lpips)


def _flow(settings: ScoringSettings) -> Flow:
    if settings.raft is None:
        return dis_flow()
    from generation.curation.filters.networks import raft_flow  # imports torch

    return raft_flow(settings.raft)


def _strip(grid: Grid) -> bytes:
    """Tile thumbnails of two frames (rows) in four views (columns); missing images stay blank."""
    frames, views = evenly(grid.T, STRIP_FRAMES), evenly(grid.V, VIEWS)
    side = (STRIP_TILE_PX, STRIP_TILE_PX)

    def cell(view: int, frame: int) -> np.ndarray | None:
        found = np.flatnonzero((grid.view == view) & (grid.frame == frame))
        images = grid.over(STRIP_BACKGROUND, found[-1:])
        if len(images) == 0:
            return None
        return np.asarray(Image.fromarray(images[0]).resize(side, Image.Resampling.BOX))

    strip = tile_images([[cell(view, frame) for view in views] for frame in frames])
    return encode_image(strip, ".jpg", quality=88)
