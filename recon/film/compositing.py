"""Drawing a scene over the video that it was made of, or over nothing, with alpha.

Letters: H × W pixels. Colors are sRGB and blended as such, as viewers do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from recon.errors import InputError
from recon.film.camera_paths import CameraPath, source_camera, source_frame_numbers
from recon.grid.cameras import Camera
from recon.grid.grid import composite
from recon.grid.video_thumbnails import thumbnail_difference, thumbnails_of
from recon.media import (
    frame_files,
    read_frame_files,
    read_video_times,
    shown_size,
    stream_video_frames,
)
from recon.rendering import render_gaussians
from recon.scene import Scene

ANOTHER_VIDEO = 0.25  # difference of thumbnails above which a warning is due

_log = logging.getLogger(__name__)


def render_rgba(scene: Scene, camera: Camera, time: float) -> np.ndarray:
    """Render an image with straight alpha, sRGB, uint8, [H, W, 4].

    Args:
        scene: the scene; it is rendered on its device.
        camera: any camera.
        time: time in [0, 1].
    """
    rgb, alpha = _premultiplied(scene, camera, time)
    straight = np.concatenate([rgb / np.maximum(alpha, 1e-6), alpha], axis=-1)
    return np.rint(255 * straight.clip(0, 1)).astype(np.uint8)


def render_over(scene: Scene, camera: Camera, time: float, image: np.ndarray) -> np.ndarray:
    """Render an image over another one.

    Args:
        scene: see `render_rgba`.
        camera: any camera.
        time: time in [0, 1].
        image: what lies behind, of any size, sRGB, uint8, [H', W', 3].

    Returns:
        sRGB, uint8, [H, W, 3].
    """
    size = (camera.width, camera.height)
    if image.shape[1::-1] != size:
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    rgb, alpha = _premultiplied(scene, camera, time)
    return np.rint(255 * rgb.clip(0, 1) + (1 - alpha) * image).clip(0, 255).astype(np.uint8)


class SourceVideo:
    """The video that a scene was made of, to be drawn over.

    If the scene was made of a single frame, but the video has more, a warning is logged.

    Args:
        scene: the scene.
        path: video, GIF, image or folder of images.

    Raises:
        InputError: The scene has no source camera, or the video cannot be read, is shorter or has
            another size than the one that the scene was made of.
    """

    def __init__(self, scene: Scene, path: str | Path):
        self.path = Path(path)
        self.background = scene.background
        self._source = source_camera(scene)
        camera = self._source.camera
        self.numbers = source_frame_numbers(self._source)
        self._files = frame_files(self.path) if self.path.is_dir() else None
        count = len(read_video_times(self.path) if self._files is None else self._files)
        if count <= self.numbers[-1]:
            raise InputError(
                f"expected the video that the scene was made of, with {self.numbers[-1] + 1} "
                f"frames or more, found {count}",
                self.path,
            )
        if len(self.numbers) == 1 and count > 1:
            _log.warning(
                "%s: the scene was made of a single image, so that only frame %d of the %d of the "
                "video is drawn over; is it another video?",
                self.path, self.numbers[0], count,
            )  # fmt: skip
        found = shown_size(self._files[0]) if self._files else self._first().shape[:2]
        if found != (camera.height, camera.width):
            raise InputError(
                f"expected the video that the scene was made of, with {camera.width}×"
                f"{camera.height} pixels, found {found[1]}×{found[0]}",
                self.path,
            )

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames that the scene was fitted to and those in between, in their order.

        After the last one, a warning is logged if it seems to be another video.

        Yields:
            sRGB, uint8, [H, W, 3]; what is transparent shows the scene's background.

        Raises:
            InputError: A frame is damaged or missing.
        """
        fitted = set(self._source.source_frames)
        thumbnails = []
        for number, image in zip(self.numbers, self._read(self.numbers), strict=True):
            if number in fitted:
                thumbnails.extend(thumbnails_of([image]))
            has_alpha = image.shape[-1] == 4
            yield composite(image, self.background) if has_alpha else image
        self._compare(np.stack(thumbnails))

    def _compare(self, thumbnails: np.ndarray) -> None:
        """Log a warning if thumbnails are not those of the video that the scene was made of."""
        expected = self._source.thumbnails
        if expected is None:  # the grid is of an older version
            return
        difference = thumbnail_difference(thumbnails, expected)
        if difference > ANOTHER_VIDEO:
            _log.warning(
                "%s: its frames differ from those of the video that the scene was made of, by "
                "%.0f %% of their contrast; is it another video, or another part of it?",
                self.path, 100 * difference,
            )  # fmt: skip

    def _first(self) -> np.ndarray:
        return next(iter(self._read(self.numbers[:1])))

    def _read(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        if self._files is None:
            yield from stream_video_frames(self.path, numbers)
        else:
            for number in numbers:
                yield read_frame_files([self._files[number]])[0]


def render_over_video(scene: Scene, path: CameraPath, video: SourceVideo) -> Iterator[np.ndarray]:
    """Render each camera of a path over the frame of the video with the same number.

    Args:
        scene: the scene.
        path: a path as "source" plans it, one camera for each frame of the video.
        video: the video.

    Yields:
        F images, sRGB, uint8, [H, W, 3].
    """
    for camera, time, image in zip(path.cameras, path.times, video.frames(), strict=True):
        yield render_over(scene, camera, float(time), image)


def _premultiplied(scene: Scene, camera: Camera, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Render color times alpha, [H, W, 3], and alpha, [H, W, 1], both in [0, 1]."""
    if not 0 <= time <= 1:
        raise InputError(f"expected a time in [0, 1], found {time}")
    with torch.no_grad():
        found = render_gaussians(scene.at(time), [camera], (0.0, 0.0, 0.0))
    return found.rgb[0].cpu().numpy(), found.alpha[0, ..., None].cpu().numpy()
