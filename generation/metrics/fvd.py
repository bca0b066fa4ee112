"""FVD of the videos that the images of a grid make.

    FVD-F      the frames of each view                    V videos of T images
    FVD-V      the views of each frame, in their order    T videos of V images
    FVD-Diag   view (d + t) mod V at frame t              V videos of T images, wrapped around
    FVD        all images in the order of their times     1 video; one image at each time

The first three are the definitions of SV4D, which does not state whether its diagonals wrap around;
the last one is for free-view videos, in which camera and time move together.
The formula is that of one video and one video, averaged over the videos, or the Fréchet distance of
the two sets (`frechet`). Images are compared over white; each channel is resized as floats with
Pillow's bicubic filter to 224², then mapped to [−1, 1].
Letters: V views, T frames, n images of a video.
Source: Xie et al. 2024, SV4D, arXiv 2407.17470; Unterthiner et al. 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from generation.metrics.frechet import pair_distance, set_distance
from generation.metrics.i3d import SIDE_PX
from generation.metrics.pixels import quantized, resized_in_floats
from recon.errors import InputError
from recon.metrics.interface import ImagePair, VideoScore

Formula = Literal["pair", "set"]
FORMULAS: tuple[Formula, ...] = ("pair", "set")
Key = tuple[int, int]  # view, frame


class VideoImages:
    """Images at the size of I3D, which several metrics of the same evaluation share."""

    def __init__(self) -> None:
        self._images: dict[Key, np.ndarray] = {}

    def clear(self) -> None:
        """Forget all images."""
        self._images.clear()

    def add(self, pair: ImagePair) -> None:
        """Keep a pair of images, unless another metric has added it."""
        key = (pair.view, pair.frame)
        if key not in self._images:
            self._images[key] = np.stack([_input(image) for image in (pair.rgb, pair.true_rgb)])

    def keys(self) -> list[Key]:
        """View and frame of all images, in ascending order."""
        return sorted(self._images)

    def video(self, keys: Sequence[Key]) -> np.ndarray:
        """Stack images to a video of both sides, float32, [2, 3, n, 224, 224]."""
        return np.stack([self._images[key] for key in keys], axis=1).transpose(0, 4, 1, 2, 3)


class Fvd:
    """FVD over one kind of videos.

    Args:
        name: "fvd-f", "fvd-v", "fvd-diag" or "fvd".
        network: I3D.
        images: the images, shared by all metrics of an evaluation.
        formula: "pair", as published, or "set".
        settings: for reports.
        device: device of the network.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        images: VideoImages,
        formula: Formula = "pair",
        settings: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ):
        self.name = name
        self.formula: Formula = formula
        self.of_sets = formula == "set"
        self._network, self._images, self._device = network.to(device), images, device
        self._lengths: tuple[int, ...] = ()
        self._settings = settings or {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """Formula, size, filter, weights, and the videos of the last score."""
        lengths = self._lengths
        return {
            "formula": self.formula,
            "side_px": SIDE_PX,
            "resize": "Pillow, bicubic on floats",
            "pooling": [1, 7, 7],
            "videos": len(lengths),
            "images_per_video": [min(lengths), max(lengths)] if lengths else None,
            **self._settings,
        }

    def begin(self) -> None:
        """Forget the images of earlier evaluations, those of the sharing metrics, too."""
        self._images.clear()

    def add(self, pair: ImagePair) -> None:
        """Take an image, see `recon.metrics.interface.VideoMetric`."""
        self._images.add(pair)

    def score(self) -> VideoScore:
        """Compare the videos of all images that were added.

        Raises:
            InputError: the images do not make videos of this kind.
        """
        features = self.features()
        if self.of_sets:
            return VideoScore(self.distance(*features), features=features)
        distances = [pair_distance(*each) for each in zip(*features, strict=True)]
        names = (name for name, _ in self._videos())
        values = dict(zip(names, distances, strict=True))
        return VideoScore(float(np.mean(distances)), values, features)

    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute the logits of the rated and the true videos, float32, [n, 400].

        Raises:
            InputError: the images do not make videos of this kind.
        """
        videos = self._videos()
        self._lengths = tuple(len(keys) for _, keys in videos)
        rated, true = np.stack([self._features(keys) for _, keys in videos], axis=1)
        return rated, true

    def distance(self, rated: np.ndarray, true: np.ndarray) -> float:
        """Compute the Fréchet distance of two sets, see `frechet.set_distance`."""
        return set_distance(rated, true)

    def _videos(self) -> list[tuple[str, list[Key]]]:
        return list(videos_of(self.name, self._images.keys()))

    def _features(self, keys: Sequence[Key]) -> np.ndarray:
        """Logits of the rated and the true video, float32, [2, 400]."""
        videos = torch.from_numpy(self._images.video(keys).copy())
        with torch.inference_mode():  # one after the other, as activations take the memory
            logits = [self._network(video[None].to(self._device))[0] for video in videos]
        return torch.stack(logits).float().cpu().numpy()


def videos_of(name: str, keys: Sequence[Key]) -> Iterator[tuple[str, list[Key]]]:
    """Yield name and images of each video.

    Args:
        name: name of the metric.
        keys: view and frame of all images, ascending.

    Raises:
        InputError: FVD-Diag: a view lacks a frame; FVD: a frame has several images.
    """
    views, frames = sorted({view for view, _ in keys}), sorted({frame for _, frame in keys})
    if name == "fvd-f":
        for view in views:
            yield f"view {view}", [key for key in keys if key[0] == view]
    elif name == "fvd-v":
        for frame in frames:
            yield f"frame {frame}", [key for key in keys if key[1] == frame]
    elif name == "fvd-diag":
        if len(keys) != len(views) * len(frames):
            raise InputError(
                f"fvd-diag needs all {len(frames)} frames of all {len(views)} views, found "
                f"{len(keys)} images"
            )
        for start in range(len(views)):
            walk = [views[(start + step) % len(views)] for step in range(len(frames))]
            yield f"diagonal {start}", list(zip(walk, frames, strict=True))
    else:
        if len(keys) != len(frames):
            raise InputError(
                "fvd needs a free-view video, one image at each time, found "
                f"{len(keys)} images of {len(frames)} times; fvd-f, fvd-v and fvd-diag suit grids"
            )
        yield "video", sorted(keys, key=lambda key: key[1])


def _input(image: np.ndarray) -> np.ndarray:
    return resized_in_floats(quantized(image), SIDE_PX) / 127.5 - 1
