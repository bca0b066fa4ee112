"""Grids from one video per view, as other multi-view models write them.

SV4D and SV4D 2.0 write one MP4 per view and no cameras; their cameras have a horizontal field of
view of 33.8°, a distance of 2 and 576² pixels. Letters: V views, T frames, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import orbit_camera
from recon.grid.grid import Grid, grid_from_views
from recon.grid.matte import border_color, matte
from recon.media import read_video

SV4D_FOV_DEG = 33.8
SV4D_DISTANCE = 2.0


class ViewVideos(NamedTuple):
    """The frames of V videos of the same length and size.

    Attributes:
        images: RGBA, uint8, [V, T, H, W, 4].
        fps: frames per second of the first video.
        alpha_known: whether all videos had alpha; if not, it was estimated as in `read_grid`.
    """

    images: np.ndarray
    fps: float
    alpha_known: bool


def read_view_videos(paths: Sequence[str | Path]) -> ViewVideos:
    """Read one video per view.

    Raises:
        GridError: there are no videos, one cannot be read, or their lengths or sizes differ.
    """
    if not paths:
        raise GridError("expected at least one video, found none")
    videos = [read_video(path) for path in paths]
    T, height, width = videos[0].frames.shape[:3]
    for path, video in zip(paths, videos, strict=True):
        if video.frames.shape[:3] != (T, height, width):
            found = video.frames.shape
            raise GridError(
                f"{found[0]} frames of {found[2]}×{found[1]} pixels, but {paths[0]} has {T} of "
                f"{width}×{height}; all videos of a grid must have the same length and size",
                path,
            )
    if all(video.frames.shape[-1] == 4 for video in videos):
        return ViewVideos(np.stack([video.frames for video in videos]), videos[0].fps, True)
    return ViewVideos(_cut_out([video.frames[..., :3] for video in videos]), videos[0].fps, False)


def grid_from_videos(
    videos: Sequence[str | Path],
    azimuths_deg: Sequence[float],
    elevations_deg: Sequence[float],
    fov_deg: float = SV4D_FOV_DEG,
    distance: float = SV4D_DISTANCE,
    fps: float | None = None,
) -> Grid:
    """Make a full grid from videos whose cameras lie on a sphere and look at its center.

    Args:
        videos: one file per view, V of them.
        azimuths_deg: azimuth of each view, see `orbit_camera`, V of them.
        elevations_deg: elevation of each view, V of them, or one for all.
        fov_deg: horizontal field of view, in (0, 180).
        distance: distance of the cameras from the origin in world units.
        fps: frames per second; None: those of the first video.

    Raises:
        GridError: a video cannot be read, the videos do not match, or a number is not valid.
    """
    V = len(videos)
    elevations = list(elevations_deg) * (V if len(elevations_deg) == 1 else 1)
    if len(azimuths_deg) != V or len(elevations) != V:
        raise GridError(
            f"expected {V} azimuths and {V} elevations (or one for all) for {V} videos, found "
            f"{len(azimuths_deg)} and {len(elevations_deg)}"
        )
    if not np.isfinite([*azimuths_deg, *elevations, fov_deg, distance]).all():
        raise GridError("azimuths, elevations, field of view and distance must be finite numbers")
    if not 0 < fov_deg < 180 or distance <= 0:
        raise GridError(
            f"expected a field of view within (0, 180)° and a positive distance, found {fov_deg}° "
            f"and {distance}"
        )
    found = read_view_videos(videos)
    height, width = found.images.shape[2:4]
    cameras = [
        orbit_camera(azimuth, elevation, distance, fov_deg, height, width)
        for azimuth, elevation in zip(azimuths_deg, elevations, strict=True)
    ]
    return grid_from_views(cameras, found.images, fps or found.fps, found.alpha_known)


def _cut_out(videos: Sequence[np.ndarray]) -> np.ndarray:
    """Matte RGB videos with their common background; opaque if its color is not uniform."""
    images = np.full((len(videos), *videos[0].shape[:3], 4), 255, dtype=np.uint8)
    background = border_color(np.concatenate(videos))
    for video, target in zip(videos, images, strict=True):
        for index, frame in enumerate(video):
            target[index] = np.dstack([frame, target[index][..., 3]])
            if background is not None:
                target[index] = matte(frame, background)
    return images
