"""Image files: PNG, JPEG, WebP and AVIF.

Posed images are read as they are stored, because cameras describe the stored pixels; frames of a
clip are read as viewers show them, turned by their EXIF orientation. Letters: H × W pixels. Pixels
are 8-bit sRGB unless said otherwise.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import ExifTags, Image, ImageCms, features

from recon.errors import GridError

MAX_SIDE = 8192

# Pillow knows other formats whose readers start programs (EPS). Its releases before 11.3, and some
# builds, cannot read AVIF.
FORMATS = ("PNG", "JPEG", "WEBP", *(("AVIF",) if features.check("avif") else ()))
IMAGE_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif")
BAD_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_DEEP_MODES = ("I", "F")  # more than 8 bits per channel; also the start of other such modes
_UPRIGHT = {  # EXIF orientation → what makes the stored image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)


def is_image_file(path: Path) -> bool:
    """Return whether a file starts as an image of `FORMATS` does, whatever its name is."""
    with path.open("rb") as file:
        head = file.read(12)
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))
        or (head[:4] == b"RIFF" and head[8:] == b"WEBP")
        or ("AVIF" in FORMATS and head[4:] in (b"ftypavif", b"ftypavis"))
    )


def image_size(path: Path) -> tuple[int, int]:
    """Read height and width of an image as it is stored from its header, without decoding.

    Raises:
        GridError: The file is missing, of another format, or larger than `MAX_SIDE` on a side.
    """
    with opened_image(path) as image:
        return image.height, image.width


def shown_size(path: Path) -> tuple[int, int]:
    """Read height and width as `image_size` does, of the image as viewers show it."""
    with opened_image(path) as image:
        is_on_its_side = _orientation(image) in _ON_ITS_SIDE
        return image.size if is_on_its_side else (image.height, image.width)


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file and check its header.

    Raises:
        GridError: As in `image_size`, or the file turns out to be damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            opened = Image.open(path, formats=FORMATS)
    except FileNotFoundError as error:
        raise GridError("the image is missing", path) from error
    except Image.DecompressionBombError as error:
        raise GridError(f"the image is too large ({error})", path) from error
    except BAD_IMAGE as error:
        raise GridError(f"expected a {' or '.join(FORMATS)} image ({error})", path) from error
    with opened as image:
        if max(image.size) > MAX_SIDE:
            raise GridError(
                f"expected at most {MAX_SIDE} pixels per side, found {image.width}×{image.height}; "
                "resize it",
                path,
            )
        try:
            yield image
        except BAD_IMAGE as error:
            raise GridError(f"the image is truncated or damaged ({error})", path) from error


def read_image(path: Path) -> np.ndarray:
    """Read an image with 8 bits per channel as RGBA, as it is stored.

    Call `image_size` first: it refuses images that are too large for the memory.

    Returns:
        sRGB with straight alpha, 255 where the file has none, uint8, [H, W, 4]; of an animation,
        the first frame.

    Raises:
        GridError: The image is truncated or damaged, or has more than 8 bits per channel.
    """
    with opened_image(path) as image:
        return np.asarray(_in_srgb(image, path))


def read_shown_image(path: Path) -> np.ndarray:
    """Read an image as `read_image` does, as viewers show it."""
    with opened_image(path) as image:
        return as_shown(image, path)


def as_shown(image: Image.Image, path: Path) -> np.ndarray:
    """Return the current frame of an opened image as viewers show it, RGBA, uint8, [H, W, 4].

    Raises:
        GridError: The image has more than 8 bits per channel.
    """
    upright = _UPRIGHT.get(_orientation(image))
    in_srgb = _in_srgb(image, path)
    return np.asarray(in_srgb if upright is None else in_srgb.transpose(upright))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 is upright."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the pixels to search for EXIF behind them
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _in_srgb(image: Image.Image, path: Path) -> Image.Image:
    """Convert an image to RGBA by its ICC profile; an invalid profile is ignored, as viewers do."""
    if image.mode.startswith(_DEEP_MODES):
        raise GridError(f"expected 8 bits per channel, found {np.asarray(image).dtype}", path)
    rgba = image.convert("RGBA")
    profile = image.info.get("icc_profile")
    if not profile:
        return rgba
    opaque = image if image.mode in ("L", "CMYK") else rgba.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(opaque, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return rgba
    assert converted is not None
    converted.putalpha(rgba.getchannel("A"))
    return converted


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
    except (*BAD_IMAGE, Image.DecompressionBombError) as error:
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
    data: bytes,
    format: str | Sequence[str],
    size: tuple[int, int] | None = None,
    mode: str = "RGBA",
) -> np.ndarray:
    """Decode an image in memory; the inverse of `encode_image`.

    Args:
        data: Content of the file.
        format: Expected format, or any of several: "PNG", "JPEG" or "WEBP".
        size: Expected height and width, compared before any pixel is decoded.
        mode: "RGBA" or "RGB".

    Returns:
        uint8, [H, W, 4 or 3].

    Raises:
        ValueError: The image is damaged, or of another format or size.
    """
    formats = [format] if isinstance(format, str) else list(format)
    try:
        # Not through imageio: its plugin searches for two optional packages whenever it opens
        # something, which takes longer than decoding a small image of a training set.
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if size is not None and image.size != size[::-1]:
                raise ValueError(
                    f"{image.width}×{image.height} pixels, expected {size[1]}×{size[0]}"
                )
            return np.asarray(image.convert(mode))
    except (*BAD_IMAGE, Image.DecompressionBombError) as error:
        raise ValueError(f"not a valid {' or '.join(formats)} image ({error})") from error
