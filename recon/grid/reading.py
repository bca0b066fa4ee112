"""Reads grids: the project's own folder, D-NeRF folders, nerfstudio folders, or one of their JSONs.

    JSON ─▶ entries ─▶ files inside the folder ─▶ sizes ─▶ cameras and times in groups ─▶ pixels

Letters: V cameras, T times, M images. Every check that costs little comes before the first pixel is
decoded. What it does not know: the keys of the JSON (`transforms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera
from recon.grid.grid import Grid
from recon.grid.grouping import group_frames, group_views
from recon.grid.matte import border_color, matte
from recon.grid.transforms import PosedImage, read_transforms
from recon.media import image_size, read_image

MAX_GRID_BYTES = 8 * 2**30
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def read_grid(path: str | Path, split: str = "train") -> Grid:
    """Reads posed images.

    Args:
        path: a folder with `transforms.json` or `transforms_{train,val,test}.json`, or such a file.
        split: which images of a folder; "train" is also what a plain `transforms.json` holds. Not
            looked at if `path` is a file.

    Returns:
        The images, view-major. Images without `view` are grouped by camera, those without `frame`
        by time; without time all are at 0. Where images have no alpha it is estimated from a
        background of one colour, or they stay opaque.

    Raises:
        GridError: anything about the files is not valid.
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
        )
    except ValueError as error:
        raise GridError(str(error), json_path) from error


def _input_view(number: int | None, numbers: tuple[int, ...]) -> int | None:
    """Index of a camera by its number; one that is not of this split is none of its views."""
    return numbers.index(number) if number in numbers else None


def has_split(path: str | Path, split: str) -> bool:
    """Whether a folder, or the folder of a JSON file, has images of its own for a split."""
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
        raise GridError("there is no such folder or file", path)
    names = _json_names(split)
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise GridError(f"expected a folder with {' or '.join(names)}; is this a grid?", path)
    return found


def _inside(json_path: Path, file_path: str) -> Path:
    """The file of an entry; it must lie in the JSON's folder once all links are followed."""
    folder = json_path.parent.resolve()
    try:
        path = (folder / file_path).resolve()
        if not path.is_file() and path.suffix.lower() not in SUFFIXES:
            path = path.with_name(path.name + ".png").resolve()  # D-NeRF leaves out the suffix
        if path.exists() and not path.is_file():
            raise GridError("expected an image file", path)
    except (OSError, ValueError, RuntimeError) as error:
        raise GridError(f"file_path {file_path[:99]!r} is no path ({error})", json_path) from error
    if Path(file_path).is_absolute() or not path.is_relative_to(folder):
        raise GridError(
            f"file_path {file_path!r} leaves the folder; all images must lie inside it", json_path
        )
    return path


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    height, width = image_size(files[0])
    for file in files[1:]:
        other = image_size(file)
        if other != (height, width):
            raise GridError(
                f"{other[1]}×{other[0]} pixels, but {files[0].name} has {width}×{height}; "
                "all images of a grid must be of one size",
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

    with ThreadPoolExecutor() as pool:  # PNG is unpacked outside Python's lock
        list(pool.map(read_into, range(len(files))))
    return images


def _with_alpha(images: np.ndarray) -> tuple[np.ndarray, bool]:
    """The images with alpha where there was none, and whether it was known everywhere.

    An alpha of 255 everywhere says nothing: many tools write RGBA without cutting anything out.
    """
    opaque = np.flatnonzero((images[..., 3] == 255).all(axis=(1, 2)))
    if len(opaque) == 0:
        return images, True
    background = border_color(images[opaque])
    if background is not None:
        for index in opaque:
            images[index] = matte(images[index], background)
    return images, False
