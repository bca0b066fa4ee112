"""What the networks are told: latents, CLIP tokens and camera angles of one clip.

Letters: T times, V views, F frames of one call (SV3D: views of an orbit; SV4D: T·V, the time
outermost), c channels and h × w pixels of latents. Angles are those of the networks: the polar
angle is counted from the zenith, the azimuth from the input view, both in radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from generation.models.layers import sinusoidal_embedding

AUGMENTATION = 1e-5  # the noise on conditioning images that the networks are told
SIGMA_WIDTH, ANGLE_WIDTH = 256, 512


@dataclass(frozen=True)
class Conditioning:
    """Of F frames.

    Attributes:
        concat: latents, not scaled, that each frame's noisy latent is joined with, [F, c, h, w].
        context: CLIP tokens: of each frame [F, d] (SV3D), of each time [T, d] (SV4D).
        vector: augmentation, polar angle and azimuth of each frame, as sinusoids, [F, width].
        reference: latents, not scaled, of the reference views, [V, c, h, w]; None for SV3D.
    """

    concat: Tensor
    context: Tensor
    vector: Tensor
    reference: Tensor | None = None

    def to(self, device: torch.device | str) -> Conditioning:
        """The same on a device."""
        tensors = {
            name: value.to(device) for name, value in vars(self).items() if value is not None
        }
        return replace(self, **tensors)


def camera_vector(
    polar_rad: Tensor,
    azimuth_rad: Tensor,
    widths: tuple[int, int, int] = (SIGMA_WIDTH, ANGLE_WIDTH, ANGLE_WIDTH),
) -> Tensor:
    """Augmentation, polar angle and azimuth of frames as one vector each.

    Args:
        polar_rad: [F].
        azimuth_rad: [F].
        widths: of the three parts.

    Returns:
        float32, [F, sum(widths)].
    """
    parts = (torch.full_like(polar_rad, AUGMENTATION), polar_rad, azimuth_rad)
    return torch.cat(
        [sinusoidal_embedding(part, width) for part, width in zip(parts, widths, strict=True)], -1
    )


def augmentation_vector(frames: int, width: int = SIGMA_WIDTH) -> Tensor:
    """The vector of a network without cameras (SV3D_u), float32, [F, width]."""
    return sinusoidal_embedding(torch.full((frames,), AUGMENTATION), width)


def orbit_conditioning(latent: Tensor, token: Tensor, vector: Tensor) -> Conditioning:
    """SV3D's: every view of the orbit is told the same image.

    Args:
        latent: of the image, [c, h, w].
        token: of the image, [d].
        vector: [F, width].
    """
    F = len(vector)
    return Conditioning(latent.expand(F, -1, -1, -1), token.expand(F, -1), vector)


def grid_conditioning(
    latents: Tensor, tokens: Tensor, vector: Tensor, reference: Tensor
) -> Conditioning:
    """SV4D's: every view of a time is told the input video's frame of that time.

    Args:
        latents: of the input video's frames, [T, c, h, w].
        tokens: of the same, [T, d].
        vector: of the V views, the same at every time, [V, width].
        reference: latents of the V reference views, [V, c, h, w].
    """
    T, V = len(tokens), len(vector)
    return Conditioning(latents.repeat_interleave(V, dim=0), tokens, vector.repeat(T, 1), reference)


def without_image(conditioning: Conditioning, told_sigma: int = SIGMA_WIDTH) -> Conditioning:
    """What guidance leads away from: the cameras alone.

    SV4D's augmentation comes out of the same embedder as the image and vanishes with it; SV3D's has
    an embedder of its own and stays.

    Args:
        conditioning: of SV3D (without reference) or SV4D.
        told_sigma: width of the vector's first part.
    """
    vector, reference = conditioning.vector, conditioning.reference
    if reference is not None:
        vector = torch.cat([torch.zeros_like(vector[:, :told_sigma]), vector[:, told_sigma:]], -1)
        reference = torch.zeros_like(reference)
    return Conditioning(
        torch.zeros_like(conditioning.concat),
        torch.zeros_like(conditioning.context),
        vector,
        reference,
    )


def polar_rad(elevations_deg: Sequence[float]) -> Tensor:
    """Polar angles of elevations above the horizon, float64, [len]."""
    return torch.tensor([math.radians(90.0 - value) for value in elevations_deg]).double()


def relative_polar_rad(elevations_deg: Sequence[float], input_elevation_deg: float) -> Tensor:
    """SV4D 2.0's polar angles: π/2 at the elevation of the input view, float64, [len]."""
    difference = polar_rad(elevations_deg) - polar_rad([input_elevation_deg])
    return (difference + math.pi / 2) % (2 * math.pi)


def azimuth_rad(azimuths_deg: Sequence[float]) -> Tensor:
    """Azimuths in [0, 2π), float64, [len]."""
    return torch.tensor([math.radians(value % 360.0) for value in azimuths_deg]).double()
