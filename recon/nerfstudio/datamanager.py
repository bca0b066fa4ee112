"""The datamanager: the images of a grid, and for each step several views of one time.

Which views a step shows is drawn by the fit, as in `fourdvd reconstruct`.
Letters: V views of a step, H × W pixels.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.full_images_datamanager import (
    FullImageDatamanager,
    FullImageDatamanagerConfig,
)
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes

from recon.errors import InputError
from recon.fitting.fit import Batch, Fit
from recon.grid import Grid
from recon.nerfstudio.dataparser import GridDataParserConfig
from recon.nerfstudio.failures import sentences

BATCH = "fourdvd_batch"  # key of the metadata of cameras


@dataclass
class GridDataManagerConfig(FullImageDatamanagerConfig):
    """Settings of the datamanager."""

    _target: Callable[..., Any] = field(default_factory=lambda: GridDataManager)
    dataparser: AnnotatedDataParserUnion = field(default_factory=GridDataParserConfig)
    """Must be fourdvd-grid, which also reads D-NeRF and nerfstudio data sets."""


class GridDataset(InputDataset):
    """The images of a grid, whose pixels are not read a second time.

    Args:
        outputs: cameras and names of the images.
        grid: the grid.
    """

    def __init__(self, outputs: DataparserOutputs, grid: Grid):
        super().__init__(outputs)
        self.grid = grid

    def get_numpy_image(self, image_idx: int) -> np.ndarray:
        """Return an image, RGBA, uint8, [H, W, 4]."""
        return self.grid.images[image_idx]

    def get_metadata(self, data: dict[str, Any]) -> dict[str, Any]:
        """Add the image with its alpha, which `image` does not have: uint8, [H, W, 4]."""
        return {"rgba": torch.from_numpy(self.grid.images[data["image_idx"]].copy())}


class GridDataManager(FullImageDatamanager):
    """Images of a grid; arguments as nerfstudio's `FullImageDatamanager`.

    Raises:
        SystemExit: the data are not valid; a sentence is printed.
    """

    def __init__(self, config: GridDataManagerConfig, *args: Any, **kwargs: Any):
        self._fit: Fit | None = None
        with sentences():
            _check(config)
            super().__init__(config, *args, **kwargs)

    def create_train_dataset(self) -> GridDataset:
        """Return the training images, in whose metadata a model that trains finds the grid."""
        dataset = self._dataset("train", self.train_dataparser_outputs)
        if self.test_mode == "val":
            dataset.metadata = {"grid": dataset.grid, "source": self.config.data}
        return dataset

    def create_eval_dataset(self) -> GridDataset:
        """Return the images of the validation or test split."""
        outputs = self.dataparser.get_dataparser_outputs(split=self.test_split)
        return self._dataset(self.test_split, outputs)

    def _dataset(self, split: str, outputs: DataparserOutputs) -> GridDataset:
        return GridDataset(outputs, self.dataparser.grid(split))

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Get to know the fit that draws the views; no callbacks."""
        self._fit = training_callback_attributes.pipeline.model.fit
        return []

    def next_train(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """Return cameras and images of the views that the fit draws for its next step.

        Returns:
            V cameras of one time, and a batch with `image_idx`, [V], and `rgba`, the images with
            alpha, uint8, [V, H, W, 4].
        """
        assert self._fit is not None, "only a trainer asks for training images"
        drawn: Batch = self._fit.begin_step()
        indices = torch.from_numpy(drawn.images)
        cameras = self.train_dataset.cameras[indices].to(self.device)
        cameras.metadata = {BATCH: drawn}
        rgba = torch.from_numpy(self.train_dataset.grid.images[drawn.images])
        return cameras, {"image_idx": indices, "rgba": rgba}

    def get_train_rays_per_batch(self) -> int:
        """Return the number of pixels of a step at full size."""
        grid = self.train_dataset.grid
        views = 1 if self._fit is None else self._fit.config.views_per_step
        return views * grid.height * grid.width


def _check(config: GridDataManagerConfig) -> None:
    """Check settings that other methods support.

    Raises:
        InputError: another dataparser or a scale of the images is set.
    """
    if not isinstance(config.dataparser, GridDataParserConfig):
        raise InputError(
            "the method fourdvd reads data with the dataparser fourdvd-grid, which also reads "
            f"D-NeRF and nerfstudio data sets, found {type(config.dataparser).__name__}; leave "
            "out the name of the dataparser"
        )
    if config.camera_res_scale_factor != 1:
        raise InputError(
            "expected --pipeline.datamanager.camera-res-scale-factor 1, found "
            f"{config.camera_res_scale_factor:g}; resize the images instead"
        )
