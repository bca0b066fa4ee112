"""The dataparser `fourdvd-grid`: everything that `recon.grid.read_grid` reads.

Letters: M images. Frame: world, +Z up, in the unit of the files; nothing is centered or scaled, so
that camera paths of nerfstudio's viewer also fit the scene in `fourdvd render`.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import (
    DataParser,
    DataParserConfig,
    DataparserOutputs,
)
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from recon.errors import GridError
from recon.fitting.visual_hull import common_sphere
from recon.grid import Grid, read_grid, read_splits
from recon.grid.reading import has_split
from recon.grid.writing import IMAGES

WHITE = torch.ones(3)

_log = logging.getLogger(__name__)


@dataclass
class GridDataParserConfig(DataParserConfig):
    """Read a grid of fourdvd, a D-NeRF data set, or a nerfstudio data set with times."""

    _target: Callable[..., Any] = field(default_factory=lambda: GridDataParser)
    data: Path = Path("examples/robot")
    """Folder of a grid, a D-NeRF data set or a nerfstudio data set; or its JSON."""
    up: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"
    """Axis that points up in the files; auto guesses it from the cameras."""
    skip_missing: bool = False
    """Whether to leave out images without a file or without a pose."""


class GridDataParser(DataParser):
    """Read the splits of a grid.

    Args:
        config: settings.
    """

    includes_time: bool = True

    def __init__(self, config: GridDataParserConfig):
        super().__init__(config)
        self._grids: dict[str, Grid] = {}

    def grid(self, split: str) -> Grid:
        """Return the images of a split; without held-out images, the training images are evaluated.

        Args:
            split: "train", "val" or "test"; "val" is that of D-NeRF, else the held-out images.

        Raises:
            GridError: a file is missing or not valid, or all images are of one time.
        """
        if not self._grids:
            self._grids = self._read()
        return self._grids[split]

    def _read(self) -> dict[str, Grid]:
        config = self.config
        up, skip_missing = config.up, config.skip_missing
        train, test = read_splits(config.data, up=up, skip_missing=skip_missing)
        if train.T == 1:
            raise GridError(
                "expected images of several times, found one; give each image its `time` in [0, 1],"
                " or train a still object with `ns-train splatfacto`",
                config.data,
            )
        if test is None:
            _log.warning("%s has no held-out images, so training images are evaluated", config.data)
            test = train
        validation = test
        if has_split(config.data, "val"):
            folder = config.data if config.data.is_dir() else config.data.parent
            up = train.R_world_source
            validation = read_grid(folder, "val", up=up, skip_missing=skip_missing)
        return {"train": train, "val": validation, "test": test}

    def _generate_dataparser_outputs(
        self, split: str = "train", **kwargs: Any
    ) -> DataparserOutputs:
        grid = self.grid(split)
        folder = self.config.data if self.config.data.is_dir() else self.config.data.parent
        names = zip(grid.view, grid.frame, strict=True)
        return DataparserOutputs(
            image_filenames=[  # only name what ns-render writes: the pixels come from the grid
                folder
                / IMAGES.format(view=grid.view_numbers[view], frame=grid.frame_numbers[frame])
                for view, frame in names
            ],
            cameras=cameras_of(grid),
            alpha_color=WHITE,
            scene_box=_scene_box(grid),
        )


def cameras_of(grid: Grid) -> Cameras:
    """Return nerfstudio's cameras of the images of a grid, with their times, M of them."""
    cameras = [grid.camera_of(index) for index in range(len(grid))]
    poses = np.stack([camera.T_world_camera[:3] for camera in cameras])

    def column(name: str) -> torch.Tensor:
        return torch.tensor([[getattr(camera, name)] for camera in cameras])

    return Cameras(
        camera_to_worlds=torch.from_numpy(poses).float(),
        fx=column("fl_x").float(),
        fy=column("fl_y").float(),
        cx=column("cx").float(),
        cy=column("cy").float(),
        width=column("width"),
        height=column("height"),
        camera_type=CameraType.PERSPECTIVE,
        times=torch.from_numpy(grid.times[grid.frame]).float()[:, None],
    )


def _scene_box(grid: Grid) -> SceneBox:
    """Return the box around the sphere that all cameras see."""
    center, radius = common_sphere(grid.cameras)
    corners = np.stack([center - radius, center + radius])
    return SceneBox(aabb=torch.from_numpy(corners).float())


specification = DataParserSpecification(
    config=GridDataParserConfig(),
    description="Grids of fourdvd, D-NeRF data sets, and nerfstudio data sets with times.",
)
