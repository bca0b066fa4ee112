"""Conditioning inputs of the networks: latents, image tokens and camera angles.

Letters: T frames, V views, N samples of one call (SV3D: the V views of an orbit; SV4D: T·V, frames
outermost), C channels and h × w pixels of latents, D width of a token. Angles are in radians: the
polar angle from the zenith, the azimuth from the input view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from generation.models.layers import sinusoidal_embedding

AUGMENTATION = 1e-5  # noise augmentation level of the conditioning images
SIGMA_WIDTH, ANGLE_WIDTH = 256, 512


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of N samples.

    Attributes:
        concat: unscaled latents, concatenated with the noisy latents along channels, [N, C, h, w].
        context: image tokens for cross-attention, [N, D] (SV3D) or [T, D] (SV4D).
        vector: sinusoidal embeddings of augmentation level, polar angle and azimuth, [N, width].
        reference: unscaled latents of the reference views, [V, C, h, w]; None for SV3D.
    """

    concat: Tensor
    context: Tensor
    vector: Tensor
    reference: Tensor | None = None

    def to(self, device: torch.device | str) -> Conditioning:
        """Return a copy on a device."""
        tensors = {
            name: value.to(device) for name, value in vars(self).items() if value is not None
        }
        return replace(self, **tensors)


def camera_vector(
    polar_rad: Tensor,
    azimuth_rad: Tensor,
    widths: tuple[int, int, int] = (SIGMA_WIDTH, ANGLE_WIDTH, ANGLE_WIDTH),
) -> Tensor:
    """Embed augmentation level, polar angle and azimuth of each camera.

    Args:
        polar_rad: polar angles, [N].
        azimuth_rad: azimuths, [N].
        widths: widths of the three embeddings.

    Returns:
        float32, [N, sum(widths)].
    """
    parts = (torch.full_like(polar_rad, AUGMENTATION), polar_rad, azimuth_rad)
    return torch.cat(
        [sinusoidal_embedding(part, width) for part, width in zip(parts, widths, strict=True)], -1
    )


def augmentation_vector(samples: int, width: int = SIGMA_WIDTH) -> Tensor:
    """Embed the augmentation level alone, for networks without cameras (SV3D_u), [N, width]."""
    return sinusoidal_embedding(torch.full((samples,), AUGMENTATION), width)


def orbit_conditioning(latent: Tensor, token: Tensor, vector: Tensor) -> Conditioning:
    """Condition SV3D: every view of the orbit on the same image.

    Args:
        latent: unscaled latent of the image, [C, h, w].
        token: token of the image, [D].
        vector: embedding of each view, [V, width].
    """
    V = len(vector)
    return Conditioning(latent.expand(V, -1, -1, -1), token.expand(V, -1), vector)


def grid_conditioning(
    latents: Tensor, tokens: Tensor, vector: Tensor, reference: Tensor
) -> Conditioning:
    """Condition SV4D: all views of a frame on the input video's frame.

    Args:
        latents: unscaled latents of the input video's frames, [T, C, h, w].
        tokens: tokens of the same frames, [T, D].
        vector: embedding of each view, the same at every frame, [V, width].
        reference: unscaled latents of the reference views, [V, C, h, w].
    """
    T, V = len(tokens), len(vector)
    return Conditioning(latents.repeat_interleave(V, dim=0), tokens, vector.repeat(T, 1), reference)


def without_image(
    conditioning: Conditioning, augmentation_width: int = SIGMA_WIDTH
) -> Conditioning:
    """Return the unconditional half of classifier-free guidance: the cameras alone.

    SV4D embeds the augmentation level together with the image and drops both; SV3D has a separate
    embedder, whose output stays.

    Args:
        conditioning: conditioning of SV3D (without reference) or SV4D.
        augmentation_width: width of the first part of the vector.
    """
    vector, reference = conditioning.vector, conditioning.reference
    if reference is not None:
        vector = torch.cat(
            [torch.zeros_like(vector[:, :augmentation_width]), vector[:, augmentation_width:]], -1
        )
        reference = torch.zeros_like(reference)
    return Conditioning(
        torch.zeros_like(conditioning.concat),
        torch.zeros_like(conditioning.context),
        vector,
        reference,
    )


def polar_rad(elevations_deg: Sequence[float]) -> Tensor:
    """Convert elevations above the horizon to polar angles, float64, [len]."""
    return torch.tensor([math.radians(90.0 - value) for value in elevations_deg]).double()


def relative_polar_rad(elevations_deg: Sequence[float], input_elevation_deg: float) -> Tensor:
    """Convert elevations to SV4D 2.0's polar angles, π/2 at the input view; float64, [len]."""
    difference = polar_rad(elevations_deg) - polar_rad([input_elevation_deg])
    return (difference + math.pi / 2) % (2 * math.pi)


def azimuth_rad(azimuths_deg: Sequence[float]) -> Tensor:
    """Convert azimuths to radians in [0, 2π), float64, [len]."""
    return torch.tensor([math.radians(value % 360.0) for value in azimuths_deg]).double()
