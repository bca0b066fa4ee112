"""Clips as folders of images, one image per frame, ordered by the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recon.errors import GridError
from recon.media.images import IMAGE_SUFFIXES, read_shown_image, shown_size
from recon.media.videos import MAX_VIDEO_BYTES


def frame_files(folder: Path) -> list[Path]:
    """Return the images of a folder in the order in which they are shown.

    If some names end in a number, those that do not are ignored.

    Raises:
        GridError: the folder is a grid, there are no images, or their sizes differ.
    """
    if (json := grid_json(folder)) is not None:
        raise GridError(
            f"expected the images of one clip, found a grid ({json.name}), which `fourdvd "
            "reconstruct` and `fourdvd run` read; of its images, give the folders of the views",
            folder,
        )
    files = _frames(folder)
    if not files:
        raise GridError(
            f"expected images ({', '.join(IMAGE_SUFFIXES)}) in the folder, found none", folder
        )
    sizes = [shown_size(file) for file in files]
    for file, (height, width) in zip(files, sizes, strict=True):
        if (height, width) != sizes[0]:
            raise GridError(
                f"expected {sizes[0][1]}×{sizes[0][0]} pixels as in {files[0].name}, found "
                f"{width}×{height}; resize the images to one size",
                file,
            )
    return files


def grid_json(folder: Path) -> Path | None:
    """Return the JSON of a folder that is a grid, and thus no clip; None if it has none."""
    return min(folder.glob("transforms*.json"), default=None)


def has_frames(folder: Path) -> bool:
    """Return whether a folder has images of a clip, and is not a grid."""
    return grid_json(folder) is None and bool(_frames(folder))


def _frames(folder: Path) -> list[Path]:
    """Return the images of a clip in their order.

    Images whose names have no digit, beside folders of images, are not: they show those, as a
    contact sheet does.
    """
    images = _images(folder)
    if not any(character.isdigit() for file in images for character in file.stem) and any(
        _images(each) for each in folder.iterdir() if each.is_dir()
    ):
        return []
    numbered = [file for file in images if file.stem[-1:].isdigit()]
    return sorted(numbered or images, key=by_numbers)


def _images(folder: Path) -> list[Path]:
    return [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES
        and not file.name.startswith(".")
        and file.is_file()
    ]


def by_numbers(file: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts frame_2 before frame_10."""
    parts = re.findall(r"\d+|\D+", file.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read_frame_files(files: Sequence[Path]) -> np.ndarray:
    """Read images of one size as viewers show them.

    Returns:
        sRGB, with straight alpha unless all are opaque, uint8, [len(files), H, W, 3 or 4].

    Raises:
        GridError: an image is damaged, or they do not fit into memory.
    """
    first = read_shown_image(files[0])
    if len(files) * first.nbytes > MAX_VIDEO_BYTES:
        raise GridError(
            f"expected at most {MAX_VIDEO_BYTES >> 30} GiB of frames; take fewer or smaller ones",
            files[0].parent,
        )
    images = np.stack([first, *(read_shown_image(file) for file in files[1:])])
    return images if (images[..., 3] < 255).any() else images[..., :3]
