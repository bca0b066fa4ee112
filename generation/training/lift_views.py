"""A loss through other views: the predicted solid against the true one, both drawn from elsewhere.

    layers along the rays ──▶ rods: Gaussians along each interval inside ──rasterize──▶ a view

Depths compared pixel by pixel say nothing about the outline that they have from the side. The true
layers are drawn in the same coarse way as the predicted ones, so that the drawing has no bias.

Letters: B samples, S × S pixels of the layers and of the views, P pixels of the object, R rods.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from generation.lift.lifting import DISTANCE, FOV_DEG
from generation.lift.network import LiftPrediction
from generation.surface_layers import BACK, FIRST_EXIT, FRONT, LAST_ENTRY
from generation.training.clip_sampling import SampleRng
from generation.training.lift_loss import LiftTarget
from recon.grid import Camera, orbit_camera
from recon.rasterizers.dispatch import rasterize
from recon.rotations import matrices_to_quats

OPACITY = 0.95
WIDTH = 0.55  # standard deviation across a rod, in pixels
LENGTH = 0.13  # standard deviation along a rod, over the length of its interval
SHARES = 0.2, 0.5, 0.8  # places of the rods in an interval


class _Interval(NamedTuple):
    """A part of a ray between two layers, and the layers whose colors its rods have."""

    first: int
    last: int
    tints: tuple[int, int, int]


_INTERVALS = (
    _Interval(FRONT, FIRST_EXIT, (FRONT, FIRST_EXIT, FIRST_EXIT)),
    _Interval(FIRST_EXIT, LAST_ENTRY, (FRONT, FRONT, BACK)),  # inside only where there is no gap
    _Interval(LAST_ENTRY, BACK, (LAST_ENTRY, LAST_ENTRY, BACK)),
)


class _Layers(NamedTuple):
    """Layers of one sample, see `LiftPrediction`, but with the probability of the gap.

    Attributes:
        depth: [4, S, S].
        gap: [S, S].
        color: of all four layers, [4, 3, S, S].
        mask: whether the ray meets the object, bool, [S, S].
    """

    depth: Tensor
    gap: Tensor
    color: Tensor
    mask: Tensor


def random_cameras(rng: SampleRng, elevations_deg: tuple[float, float]) -> Tensor:
    """Draw an azimuth from that of the layers, and an elevation, for each sample; radians, [B, 2].

    Args:
        rng: source of the random numbers.
        elevations_deg: lowest and highest elevation.
    """
    low, high = (math.radians(each) for each in elevations_deg)
    share = rng.uniform(2)
    return torch.stack([2 * math.pi * share[:, 0], low + (high - low) * share[:, 1]], 1)


@torch.autocast("cpu", enabled=False)
@torch.autocast("cuda", enabled=False)
def view_errors(
    prediction: LiftPrediction,
    target: LiftTarget,
    front: Tensor,
    elevation: Tensor,
    cameras: Tensor,
) -> dict[str, Tensor]:
    """Compare a view of each predicted solid with the same view of the true one.

    Args:
        prediction: the predicted layers.
        target: the true layers.
        front: sRGB colors of the front in [0, 1], [B, 3, S, S].
        elevation: elevation of the layers' camera in radians, [B].
        cameras: see `random_cameras`, [B, 2].

    Returns:
        "silhouette": 1 minus the overlap of the silhouettes over their union. "appearance": sum of
        the absolute differences of the colors, over that union. [B] each.
    """
    gap = prediction.gap.sigmoid()
    color, true_color = (
        torch.cat([front[:, None], hidden], 1) for hidden in (prediction.color, target.color)
    )
    silhouette, appearance = [], []
    size = front.shape[-1]
    for b, (azimuth, other_elevation) in enumerate(cameras.tolist()):
        input_camera = _camera(0.0, float(elevation[b]), size)
        camera = _camera(azimuth, other_elevation, size)
        mask = target.mask[b]
        rgb, alpha = _draw(
            _Layers(prediction.depth[b], gap[b], color[b], mask), input_camera, camera
        )
        with torch.no_grad():
            true_rgb, true_alpha = _draw(
                _Layers(target.depth[b], target.gap[b].float(), true_color[b], mask),
                input_camera,
                camera,
            )
        union = torch.maximum(alpha, true_alpha).sum().clamp_min(1.0)
        silhouette.append(1 - torch.minimum(alpha, true_alpha).sum() / union)
        appearance.append((rgb - true_rgb).abs().mean(-1).sum() / union)
    return {
        "silhouette": torch.stack(silhouette),
        "appearance": torch.stack(appearance),
    }


def _draw(layers: _Layers, input_camera: Camera, camera: Camera) -> tuple[Tensor, Tensor]:
    """Draw the solid from another camera: colors over black [S, S, 3], and alpha [S, S]."""
    like = layers.depth
    pose = like.new_tensor(input_camera.T_world_camera)
    row, column = layers.mask.nonzero(as_tuple=True)
    x = (column + 0.5 - input_camera.cx) / input_camera.fl_x
    y = (row + 0.5 - input_camera.cy) / input_camera.fl_y
    rays = torch.stack([x, -y, -torch.ones_like(x)], 1) @ pose[:3, :3].T  # at depth 1
    depth = DISTANCE + layers.depth[:, row, column]
    gap, color = layers.gap[row, column], layers.color[:, :, row, column].movedim(1, 2)
    opaque = torch.full_like(gap, OPACITY)
    far, length, opacity, tint = [], [], [], []
    for first, last, tints in _INTERVALS:
        span = depth[last] - depth[first]
        for share, layer in zip(SHARES, tints, strict=True):
            far.append(depth[first] + share * span)
            length.append(LENGTH * span)
            opacity.append(opaque * (1 - gap) if first == FIRST_EXIT else opaque)
            tint.append(color[layer])
    distance = torch.stack(far)  # [R, P]
    width = WIDTH / input_camera.fl_x * distance.detach()
    scales = torch.stack([width, width, torch.maximum(torch.stack(length), width)], -1)
    means = pose[:3, 3] + distance[..., None] * rays
    quats = _quats_along(rays).expand(len(means), -1, -1)
    drawn = rasterize(
        means.flatten(0, 1),
        quats.flatten(0, 1),
        scales.flatten(0, 1),
        torch.cat(opacity),
        torch.cat(tint),
        like.new_tensor(camera.viewmat)[None],
        like.new_tensor(camera.K)[None],
        camera.height,
        camera.width,
    )
    return drawn.rgb[0], drawn.alpha[0]


def _quats_along(rays: Tensor) -> Tensor:
    """Return rotations from the z axis to rays that are not vertical, [P, 4]."""
    z = F.normalize(rays, dim=-1)
    x = F.normalize(torch.linalg.cross(z.new_tensor([0.0, 0.0, 1.0]).expand_as(z), z), dim=-1)
    return matrices_to_quats(torch.stack([x, torch.linalg.cross(z, x), z], -1))


def _camera(azimuth: float, elevation: float, size: int) -> Camera:
    azimuth_deg, elevation_deg = math.degrees(azimuth), math.degrees(elevation)
    return orbit_camera(azimuth_deg, elevation_deg, DISTANCE, FOV_DEG, size, size)
