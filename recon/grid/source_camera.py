"""The source camera: where the object was in the video that a grid was made of.

    frame of the video ──square cut out around the object──▶ image of the input view

A square is a window into the frame. The camera of the input view, with its focal length in pixels
of the video and its principal point where the middle of the square was, projects the object to
where it is in the video. If the square followed the object, the principal point moves.
Letters: T frames of the grid, H × W pixels of the video, thumbnails of S × S.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recon.grid.cameras import Camera, camera_from_json, camera_to_json
from recon.media import MAX_SIDE

THUMBNAIL_SIDE = 12


@dataclass(frozen=True)
class SourceCamera:
    """A camera whose image is the video and whose principal point may move.

    Attributes:
        camera: the camera in the first frame, with the height and width of the video.
        times: times of the frames in [0, 1], ascending, float64, [T].
        principal_points: principal point in each frame in pixels of the video (x, y), from the
            upper left corner, float64, [T, 2].
        source_frames: frame number in the video of each frame, ascending, T of them.
        thumbnails: those of the frames of the video, see `recon.grid.video_thumbnails`, uint8,
            [T, S, S, 3]; None: not known.

    Raises:
        ValueError: the numbers do not match, are out of range, or are not finite.
    """

    camera: Camera
    times: np.ndarray
    principal_points: np.ndarray
    source_frames: tuple[int, ...]
    thumbnails: np.ndarray | None = None

    def __post_init__(self):
        T = len(self.times)
        shapes = np.shape(self.times), np.shape(self.principal_points), len(self.source_frames)
        if T == 0 or shapes != ((T,), (T, 2), T):
            raise ValueError(
                f"expected T times, principal points and source frames, found shapes {shapes}"
            )
        if not (np.diff(self.times) > 0).all() or self.times[0] < 0 or self.times[-1] > 1:
            raise ValueError(f"times must ascend within [0, 1], found {list(self.times)}")
        if self.source_frames[0] < 0 or not (np.diff(self.source_frames) > 0).all():
            raise ValueError(
                f"source frames must ascend from 0 or more, found {self.source_frames}"
            )
        shape = (T, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
        if self.thumbnails is not None and self.thumbnails.shape != shape:
            raise ValueError(f"expected thumbnails {shape}, found {self.thumbnails.shape}")
        if not np.isfinite(self.principal_points).all():
            raise ValueError("the principal points contain NaN or infinite numbers")
        camera = self.camera
        if not 0 < min(camera.fl_x, camera.fl_y) <= max(camera.fl_x, camera.fl_y) < np.inf:
            raise ValueError(f"focal lengths must be positive, found {camera.fl_x}, {camera.fl_y}")
        if (
            not 1
            <= min(camera.height, camera.width)
            <= max(camera.height, camera.width)
            <= MAX_SIDE
        ):
            raise ValueError(
                f"expected a video of 1 to {MAX_SIDE} pixels per side, found "
                f"{camera.width}×{camera.height}"
            )

    def at(self, time: float) -> Camera:
        """Return the camera at a time in [0, 1]; between frames it is interpolated."""
        cx, cy = (float(np.interp(time, self.times, x)) for x in self.principal_points.T)
        return replace(self.camera, cx=cx, cy=cy)

    def time_of(self, source_frame: int) -> float:
        """Return the time of a frame of the video, those between frames of the grid included."""
        return float(np.interp(source_frame, self.source_frames, self.times))

    def with_camera(self, camera: Camera) -> SourceCamera:
        """Return a source camera with another pose, such as in another world."""
        return replace(self, camera=camera)


def source_camera_to_json(source: SourceCamera) -> dict[str, Any]:
    """Convert a source camera to the keys of a camera, and `frames` with those that change."""
    frames: list[dict[str, Any]] = [
        {"time": float(time), "source_frame": int(number), "cx": float(cx), "cy": float(cy)}
        for time, number, (cx, cy) in zip(
            source.times, source.source_frames, source.principal_points, strict=True
        )
    ]
    if source.thumbnails is not None:
        for frame, thumbnail in zip(frames, source.thumbnails, strict=True):
            frame["thumbnail"] = base64.b64encode(thumbnail.tobytes()).decode()
    return camera_to_json(source.camera) | {"frames": frames}


def source_camera_from_json(values: Mapping[str, Any] | None) -> SourceCamera | None:
    """Convert the output of `source_camera_to_json` back; None stays None.

    Raises:
        ValueError: a key is missing, or a value is not valid.
    """
    if values is None:
        return None
    try:
        frames = values["frames"]
        return SourceCamera(
            camera_from_json(values),
            np.array([frame["time"] for frame in frames], dtype=np.float64),
            np.array([(frame["cx"], frame["cy"]) for frame in frames], dtype=np.float64),
            tuple(int(frame["source_frame"]) for frame in frames),
            _thumbnails_from_json([frame.get("thumbnail") for frame in frames]),
        )
    except KeyError as error:
        raise ValueError(f"`source_camera`: the key {error} is missing") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`source_camera`: {error}") from error


def _thumbnails_from_json(texts: list[Any]) -> np.ndarray | None:
    if None in texts:
        return None
    data = b"".join(base64.b64decode(text, validate=True) for text in texts)
    shape = (len(texts), THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
    return np.frombuffer(data, np.uint8).reshape(shape)
