"""The grid: images of a moving object from V cameras at T times, and the names of its axes.

Letters: V cameras, T times, M images, H × W pixels. A full grid has M = V · T images in view-major
order; a sparse one (D-NeRF's one camera for each image) has fewer. Pixels stay 8-bit RGBA with
straight alpha: a 16 × 21 grid of 576² takes 446 MB so, and four times that as floats. What it does
not know: files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera

WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Grid:
    """M posed images of a moving object.

    Attributes:
        cameras: V of them, all with the height and width of the images.
        times: in [0, 1], ascending, no two equal, float64, [T].
        images: RGBA, sRGB with straight alpha, uint8, [M, H, W, 4].
        view: index of each image's camera, [M].
        frame: index of each image's time, [M].
        fps: frames a second at which the T frames are meant to be played.
        alpha_known: False where images came without alpha and it was estimated.
        view_numbers: what files and reports call the cameras; 0 to V − 1 if left empty.
        frame_numbers: what files and reports call the times; 0 to T − 1 if left empty.
        input_view: index of the camera whose images were filmed, where those of the others were
            generated from them; None where no camera is truer than the rest.

    Raises:
        GridError: the parts do not fit together.
    """

    cameras: tuple[Camera, ...]
    times: np.ndarray
    images: np.ndarray
    view: np.ndarray
    frame: np.ndarray
    fps: float = 10.0
    alpha_known: bool = True
    view_numbers: tuple[int, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    input_view: int | None = None

    def __post_init__(self):
        if not self.view_numbers:
            object.__setattr__(self, "view_numbers", tuple(range(self.V)))
        if not self.frame_numbers:
            object.__setattr__(self, "frame_numbers", tuple(range(self.T)))
        _check_images(self)
        _check_times(self)
        _check_indices(self)

    @property
    def V(self) -> int:
        """Number of cameras."""
        return len(self.cameras)

    @property
    def T(self) -> int:
        """Number of times."""
        return len(self.times)

    @property
    def height(self) -> int:
        """Of every image in pixels."""
        return self.images.shape[1]

    @property
    def width(self) -> int:
        """Of every image in pixels."""
        return self.images.shape[2]

    @property
    def is_input(self) -> np.ndarray:
        """Which images belong to the input view, bool, [M]; none without an input view."""
        return self.view == (-1 if self.input_view is None else self.input_view)

    @property
    def is_full(self) -> bool:
        """Whether every camera has an image at every time."""
        return len(self.images) == self.V * self.T

    def __len__(self) -> int:
        return len(self.images)

    def at_frame(self, frame: int) -> np.ndarray:
        """Indices of the images of one time, in the order of their views."""
        indices = np.flatnonzero(self.frame == frame)
        return indices[np.argsort(self.view[indices])]

    def of_view(self, view: int) -> np.ndarray:
        """Indices of the images of one camera, in the order of their times."""
        indices = np.flatnonzero(self.view == view)
        return indices[np.argsort(self.frame[indices])]

    def index(self, view: int, frame: int) -> int:
        """Index of the image of one camera at one time.

        Raises:
            KeyError: the grid is sparse and has no such image.
        """
        found = np.flatnonzero((self.view == view) & (self.frame == frame))
        if len(found) == 0:
            raise KeyError((view, frame))
        return int(found[0])

    def image(self, view: int, frame: int) -> np.ndarray:
        """RGBA of one camera at one time, uint8, [H, W, 4]; raises as `index`."""
        return self.images[self.index(view, frame)]

    def subset(self, indices: np.ndarray) -> Grid:
        """The same cameras and times with only some of the images, by index."""
        return replace(
            self,
            images=self.images[indices],
            view=self.view[indices],
            frame=self.frame[indices],
        )

    def camera_of(self, index: int | np.integer) -> Camera:
        """The camera that took an image."""
        return self.cameras[self.view[index]]

    def time_of(self, index: int | np.integer) -> float:
        """The time in [0, 1] at which an image was taken."""
        return float(self.times[self.frame[index]])

    def over(
        self,
        background: Sequence[float] = WHITE,
        indices: Sequence[int] | np.ndarray | slice = slice(None),
    ) -> np.ndarray:
        """Some images over a plain colour.

        Args:
            background: sRGB in [0, 1].
            indices: which images; all by default.

        Returns:
            uint8, [len(indices), H, W, 3].
        """
        return composite(self.images[indices], background)


def composite(images: np.ndarray, background: Sequence[float] = WHITE) -> np.ndarray:
    """RGBA images over a plain colour, blended in sRGB as viewers do.

    Args:
        images: uint8, [..., H, W, 4].
        background: sRGB in [0, 1].

    Returns:
        uint8, [..., H, W, 3].
    """
    flat = images.reshape(-1, *images.shape[-3:])
    result = np.empty((*flat.shape[:-1], 3), dtype=np.uint8)
    colour = 255 * np.asarray(background, dtype=np.float32)
    for index, image in enumerate(flat):  # one by one: floats of all would not fit
        alpha = image[..., 3:].astype(np.float32) / 255
        result[index] = np.rint(image[..., :3] * alpha + colour * (1 - alpha))
    return result.reshape(*images.shape[:-1], 3)


def grid_from_views(
    cameras: Sequence[Camera],
    images: np.ndarray,
    fps: float = 10.0,
    alpha_known: bool = True,
    input_view: int | None = None,
) -> Grid:
    """A full grid whose T frames are evenly spaced over [0, 1].

    Args:
        cameras: V of them.
        images: uint8 RGBA, [V, T, H, W, 4].
        fps: frames a second.
        alpha_known: as in `Grid`.
        input_view: likewise.

    Raises:
        GridError: the parts do not fit together.
    """
    if images.ndim != 5 or len(images) != len(cameras):
        raise GridError(
            f"expected images [V={len(cameras)}, T, H, W, 4], found shape {images.shape}"
        )
    V, T = images.shape[:2]
    return Grid(
        cameras=tuple(cameras),
        times=frame_times(T),
        images=images.reshape(V * T, *images.shape[2:]),
        view=np.repeat(np.arange(V), T),
        frame=np.tile(np.arange(T), V),
        fps=fps,
        alpha_known=alpha_known,
        input_view=input_view,
    )


def frame_times(T: int) -> np.ndarray:
    """T times evenly spaced over [0, 1] with both ends; a single frame is at 0. float64, [T]."""
    return np.arange(T) / max(T - 1, 1)


def _check_images(grid: Grid) -> None:
    shape = grid.images.shape
    if grid.images.dtype != np.uint8 or grid.images.ndim != 4 or shape[-1] != 4:
        raise GridError(f"expected uint8 images [M, H, W, 4], found {grid.images.dtype} {shape}")
    if 0 in shape:
        raise GridError(f"a grid needs at least one image and one pixel, found shape {shape}")
    for view, camera in enumerate(grid.cameras):
        if (camera.height, camera.width) != shape[1:3]:
            raise GridError(
                f"camera {view} is of {camera.width}×{camera.height} pixels, the images of "
                f"{shape[2]}×{shape[1]}; all must be of one size"
            )


def _check_times(grid: Grid) -> None:
    times = grid.times
    if times.ndim != 1 or len(times) == 0 or not np.isfinite(times).all():
        raise GridError(f"expected T finite times, found {times}")
    if times[0] < 0 or times[-1] > 1 or (np.diff(times) <= 0).any():
        raise GridError(f"times must ascend within [0, 1], found {times}")
    if not (np.isfinite(grid.fps) and grid.fps > 0):
        raise GridError(f"fps must be a positive number, found {grid.fps}")


def _check_indices(grid: Grid) -> None:
    if (len(grid.view_numbers), len(grid.frame_numbers)) != (grid.V, grid.T):
        raise GridError("every camera and every time needs one number")
    if grid.input_view is not None and not 0 <= grid.input_view < grid.V:
        raise GridError(f"the input view must be within 0..{grid.V - 1}, found {grid.input_view}")
    for name, indices, count in (("view", grid.view, grid.V), ("frame", grid.frame, grid.T)):
        if indices.shape != (len(grid.images),):
            raise GridError(f"{name} has shape {indices.shape}, expected ({len(grid.images)},)")
        if indices.min() < 0 or indices.max() >= count:
            raise GridError(
                f"{name} must be within 0..{count - 1}, found {indices.min()}..{indices.max()}"
            )
    pairs, counts = np.unique(np.stack([grid.view, grid.frame], axis=1), axis=0, return_counts=True)
    if (counts > 1).any():
        view, frame = pairs[counts > 1][0]
        raise GridError(
            f"view {grid.view_numbers[view]} has more than one image of frame "
            f"{grid.frame_numbers[frame]} (time {grid.times[frame]:g}); expected one"
        )
