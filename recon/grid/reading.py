"""Reading grids: folders of this project, of D-NeRF and of nerfstudio, or one of their JSONs.

    JSON ─▶ entries ─▶ files inside the folder ─▶ sizes ─▶ cameras and times in groups ─▶ pixels

Letters: V cameras, T times, M images. All cheap checks come before the first pixel is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera
from recon.grid.grid import Grid
from recon.grid.initial_gaussians import InitialGaussians, read_initial_gaussians
from recon.grid.matte import border_color, matte
from recon.grid.transforms import PosedImage, Transforms, read_transforms
from recon.media import image_size, read_image

MAX_GRID_BYTES = 8 * 2**30
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
DECIMALS = 6  # poses and times are compared after rounding, as JSON files contain rounded numbers


def read_grid(path: str | Path, split: str = "train") -> Grid:
    """Read posed images.

    Example:
        >>> grid = read_grid("examples/robot")
        >>> grid.V, grid.T

    Args:
        path: a folder with `transforms.json` or `transforms_{train,val,test}.json`, or such a file.
        split: "train", "val" or "test"; a plain `transforms.json` is "train". Ignored if `path` is
            a file.

    Returns:
        The grid, view-major. Images without `view` are grouped by camera, and those without `frame`
        by time; without `time` the grid has one frame. If images have no alpha, it is estimated
        from a background of uniform color; over any other background they stay opaque.

    Raises:
        GridError: a file is missing or not valid.
    """
    json_path = _find_json(Path(path), split)
    transforms = read_transforms(json_path)
    entries = transforms.entries
    files = [_inside(json_path, entry.file_path) for entry in entries]
    height, width = _common_size(files)
    cameras = [_camera(entry, height, width, json_path) for entry in entries]
    try:
        views, frames = group_views(entries, cameras), group_frames(entries)
        order = np.lexsort((frames.of_image, views.of_image))
        images = _read_images([files[i] for i in order], height, width)
        images, alpha_known = _with_alpha(images)
        return Grid(
            cameras=tuple(cameras[i] for i in views.first),
            times=frames.times,
            images=images,
            view=views.of_image[order],
            frame=frames.of_image[order],
            fps=transforms.fps,
            alpha_known=alpha_known,
            view_numbers=views.numbers,
            frame_numbers=frames.numbers,
            input_view=_input_view(transforms.input_view, views.numbers),
            initial_gaussians=_initial_gaussians(transforms, frames.numbers, json_path),
        )
    except ValueError as error:
        raise GridError(str(error), json_path) from error


def _input_view(number: int | None, numbers: tuple[int, ...]) -> int | None:
    """Return the index of the camera with a number; None if it is not in this split."""
    return numbers.index(number) if number in numbers else None


def _initial_gaussians(
    transforms: Transforms, numbers: tuple[int, ...], json_path: Path
) -> InitialGaussians | None:
    """Read the Gaussians that a fit starts from; None if their frame is not in this split."""
    if transforms.initial_gaussians is None:
        return None
    file_path, number = transforms.initial_gaussians
    if number not in numbers:
        return None
    return read_initial_gaussians(_inside(json_path, file_path), numbers.index(number))


def has_split(path: str | Path, split: str) -> bool:
    """Return whether a grid folder, or the folder of a grid's JSON, has a split."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    return any((folder / name).is_file() for name in _json_names(split))


def _json_names(split: str) -> tuple[str, ...]:
    names = (f"transforms_{split}.json",)
    return ("transforms.json", *names) if split == "train" else names


def _find_json(path: Path, split: str) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise GridError("expected a grid folder or its JSON, found no such file", path)
    names = _json_names(split)
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise GridError(f"expected a grid folder, but it has no {' or '.join(names)}", path)
    return found


def _inside(json_path: Path, file_path: str) -> Path:
    """Return the image file of an entry; it must be inside the JSON's folder, links resolved."""
    folder = json_path.parent.resolve()
    try:
        path = (folder / file_path).resolve()
        if not path.is_file() and path.suffix.lower() not in SUFFIXES:
            path = path.with_name(path.name + ".png").resolve()  # D-NeRF omits the suffix
        if path.exists() and not path.is_file():
            raise GridError("expected an image file", path)
    except (OSError, ValueError, RuntimeError) as error:
        raise GridError(
            f"file_path {file_path[:99]!r} is not a valid path ({error})", json_path
        ) from error
    if Path(file_path).is_absolute() or not path.is_relative_to(folder):
        raise GridError(
            f"file_path {file_path!r} leaves the folder; move all images into it", json_path
        )
    return path


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    height, width = image_size(files[0])
    for file in files[1:]:
        other = image_size(file)
        if other != (height, width):
            raise GridError(
                f"{other[1]}×{other[0]} pixels, but {files[0].name} has {width}×{height}; "
                "all images of a grid must have the same size",
                file,
            )
    if len(files) * height * width * 4 > MAX_GRID_BYTES:
        raise GridError(
            f"{len(files)} images of {width}×{height} pixels take more than "
            f"{MAX_GRID_BYTES >> 30} GiB; resize them"
        )
    return height, width


def _camera(entry: PosedImage, height: int, width: int, json_path: Path) -> Camera:
    try:
        return entry.camera(height, width)
    except ValueError as error:
        raise GridError(f"{entry.file_path}: {error}", json_path) from error


def _read_images(files: Sequence[Path], height: int, width: int) -> np.ndarray:
    images = np.empty((len(files), height, width, 4), dtype=np.uint8)

    def read_into(index: int) -> None:
        images[index] = read_image(files[index])

    with ThreadPoolExecutor() as pool:  # PNG is decoded outside the GIL
        list(pool.map(read_into, range(len(files))))
    return images


def _with_alpha(images: np.ndarray) -> tuple[np.ndarray, bool]:
    """Estimate the alpha of images without it; also return whether all of them had it.

    Images with an alpha of 255 everywhere count as images without alpha, because many tools write
    RGBA without a mask.
    """
    opaque = np.flatnonzero((images[..., 3] == 255).all(axis=(1, 2)))
    if len(opaque) == 0:
        return images, True
    background = border_color(images[opaque])
    if background is not None:
        for index in opaque:
            images[index] = matte(images[index], background)
    return images, False


class Views(NamedTuple):
    """Images grouped by camera.

    Attributes:
        of_image: index of each image's camera, [M].
        first: index of the first image of each camera, [V].
        numbers: view number of each camera in the JSON, V of them.
    """

    of_image: np.ndarray
    first: np.ndarray
    numbers: tuple[int, ...]


class Frames(NamedTuple):
    """Images grouped by time.

    Attributes:
        of_image: index of each image's time, [M].
        times: times in [0, 1], ascending, [T].
        numbers: frame number of each time in the JSON, T of them.
    """

    of_image: np.ndarray
    times: np.ndarray
    numbers: tuple[int, ...]


def group_views(entries: Sequence[PosedImage], cameras: Sequence[Camera]) -> Views:
    """Group entries by their `view`, or by camera if no entry has one.

    Raises:
        ValueError: some entries lack a `view`, or one view has two different cameras.
    """
    poses = np.stack([_camera_numbers(camera) for camera in cameras])
    given = _all_or_none([entry.view for entry in entries], "view")
    if given is None:
        _, first, index = np.unique(
            np.round(poses, DECIMALS) + 0.0, axis=0, return_index=True, return_inverse=True
        )  # + 0.0 makes −0 and 0 one
        order = np.argsort(first)  # cameras in their order in the JSON
        return Views(np.argsort(order)[index.reshape(-1)], first[order], tuple(range(len(first))))
    numbers, first, index = np.unique(given, return_index=True, return_inverse=True)
    moved = np.abs(poses - poses[first[index]]).max(axis=1) > 10.0 ** (1 - DECIMALS)
    if moved.any():
        raise ValueError(
            f"view {given[int(moved.argmax())]} has two different cameras; give each its own "
            "`view`, or leave `view` out of all frames"
        )
    return Views(index, first, tuple(int(number) for number in numbers))


def _camera_numbers(camera: Camera) -> np.ndarray:
    """Return pose and intrinsics of a camera as numbers, [20]."""
    intrinsics = (camera.fl_x, camera.fl_y, camera.cx, camera.cy)
    return np.concatenate([camera.T_world_camera.ravel(), intrinsics])


def group_frames(entries: Sequence[PosedImage]) -> Frames:
    """Group entries by their `time`, by `frame` if no entry has a time, or into one group.

    Raises:
        ValueError: some entries lack a `time` or `frame`, or the two disagree.
    """
    numbers = _all_or_none([entry.frame for entry in entries], "frame")
    times = _all_or_none([entry.time for entry in entries], "time")
    if times is None:
        times = np.zeros(len(entries)) if numbers is None else numbers / max(numbers.max(), 1)
    _, first, index = np.unique(np.round(times, DECIMALS), return_index=True, return_inverse=True)
    if numbers is None:
        return Frames(index, times[first], tuple(range(len(first))))
    if (numbers != numbers[first[index]]).any() or len(np.unique(numbers)) != len(first):
        raise ValueError("`frame` and `time` disagree: each frame number must have one time")
    return Frames(index, times[first], tuple(int(number) for number in numbers[first]))


def _all_or_none(values: Sequence[float | None], key: str) -> np.ndarray | None:
    missing = sum(value is None for value in values)
    if missing == len(values):
        return None
    if missing:
        raise ValueError(
            f"`{key}` is missing in {missing} of {len(values)} frames; give it to all or to none"
        )
    return np.asarray(values)
