"""What the networks of the cascade are told of a batch, as `generation.pipeline` tells them.

Azimuths are counted from the reference view, and elevations from the horizon, as those of SV3D_p
and SV4D are. Letters: B samples, T times, V views, F frames of a call (SV3D: the views; SV4D: T·V,
the time outermost), S pixels on a side. What it does not know: noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from generation.conditioning import (
    Conditioning,
    camera_vector,
    grid_conditioning,
    orbit_conditioning,
)
from generation.models.image_encoders import CLIPImageEncoder, ConvImageEncoder
from generation.training.dataset import TrainingSample, over_white
from generation.training.latents import LatentSpace

Tower = ConvImageEncoder | CLIPImageEncoder


class Told(NamedTuple):
    """Images of a batch and what is told of them.

    Attributes:
        video: that is known, in [−1, 1], [B, T, 3, S, S].
        images: that are to be made, [B, F, 3, S, S].
        conditionings: of each sample.
    """

    video: Tensor
    images: Tensor
    conditionings: list[Conditioning]


def orbit_told(batch: TrainingSample, size: str, space: LatentSpace, tower: Tower) -> Told:
    """SV3D's: one image, and its views with the reference view last.

    Args:
        batch: of one time.
        size: of the images, "low" or "high".
        space: makes latents.
        tower: makes tokens.
    """
    order = _reference_last(batch.azimuth_rad)
    rows = torch.arange(len(order), device=order.device)[:, None]
    video = over_white(batch.reference_video[size]).rgb
    images = over_white(batch.target[size][:, :, 0][rows, order]).rgb
    latents, tokens = space.latents(video[:, 0]), tower(video[:, 0])
    vectors = _cameras(batch)[rows, order]
    parts = zip(latents, tokens, vectors, strict=True)
    return Told(video, images, [orbit_conditioning(*each) for each in parts])


def grid_told(
    batch: TrainingSample,
    size: str,
    space: LatentSpace,
    tower: Tower,
    reference_views: Tensor,
) -> Told:
    """SV4D's: the input video and reference views.

    Args:
        batch: see `orbit_told`, as all that follow.
        size: see there.
        space: see there.
        tower: see there.
        reference_views: of the views, true or made, over white, in [−1, 1], [B, V, 3, S, S].
    """
    video = over_white(batch.reference_video[size]).rgb
    images = over_white(time_major(batch.target[size])).rgb
    reference = space.latents(reference_views)
    tokens = tower(video.flatten(0, 1)).unflatten(0, video.shape[:2])
    parts = zip(space.latents(video), tokens, _cameras(batch), reference, strict=True)
    return Told(video, images, [grid_conditioning(*each) for each in parts])


def true_reference_views(batch: TrainingSample, size: str) -> Tensor:
    """The views at the reference frame, over white, in [−1, 1], [B, V, 3, S, S].

    Args:
        batch: see `orbit_told`, as what follows.
        size: see there.
    """
    return over_white(batch.reference_views[size]).rgb


def time_major(target: Tensor) -> Tensor:
    """Images [B, V, T, ...] as the flat list of frames, [B, T·V, ...]."""
    return target.transpose(1, 2).flatten(1, 2)


def _cameras(batch: TrainingSample) -> Tensor:
    """[B, V, width]."""
    polar = (math.pi / 2 - batch.elevation_rad).flatten()
    return camera_vector(polar, batch.azimuth_rad.flatten()).unflatten(0, batch.azimuth_rad.shape)


def _reference_last(azimuth_rad: Tensor) -> Tensor:
    """Order in which azimuths ascend and 0 counts as a whole turn, [B, V]."""
    barely = 1e-3  # the reference view's own azimuth is 0 up to rounding
    return ((azimuth_rad - barely) % (2 * math.pi)).argsort(dim=1)
