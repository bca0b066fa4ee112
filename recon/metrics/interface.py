"""What a metric implements: one value per image, or one for each video made of the images.

Metrics are fed one pair of images at a time, so that memory does not grow with the grid.
Letters: H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np


class ImagePair(NamedTuple):
    """An image and the true image of the same camera and time, over white.

    Attributes:
        view: index of the camera.
        frame: index of the time.
        rgb: image to rate, sRGB in [0, 1], [H, W, 3].
        alpha: its opacity in [0, 1], [H, W].
        true_rgb: true image, [H, W, 3].
        true_alpha: its opacity, [H, W].
    """

    view: int
    frame: int
    rgb: np.ndarray
    alpha: np.ndarray
    true_rgb: np.ndarray
    true_alpha: np.ndarray


class Metric(Protocol):
    """What all metrics have.

    Attributes:
        name: key of `recon.metrics.catalog.METRICS`.
    """

    name: str

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the values are computed, and the sha256 of weights; for reports, JSON values."""
        ...


class ImageMetric(Metric, Protocol):
    """A metric of single images."""

    def measure(self, pair: ImagePair) -> Mapping[str, float | None]:
        """Return values by their key in reports; None where a value is not defined."""
        ...


class VideoScore(NamedTuple):
    """Result of a metric of videos.

    Attributes:
        value: the metric; None if it is not defined.
        videos: value of each video by name, such as "view 3"; empty for a distance of sets.
        features: features of the videos of both sides, [n, C]; for distances of larger sets.
    """

    value: float | None
    videos: Mapping[str, float] = {}
    features: tuple[np.ndarray, np.ndarray] | None = None


class VideoMetric(Metric, Protocol):
    """A metric of videos, each made of several images of a grid.

    Attributes:
        of_sets: whether the metric is one distance of the set of all videos, to which several
            evaluations can contribute, instead of a mean over videos.
    """

    of_sets: bool

    def begin(self) -> None:
        """Forget the images of earlier evaluations."""
        ...

    def add(self, pair: ImagePair) -> None:
        """Take an image; every pair of view and frame comes at most once, in any order."""
        ...

    def score(self) -> VideoScore:
        """Compare the videos of all images that were added.

        Raises:
            InputError: the images are too few, or do not make full videos.
        """
        ...

    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the features of the videos of both sides, [n, C].

        Raises:
            InputError: the images do not make full videos.
        """
        ...

    def distance(self, rated: np.ndarray, true: np.ndarray) -> float:
        """Compute the distance of two sets of videos by their features, [n, C] and [m, C].

        Raises:
            InputError: there are too few videos.
        """
        ...
