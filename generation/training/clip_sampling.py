"""Random sampling in training: views and frames of each grid, and noise for each sample.

Letters: V views and T frames of a grid, of which n and F are sampled; B samples of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recon.errors import InputError

PARALLEL_SIZE = 2**20  # count of random numbers (0.05 s on one thread) from which threads are used
THREADS = 8


class Spacing(StrEnum):
    """How the sampled frames are spaced in the clip, as in the windows of `generate`."""

    CONSECUTIVE = "consecutive"
    ANCHORS = "anchors"
    MIXED = "mixed"


@dataclass(frozen=True)
class SamplingConfig:
    """Views, frames and images that are sampled from each grid.

    Attributes:
        views: number of views n; of a grid with more views, a random subset is sampled.
        frames: number of frames F.
        spacing: spacing of the frames. Consecutive frames start anywhere, with a stride up to
            `max_stride`; the first one is the reference frame. Anchors are spread over the whole
            clip except frame 0, which is the reference frame. Mixed frames are consecutive ones, in
            half of the samples without the reference frame itself.
        max_stride: maximum stride of consecutive and mixed frames; smaller in short clips.
        random_reference: whether the reference view is random; otherwise it is view 0.
        sizes: image sizes to decode: "low", "high" or both.
        augment: whether to mirror, permute colors and reverse time at random.

    Raises:
        InputError: a number is below 1, or `sizes` is empty.
    """

    views: int = 16
    frames: int = 5
    spacing: Spacing = Spacing.CONSECUTIVE
    max_stride: int = 1
    random_reference: bool = False
    sizes: tuple[str, ...] = ("low",)
    augment: bool = False

    def __post_init__(self):
        if min(self.views, self.frames, self.max_stride) < 1 or not self.sizes:
            raise InputError(
                "expected views, frames and max_stride of at least 1 and at least one size, found "
                f"{self.views}, {self.frames}, {self.max_stride} and {self.sizes}"
            )

    @property
    def needed_frames(self) -> int:
        """Minimum number of frames T of a grid."""
        return self.frames + (self.spacing is not Spacing.CONSECUTIVE)


COARSE = SamplingConfig()


class ClipSample(NamedTuple):
    """Indices of the views and frames of a grid in one training sample, with its augmentation.

    Attributes:
        reference_view: index of the input view, which is given at all times.
        reference_frame: index of the frame whose views are the reference views.
        views: n view indices, in the order around the object from the reference view on.
        frames: F frame indices, ascending, or descending if time is reversed.
        mirrored: whether images and cameras are mirrored.
        channels: permutation of the color channels.
    """

    reference_view: int
    reference_frame: int
    views: tuple[int, ...]
    frames: tuple[int, ...]
    mirrored: bool = False
    channels: tuple[int, ...] = (0, 1, 2)


def sample_clip(config: SamplingConfig, V: int, T: int, rng: np.random.Generator) -> ClipSample:
    """Sample the views and frames of one training sample.

    Args:
        config: what to sample.
        V: number of views of the grid, at least `config.views`.
        T: number of frames of the grid, at least `config.needed_frames`.
        rng: random number generator.
    """
    assert config.views <= V and config.needed_frames <= T, "checked when the data set is opened"
    reference_view = int(rng.integers(V)) if config.random_reference else 0
    steps = np.sort(rng.choice(V, config.views, replace=False))
    views = tuple(((reference_view + steps) % V).tolist())
    reference_frame, frames = _SPACINGS[config.spacing](config, T, rng)
    clip = ClipSample(reference_view, reference_frame, views, frames)
    return _augmented(clip, T, rng) if config.augment else clip


def _augmented(clip: ClipSample, T: int, rng: np.random.Generator) -> ClipSample:
    backwards, mirrored = rng.integers(2, size=2).astype(bool).tolist()
    if backwards:
        clip = clip._replace(
            reference_frame=T - 1 - clip.reference_frame,
            frames=tuple(T - 1 - frame for frame in clip.frames),
        )
    if mirrored:  # reverse the views, so that their order around the object stays the same
        own, others = clip.views[:1], clip.views[1:]
        views = own + others[::-1] if own[0] == clip.reference_view else clip.views[::-1]
        clip = clip._replace(views=views)
    return clip._replace(mirrored=mirrored, channels=tuple(rng.permutation(3).tolist()))


_Frames = tuple[int, tuple[int, ...]]
"""(reference frame, frames)."""


def _consecutive(config: SamplingConfig, T: int, rng: np.random.Generator) -> _Frames:
    frames = _strided(config.frames, config.max_stride, T, rng)
    return frames[0], frames


def _mixed(config: SamplingConfig, T: int, rng: np.random.Generator) -> _Frames:
    skipped = int(rng.integers(2))
    frames = _strided(config.frames + skipped, config.max_stride, T, rng)
    return frames[0], frames[skipped:]


def _strided(F: int, max_stride: int, T: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Sample start and stride of F equidistant frames."""
    longest = (T - 1) // (F - 1) if F > 1 else 1
    stride = int(rng.integers(1, min(max_stride, longest) + 1))
    start = int(rng.integers(T - (F - 1) * stride))
    return tuple(range(start, start + F * stride, stride))


def _anchors(config: SamplingConfig, T: int, rng: np.random.Generator) -> _Frames:
    F = config.frames
    return 0, tuple(round((T - 1) * index / F) for index in range(1, F + 1))


_SPACINGS: Mapping[Spacing, Callable[[SamplingConfig, int, np.random.Generator], _Frames]] = {
    Spacing.CONSECUTIVE: _consecutive,
    Spacing.ANCHORS: _anchors,
    Spacing.MIXED: _mixed,
}


class SampleRng:
    """Random number generators of a training step, one for each of B samples.

    The numbers of a sample depend only on seed, step, its position in the batch and the order of
    calls, so they do not depend on how the batch is split over processes and micro-batches. They
    are generated on the CPU, whose generators give the same numbers on all machines.
    """

    def __init__(
        self, seed: int, step: int, positions: Sequence[int], device: torch.device | str = "cpu"
    ):
        """Seed the generators.

        Args:
            seed: seed of the training.
            step: optimizer step.
            positions: positions of the B samples in the batch of all processes.
            device: target device of the numbers.
        """
        self.device = torch.device(device)
        self._generators = [_generator(seed, step, position) for position in positions]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """Sample standard normal numbers, float32, [B, *shape]."""
        return self._stack(lambda generator: torch.randn(shape, generator=generator), shape)

    def uniform(self, *shape: int) -> Tensor:
        """Sample uniform numbers in [0, 1), float32, [B, *shape]."""
        return self._stack(lambda generator: torch.rand(shape, generator=generator), shape)

    def permutation(self, n: int) -> Tensor:
        """Sample permutations of 0 … n − 1, int64, [B, n]."""
        return self._stack(lambda generator: torch.randperm(n, generator=generator), (n,))

    def _stack(self, draw: Callable[[torch.Generator], Tensor], shape: tuple[int, ...]) -> Tensor:
        if len(self) * math.prod(shape) < PARALLEL_SIZE:
            return torch.stack([draw(each) for each in self._generators]).to(self.device)
        with ThreadPoolExecutor(THREADS) as threads:
            return torch.stack(list(threads.map(draw, self._generators))).to(self.device)


def _generator(seed: int, step: int, position: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, step, position]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
