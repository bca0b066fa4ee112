"""The grid in memory: images of a moving object from V cameras at T times.

Letters: V cameras, T times, M images, H × W pixels. A full grid has M = V · T images in view-major
order; a sparse one (D-NeRF has one camera per image) has fewer. Pixels are 8-bit RGBA with straight
alpha: a 16 × 21 grid of 576² takes 446 MB, four times that as floats. Those of a large grid that
was read are in a temporary file, see `image_storage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera
from recon.grid.initial_gaussians import InitialGaussians
from recon.grid.source_camera import SourceCamera

WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Grid:
    """M posed images of a moving object.

    Attributes:
        cameras: V cameras with the height and width of the images.
        times: times in [0, 1], strictly ascending, float64, [T].
        images: RGBA, sRGB with straight alpha, uint8, [M, H, W, 4].
        view: index of each image's camera, [M].
        frame: index of each image's time, [M].
        fps: playback rate of the T frames in frames per second.
        alpha_known: whether the images had an alpha channel; if not, alpha was estimated.
        view_numbers: view numbers in files and reports, V of them; empty: 0 to V − 1.
        frame_numbers: frame numbers in files and reports, T of them; empty: 0 to T − 1.
        input_view: index of the input view, from which the other views were generated; None if
            the grid was not generated.
        initial_gaussians: Gaussians of one frame that a fit can start from; None: it starts from
            the visual hull.
        R_world_source: rotation to the world (+Z up) from that of the files that the grid was
            made of, float64, [3, 3].
        source_camera: the camera of the video that the input view was cut from; None: there is
            none, or it is not known.

    Raises:
        GridError: shapes, indices or times are not valid.
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
    initial_gaussians: InitialGaussians | None = None
    R_world_source: np.ndarray = field(default_factory=lambda: np.eye(3))
    source_camera: SourceCamera | None = None

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
        """Image height in pixels."""
        return self.images.shape[1]

    @property
    def width(self) -> int:
        """Image width in pixels."""
        return self.images.shape[2]

    @property
    def is_input(self) -> np.ndarray:
        """Whether each image belongs to the input view, bool, [M]; False without an input view."""
        return self.view == (-1 if self.input_view is None else self.input_view)

    @property
    def is_full(self) -> bool:
        """Whether every camera has an image at every time."""
        return len(self.images) == self.V * self.T

    def __len__(self) -> int:
        return len(self.images)

    def at_frame(self, frame: int) -> np.ndarray:
        """Return the indices of the images of one time, in the order of their views."""
        indices = np.flatnonzero(self.frame == frame)
        return indices[np.argsort(self.view[indices])]

    def of_view(self, view: int) -> np.ndarray:
        """Return the indices of the images of one camera, in the order of their times."""
        indices = np.flatnonzero(self.view == view)
        return indices[np.argsort(self.frame[indices])]

    def index(self, view: int, frame: int) -> int:
        """Return the index of the image of one camera at one time.

        Raises:
            KeyError: the grid is sparse and has no such image.
        """
        found = np.flatnonzero((self.view == view) & (self.frame == frame))
        if len(found) == 0:
            raise KeyError((view, frame))
        return int(found[0])

    def image(self, view: int, frame: int) -> np.ndarray:
        """Return the image of one camera at one time, RGBA, uint8, [H, W, 4]; see `index`."""
        return self.images[self.index(view, frame)]

    def subset(self, indices: np.ndarray) -> Grid:
        """Return a grid with some of the images, by index, and all cameras and times."""
        return replace(
            self,
            images=self.images[indices],
            view=self.view[indices],
            frame=self.frame[indices],
        )

    def camera_of(self, index: int | np.integer) -> Camera:
        """Return the camera of an image."""
        return self.cameras[self.view[index]]

    def time_of(self, index: int | np.integer) -> float:
        """Return the time of an image, in [0, 1]."""
        return float(self.times[self.frame[index]])

    def over(
        self,
        background: Sequence[float] = WHITE,
        indices: Sequence[int] | np.ndarray | slice = slice(None),
    ) -> np.ndarray:
        """Composite images over a uniform color.

        Args:
            background: sRGB in [0, 1].
            indices: indices of the images; all by default.

        Returns:
            uint8, [len(indices), H, W, 3].
        """
        return composite(self.images[indices], background)


def composite(images: np.ndarray, background: Sequence[float] = WHITE) -> np.ndarray:
    """Composite RGBA images over a uniform color, in sRGB as viewers do.

    Args:
        images: uint8, [..., H, W, 4].
        background: sRGB in [0, 1].

    Returns:
        uint8, [..., H, W, 3].
    """
    flat = images.reshape(-1, *images.shape[-3:])
    result = np.empty((*flat.shape[:-1], 3), dtype=np.uint8)
    color = 255 * np.asarray(background, dtype=np.float32)
    for index, image in enumerate(
        flat
    ):  # one by one, because all images as floats may not fit into memory
        alpha = image[..., 3:].astype(np.float32) / 255
        result[index] = np.rint(image[..., :3] * alpha + color * (1 - alpha))
    return result.reshape(*images.shape[:-1], 3)


def grid_from_views(
    cameras: Sequence[Camera],
    images: np.ndarray,
    fps: float = 10.0,
    alpha_known: bool = True,
    input_view: int | None = None,
    *,
    times: np.ndarray | None = None,
    R_world_source: np.ndarray | None = None,
) -> Grid:
    """Make a full grid of V × T images.

    Args:
        cameras: V cameras.
        images: RGBA, uint8, [V, T, H, W, 4].
        fps: frames per second.
        alpha_known: see `Grid`.
        input_view: see `Grid`.
        times: see `Grid`; None: evenly spaced over [0, 1].
        R_world_source: see `Grid`; None: the identity.

    Raises:
        GridError: shapes, times or the input view are not valid.
    """
    if images.ndim != 5 or len(images) != len(cameras):
        raise GridError(
            f"expected images [V={len(cameras)}, T, H, W, 4], found shape {images.shape}"
        )
    V, T = images.shape[:2]
    return Grid(
        cameras=tuple(cameras),
        times=frame_times(T) if times is None else times,
        images=images.reshape(V * T, *images.shape[2:]),
        view=np.repeat(np.arange(V), T),
        frame=np.tile(np.arange(T), V),
        fps=fps,
        alpha_known=alpha_known,
        input_view=input_view,
        R_world_source=np.eye(3) if R_world_source is None else R_world_source,
    )


def frame_times(T: int) -> np.ndarray:
    """Return T times evenly spaced over [0, 1], both ends included, float64, [T]; 0 if T is 1."""
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
                f"camera {view} has {camera.width}×{camera.height} pixels, the images have "
                f"{shape[2]}×{shape[1]}; all must have the same size"
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
        raise GridError(
            f"expected {grid.V} view_numbers and {grid.T} frame_numbers, found "
            f"{len(grid.view_numbers)} and {len(grid.frame_numbers)}"
        )
    if grid.input_view is not None and not 0 <= grid.input_view < grid.V:
        raise GridError(f"the input view must be within 0..{grid.V - 1}, found {grid.input_view}")
    start = grid.initial_gaussians
    if start is not None and not 0 <= start.frame < grid.T:
        raise GridError(
            f"the frame of the initial Gaussians must be within 0..{grid.T - 1}, found "
            f"{start.frame}"
        )
    for name, indices, count in (("view", grid.view, grid.V), ("frame", grid.frame, grid.T)):
        if indices.shape != (len(grid.images),):
            raise GridError(
                f"expected a {name} index for each of {len(grid.images)} images, found shape "
                f"{indices.shape}"
            )
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
