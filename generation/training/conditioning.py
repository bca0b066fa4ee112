"""Conditioning of a training batch, the same as in `generation.pipeline`.

Azimuths are relative to the reference view, elevations to the horizon, as for SV3D_p and SV4D.

Letters: B samples, T times, V views, F frames of a network call (SV3D: the views; SV4D: T·V, the
time outermost), S pixels on a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from generation.conditioning import (
    Conditioning,
    camera_vector,
    grid_conditioning,
    orbit_conditioning,
    without_image,
)
from generation.models.image_encoders import ImageEncoder
from generation.training.clip_sampling import SampleRng
from generation.training.dataset import TrainingSample, composite_on_white
from generation.training.stage_networks import LatentSpace


class ConditionedBatch(NamedTuple):
    """Targets of a batch with their conditioning.

    Attributes:
        video: the input video, in [−1, 1], [B, T, 3, S, S].
        images: the images to generate, in [−1, 1], [B, F, 3, S, S].
        conditionings: the conditioning of each sample.
    """

    video: Tensor
    images: Tensor
    conditionings: list[Conditioning]


def orbit_batch(
    batch: TrainingSample, size: str, space: LatentSpace, encoder: ImageEncoder
) -> ConditionedBatch:
    """Condition SV3D on one image; the reference view is the last of its views.

    Args:
        batch: samples of one frame each.
        size: image size, "low" or "high".
        space: latent space of the images.
        encoder: image encoder.
    """
    order = _reference_last(batch.azimuth_rad)
    rows = torch.arange(len(order), device=order.device)[:, None]
    video = composite_on_white(batch.reference_video[size]).rgb
    images = composite_on_white(batch.target[size][:, :, 0][rows, order]).rgb
    latents, tokens = space.encode(video[:, 0]), encoder(video[:, 0])
    vectors = _camera_vectors(batch)[rows, order]
    parts = zip(latents, tokens, vectors, strict=True)
    return ConditionedBatch(video, images, [orbit_conditioning(*each) for each in parts])


def grid_batch(
    batch: TrainingSample,
    size: str,
    space: LatentSpace,
    encoder: ImageEncoder,
    reference_views: Tensor,
) -> ConditionedBatch:
    """Condition SV4D on the input video and reference views.

    Args:
        batch: samples.
        size: image size, "low" or "high".
        space: latent space of the images.
        encoder: image encoder.
        reference_views: ground-truth or generated views, on white, in [−1, 1], [B, V, 3, S, S].
    """
    video = composite_on_white(batch.reference_video[size]).rgb
    images = composite_on_white(time_major(batch.target[size])).rgb
    reference = space.encode(reference_views)
    tokens = encoder(video.flatten(0, 1)).unflatten(0, video.shape[:2])
    parts = zip(space.encode(video), tokens, _camera_vectors(batch), reference, strict=True)
    return ConditionedBatch(video, images, [grid_conditioning(*each) for each in parts])


def true_reference_views(batch: TrainingSample, size: str) -> Tensor:
    """Return the ground-truth reference views, on white, in [−1, 1], [B, V, 3, S, S]."""
    return composite_on_white(batch.reference_views[size]).rgb


def time_major(target: Tensor) -> Tensor:
    """Reorder images [B, V, T, ...] to the flat list of frames, [B, T·V, ...]."""
    return target.transpose(1, 2).flatten(1, 2)


def drop_conditioning(
    conditionings: Sequence[Conditioning], rng: SampleRng, probability: float
) -> list[Conditioning]:
    """Drop the image conditioning of random samples, for classifier-free guidance.

    Dropped conditioning is multiplied by zero instead of replaced, so that the image encoder always
    gets a gradient.

    Args:
        conditionings: the conditioning of each sample.
        rng: random number generators.
        probability: probability of dropping, in [0, 1].

    Source: Ho & Salimans 2022, "Classifier-free diffusion guidance", algorithm 1.
    """
    keep = (rng.uniform() >= probability).float()
    return [_weighted(each, weight) for each, weight in zip(conditionings, keep, strict=True)]


def _weighted(conditioning: Conditioning, weight: Tensor) -> Conditioning:
    without = vars(without_image(conditioning))
    tensors = {
        name: torch.lerp(without[name], tensor, weight)
        for name, tensor in vars(conditioning).items()
        if tensor is not None
    }
    return Conditioning(**tensors)


def _camera_vectors(batch: TrainingSample) -> Tensor:
    """Compute the vector conditioning of the views, [B, V, width]."""
    polar = (math.pi / 2 - batch.elevation_rad).flatten()
    return camera_vector(polar, batch.azimuth_rad.flatten()).unflatten(0, batch.azimuth_rad.shape)


def _reference_last(azimuth_rad: Tensor) -> Tensor:
    """Return the order of ascending azimuths, with 0 counted as a full turn, int64, [B, V]."""
    tolerance = 1e-3  # the reference view's own azimuth is 0 up to rounding
    return ((azimuth_rad - tolerance) % (2 * math.pi)).argsort(dim=1)
