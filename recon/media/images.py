"""Image files: PNG, JPEG and WebP, read and written through imageio's pillow plugin.

Letters: H × W pixels. Pixels are 8-bit sRGB unless said otherwise.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from imageio.plugins.pillow import PillowPlugin
from PIL import Image

from recon.errors import GridError

MAX_SIDE = 8192

FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow knows others whose readers start programs (EPS)
_SIGNATURE = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)
_BAD_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def image_size(path: Path) -> tuple[int, int]:
    """Read height and width of a PNG, JPEG or WebP image from its header, without decoding.

    Raises:
        GridError: The file is missing, of another format, or larger than `MAX_SIDE` on a side.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            # Not through imageio, which cannot be restricted to some formats and takes four times
            # as long to open a file.
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
    except FileNotFoundError as error:
        raise GridError("the image is missing", path) from error
    except Image.DecompressionBombError as error:
        raise GridError(f"the image is too large ({error})", path) from error
    except _BAD_IMAGE as error:
        raise GridError(f"expected a {' or '.join(FORMATS)} image ({error})", path) from error
    if max(height, width) > MAX_SIDE:
        raise GridError(
            f"expected at most {MAX_SIDE} pixels per side, found {width}×{height}; resize it",
            path,
        )
    return height, width


def read_image(path: Path) -> np.ndarray:
    """Read a PNG, JPEG or WebP image with 8 bits per channel as RGBA.

    Call `image_size` first: it refuses images that are too large for the memory.

    Returns:
        sRGB with straight alpha, 255 where the file has none, uint8, [H, W, 4].

    Raises:
        GridError: The image is truncated or damaged, or has more than 8 bits per channel.
    """
    try:
        with path.open("rb") as file:
            if not _SIGNATURE.match(file.read(12)):
                raise GridError(f"expected a {' or '.join(FORMATS)} image", path)
            file.seek(0)
            with iio.imopen(file, "r", plugin="pillow") as image:
                assert isinstance(image, PillowPlugin)
                dtype = image.properties(index=0).dtype
                if dtype not in (np.uint8, np.bool_):
                    raise GridError(f"expected 8 bits per channel, found {dtype}", path)
                return image.read(index=0, mode="RGBA", writeable_output=False)
    except _BAD_IMAGE as error:
        raise GridError(f"the image is truncated or damaged ({error})", path) from error


def read_png(path: Path) -> np.ndarray:
    """Read a PNG file as it is stored; the inverse of `write_png` for images without alpha.

    Returns:
        uint8 or uint16 [H, W], or uint8 [H, W, 3 or 4].

    Raises:
        GridError: The file is missing, damaged, or not a PNG file.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image)
    except FileNotFoundError as error:
        raise GridError("the image is missing", path) from error
    except (*_BAD_IMAGE, Image.DecompressionBombError) as error:
        raise GridError(f"the image is truncated or damaged ({error})", path) from error


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a PNG file; pixels with alpha 0 become white, for readers that ignore alpha.

    Args:
        path: Output file, replaced if it exists.
        image: Gray or color, uint8 or uint16 [H, W], or uint8 [H, W, 3 or 4].
    """
    if image.ndim == 3 and image.shape[-1] == 4:
        image = np.where(image[..., 3:] == 0, np.array([255, 255, 255, 0], np.uint8), image)
    iio.imwrite(path, image, plugin="pillow", extension=".png", is_batch=False)


def encode_image(image: np.ndarray, suffix: str, **options: Any) -> bytes:
    """Encode an image in memory.

    Args:
        image: uint8, [H, W, 3 or 4].
        suffix: Format by its file suffix: ".png", ".jpg" or ".webp".
        options: Encoder settings of Pillow's writer of that format, such as `quality`.
    """
    return iio.imwrite(
        "<bytes>", image, plugin="pillow", extension=suffix, is_batch=False, **options
    )


def decode_image(
    data: bytes, format: str, size: tuple[int, int] | None = None, mode: str = "RGBA"
) -> np.ndarray:
    """Decode an image in memory; the inverse of `encode_image`.

    Args:
        data: Content of the file.
        format: Expected format: "PNG", "JPEG" or "WEBP".
        size: Expected height and width, compared before any pixel is decoded.
        mode: "RGBA" or "RGB".

    Returns:
        uint8, [H, W, 4 or 3].

    Raises:
        ValueError: The image is damaged, or of another format or size.
    """
    try:
        # Not through imageio: its plugin searches for two optional packages whenever it opens
        # something, which takes longer than decoding a small image of a training set.
        with Image.open(io.BytesIO(data), formats=[format]) as image:
            if size is not None and image.size != size[::-1]:
                raise ValueError(
                    f"{image.width}×{image.height} pixels, expected {size[1]}×{size[0]}"
                )
            return np.asarray(image.convert(mode))
    except (*_BAD_IMAGE, Image.DecompressionBombError) as error:
        raise ValueError(f"not a valid {format} image ({error})") from error
