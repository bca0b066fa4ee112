"""Cameras of views that come as clips: on a sphere, or from the JSON of another program.

Read are 4DAnyone's `cameras.json` and the JSONs of `recon.grid.transforms` (nerfstudio, D-NeRF,
this project). Letters: V views.

Source of 4DAnyone's keys: github.com/ant-research/4DAnyone, docs/output.md at commit f7da3ae.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import OPENGL_FROM_OPENCV, Camera, orbit_camera, rigid_pose
from recon.grid.grouping import DECIMALS
from recon.grid.image_files import ImageFiles
from recon.grid.intrinsics import Intrinsics, parse_intrinsics
from recon.grid.transforms import PosedImage, read_json, read_transforms

SV4D_FOV_DEG = 33.8
SV4D_DISTANCE = 2.0
FOUR_D_ANYONE_UP = "y"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ViewCamera:
    """The camera of a view whose images may have any size.

    Attributes:
        pose: camera-to-world matrix, OpenGL axes, float64, [4, 4].
        intrinsics: focal length, and size to which it belongs.
        names: names of the view's files, without folders and suffixes; several are possible.
        video: path of the view's video as written, relative to the folder of the JSON, or None.
    """

    pose: np.ndarray
    intrinsics: Intrinsics
    names: frozenset[str] = frozenset()
    video: str | None = None

    def camera(self, height: int, width: int) -> Camera:
        """Make the camera of images of known size, see `Intrinsics.camera`."""
        return self.intrinsics.camera(self.pose, height, width)


@dataclass(frozen=True)
class ViewCameras:
    """Cameras of views, in the order of the views.

    Attributes:
        cameras: V cameras.
        up: axis that points up in their world, if it is known, see `recon.grid.orientation`.
        path: the JSON they were read from.
    """

    cameras: tuple[ViewCamera, ...]
    up: str | None = None
    path: Path | None = None

    def clips(self) -> list[Path]:
        """Return the files of the views that the JSON names.

        Raises:
            GridError: it does not name them, or a path is not valid.
        """
        videos = [camera.video for camera in self.cameras if camera.video is not None]
        if self.path is None or len(videos) < len(self.cameras):
            raise GridError(
                "these cameras name no videos; pass a video or folder of images per view",
                self.path,
            )
        files = ImageFiles(self.path)
        return [files.find(video) for video in videos]

    def of_views(self, names: Sequence[str]) -> tuple[ViewCamera, ...]:
        """Return the cameras of views: by name if all names are known, else in their order.

        Args:
            names: names of the views' files, without folders and suffixes.

        Raises:
            GridError: the names do not say which camera belongs to which view, and the numbers of
                both differ.
        """
        found = [[c for c in self.cameras if name in c.names] for name in names]
        if all(len(cameras) == 1 for cameras in found):
            chosen = tuple(cameras[0] for cameras in found)
            if len({id(camera) for camera in chosen}) == len(chosen):
                return chosen
        if len(names) != len(self.cameras):
            raise GridError(
                f"expected one camera for each of {len(names)} views, found {len(self.cameras)}; "
                "name the videos or folders as in the JSON to use some of its cameras",
                self.path,
            )
        if self.path is not None:
            _log.warning(
                "%s does not name the views %s …; its cameras are taken in their order",
                self.path, names[0],
            )  # fmt: skip
        return self.cameras


def orbit_view_cameras(
    count: int,
    azimuths_deg: Sequence[float] | None = None,
    elevations_deg: Sequence[float] = (0.0,),
    fov_deg: float = SV4D_FOV_DEG,
    distance: float = SV4D_DISTANCE,
) -> ViewCameras:
    """Place cameras on a sphere around the origin, looking at it, in one ring or several.

    Args:
        count: number of views, V.
        azimuths_deg: azimuth of each view, see `orbit_camera`, V of them, or those of one ring;
            None: evenly spaced on each ring, the first in front.
        elevations_deg: one for all views, one for each view, or one for each of several rings of
            equally many views, of which the lowest view numbers are the first ring.
        fov_deg: horizontal field of view, in (0, 180).
        distance: distance of the cameras from the origin in world units.

    Raises:
        GridError: the numbers do not match, or are out of range.
    """
    given = len(elevations_deg)
    if given == 0 or count % given != 0:
        raise GridError(
            f"expected one elevation, one for each of {count} views, or one for each ring of "
            f"equally many views, found {given}"
        )
    in_ring = count if given in (1, count) else count // given
    if azimuths_deg is None:
        azimuths_deg = [360.0 * k / in_ring for k in range(in_ring)]
    if len(azimuths_deg) not in (count, in_ring):
        rings = "" if in_ring == count else f" (or {in_ring}, for each ring)"
        raise GridError(f"expected {count} azimuths{rings}, found {len(azimuths_deg)}")
    if not np.isfinite([*azimuths_deg, *elevations_deg, fov_deg, distance]).all():
        raise GridError("azimuths, elevations, field of view and distance must be finite numbers")
    if not 0 < fov_deg < 180 or distance <= 0:
        raise GridError(
            f"expected a field of view within (0, 180)° and a positive distance, found {fov_deg}° "
            f"and {distance}"
        )
    azimuths = np.tile(azimuths_deg, count // len(azimuths_deg))
    elevations = np.repeat(elevations_deg, count // given)
    intrinsics = Intrinsics({"camera_angle_x": float(np.radians(fov_deg))})
    poses = [
        orbit_camera(azimuth, elevation, distance, fov_deg, 1, 1).T_world_camera
        for azimuth, elevation in zip(azimuths, elevations, strict=True)
    ]
    return ViewCameras(tuple(ViewCamera(pose, intrinsics) for pose in poses), up="z")


def read_view_cameras(path: str | Path) -> ViewCameras:
    """Read the cameras of a JSON, one for each view.

    Raises:
        GridError: the file is missing, not JSON, of no known kind, or a value is not valid.
    """
    path = Path(path)
    values = read_json(path)
    if isinstance(values, dict) and isinstance(values.get("cameras"), list):
        return _of_4danyone(values, path)
    if isinstance(values, dict) and "frames" in values:
        return _of_transforms(path)
    raise GridError(
        "expected `frames` (nerfstudio, D-NeRF) or `cameras` (4DAnyone) with camera matrices, "
        "found neither",
        path,
    )


def _of_4danyone(values: Mapping[str, Any], path: Path) -> ViewCameras:
    shared = {key: value for key, value in values.items() if key != "cameras"}
    cameras = []
    for index, entry in enumerate(values["cameras"]):
        try:
            if not isinstance(entry, dict) or "camera_to_world" not in entry:
                raise ValueError("expected an object with `camera_to_world`")
            video = entry.get("video")
            if video is not None and not isinstance(video, str):
                raise ValueError(f"expected `video` to be a path, found {video!r}")
            pose = rigid_pose(entry["camera_to_world"]) @ OPENGL_FROM_OPENCV
            names = frozenset([_stem(video)] if video else [])
            cameras.append(ViewCamera(pose, parse_intrinsics(entry, shared), names, video))
        except (TypeError, ValueError) as error:
            raise GridError(f"cameras[{index}]: {error}", path) from error
    if not cameras:
        raise GridError("`cameras` is empty; expected one camera for each view", path)
    return ViewCameras(tuple(cameras), FOUR_D_ANYONE_UP, path)


def _of_transforms(path: Path) -> ViewCameras:
    """Group the images of a JSON by camera, in the order of their first image."""
    transforms = read_transforms(path)
    groups: dict[tuple[float, ...], list[PosedImage]] = {}
    for entry in transforms.entries:
        stated = tuple(entry.intrinsics.values.get(k, 0.0) for k in ("fl_x", "fl_y", "cx", "cy"))
        numbers = np.round([*entry.pose.ravel(), *stated], DECIMALS) + 0.0
        groups.setdefault(tuple(numbers.tolist()), []).append(entry)
    cameras = [
        ViewCamera(
            entries[0].pose,
            entries[0].intrinsics,
            frozenset(name for entry in entries for name in _names(entry.file_path)),
        )
        for entries in groups.values()
    ]
    return ViewCameras(tuple(cameras), "z" if transforms.is_ours else None, path)


def _names(file_path: str) -> list[str]:
    """Return the names by which a view may be known: of the image, and of its folder."""
    parts = file_path.replace("\\", "/").split("/")
    return [_stem(parts[-1]), *parts[-2:-1]]


def _stem(file_path: str) -> str:
    return Path(file_path.replace("\\", "/")).stem
