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
        GridError: there are no images, or their sizes differ.
    """
    images = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES
        and not file.name.startswith(".")
        and file.is_file()
    ]
    numbered = [file for file in images if file.stem[-1:].isdigit()]
    files = sorted(numbered or images, key=by_numbers)
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
