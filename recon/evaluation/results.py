"""Results of an evaluation: values of images and videos, their means, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recon.evaluation.alignment import Alignment
from recon.metrics.interface import VideoScore


@dataclass(frozen=True)
class ImageMetrics:
    """Metrics of one image.

    Attributes:
        view: view number in the ground truth's `transforms.json`.
        frame: frame number in the ground truth's `transforms.json`.
        values: values by key, such as "psnr" or "lpips"; None where one is not defined.
    """

    view: int
    frame: int
    values: Mapping[str, float | None]

    @property
    def psnr_foreground(self) -> float | None:
        """PSNR in dB in the bounding box of the true alpha; None if it is empty or not measured."""
        return self.values.get("psnr_foreground")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of all compared images, at least one.

    Attributes:
        images: metrics of each image, in the order of the ground truth.
        missing: number of ground-truth images for which there was no image to compare.
        videos: results of the metrics of videos, by name.
        settings: how each metric was computed, and with which weights, by name.
        notes: how images were matched, resized or aligned, as sentences.
        warnings: what makes the metrics doubtful, as sentences.
        alignment: how a sequence was aligned with the truth; None if it was not.
        relative_size: size of the object relative to the true one, the median over the images, see
            `recon.evaluation.object_size`; None: no image shows both.
    """

    images: tuple[ImageMetrics, ...]
    missing: int = 0
    videos: Mapping[str, VideoScore] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    alignment: Alignment | None = None
    relative_size: float | None = None

    @property
    def psnr(self) -> float:
        """Mean PSNR in dB."""
        return self._always("psnr")

    @property
    def ssim(self) -> float:
        """Mean SSIM."""
        return self._always("ssim")

    @property
    def iou(self) -> float:
        """Mean IoU of the silhouettes."""
        return self._always("iou")

    @property
    def psnr_foreground(self) -> float | None:
        """Mean foreground PSNR in dB over the images with an object; None if there are none."""
        return self.mean("psnr_foreground")

    @property
    def worst_psnr(self) -> float:
        """PSNR of the worst image in dB."""
        return min(value for value in self._values("psnr"))

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the values of an image, in the order of the metrics."""
        return tuple(self.images[0].values)

    def mean(self, key: str) -> float | None:
        """Return the mean over the images where a value is defined, or the value over videos.

        Args:
            key: key of `ImageMetrics.values` or of `videos`.

        Returns:
            None if it is defined nowhere or was not measured.
        """
        if key in self.videos:
            return self.videos[key].value
        found = self._values(key)
        return float(np.mean(found)) if found else None

    def by_view(self) -> dict[int, Evaluation]:
        """Return the evaluation of the images of each view by its number, ascending."""
        views = sorted({image.view for image in self.images})
        return {
            view: Evaluation(tuple(image for image in self.images if image.view == view))
            for view in views
        }

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that `evaluate --json` prints and `metrics.json` has per split."""
        worst = {"worst_psnr": self.worst_psnr} if "psnr" in self.keys else {}
        videos = {name: dict(score.videos) for name, score in self.videos.items()}
        return {
            **{key: self.mean(key) for key in (*self.keys, *self.videos)},
            **worst,
            "missing": self.missing,
            "images": [
                {"view": each.view, "frame": each.frame, **each.values} for each in self.images
            ],
            **({"videos": videos} if videos else {}),
            "settings": {name: dict(values) for name, values in self.settings.items()},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            **({"alignment": self.alignment.to_json()} if self.alignment else {}),
        }

    def _values(self, key: str) -> list[float]:
        found = (image.values.get(key) for image in self.images)
        return [value for value in found if value is not None]

    def _always(self, key: str) -> float:
        value = self.mean(key)
        if value is None:
            raise KeyError(f"{key} was not measured")
        return value
