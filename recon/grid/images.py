"""Image files: read as 8-bit RGBA after a look at the header, written as PNG.

Letters: H × W pixels. Formats are limited to those that posed images come in; none of their readers
starts another program. What it does not know: cameras.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from recon.errors import GridError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SIDE = 8192
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width from the header, without decoding.

    Raises:
        GridError: there is no such image, or it is larger than `MAX_SIDE` on a side.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
    except FileNotFoundError as error:
        raise GridError("the image is missing", path) from error
    except Image.DecompressionBombError as error:
        raise GridError(f"the image is absurdly large ({error})", path) from error
    except _UNREADABLE as error:
        raise GridError(f"not a {', '.join(FORMATS)} image ({error})", path) from error
    if max(height, width) > MAX_SIDE:
        raise GridError(
            f"{width}×{height} pixels; at most {MAX_SIDE} on a side are read, resize it", path
        )
    return height, width


def read_image(path: Path) -> np.ndarray:
    """An image of any 8-bit kind as RGBA, uint8, [H, W, 4]; opaque where the file has no alpha.

    Call `image_size` first: it refuses what would fill the memory.

    Raises:
        GridError: the image is truncated or damaged, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise GridError(f"expected 8 bits a channel, found mode {image.mode}", path)
            return np.asarray(image.convert("RGBA"))
    except _UNREADABLE as error:
        raise GridError(f"the image is truncated or damaged ({error})", path) from error


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3 or 4] as PNG; white where the alpha is 0, for readers that drop it."""
    if image.shape[-1] == 4:
        image = np.where(image[..., 3:] == 0, np.array([255, 255, 255, 0], np.uint8), image)
    Image.fromarray(image).save(path, format="PNG")
