"""Sizes of PNG, JPEG and WebP images from their headers, without decoding them.

A few kilobytes can declare gigabytes of pixels. The headers are read here rather than by Pillow,
because it gives up on damage that other readers pass over: they would still make room for the
pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import IO, NamedTuple

from generation.curation.inspection.findings import AssetError, Limits, Reason

_HEADER_BYTES = 64 * 2**20  # JPEG puts profiles and previews before its size
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_START_OF_SCAN = 0xDA


class ImageSize(NamedTuple):
    """Of an image, in pixels."""

    height: int
    width: int


def read_image_size(file: IO[bytes]) -> ImageSize | None:
    """Height and width of the image in a file; None if it is in no known format or broken.

    Args:
        file: at the beginning of the image; it is left open.
    """
    head = file.read(32)
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", head, 16)
            return ImageSize(height, width)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp_size(head)
        if head.startswith(b"\xff\xd8"):
            return _jpeg_size(head + file.read(_HEADER_BYTES))
    except (struct.error, IndexError):  # the file ends within its header
        return None
    return None


def _webp_size(head: bytes) -> ImageSize | None:
    kind = head[12:16]
    if kind == b"VP8X":  # the canvas, each number less one, in 24 bits
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":  # each number less one, in 14 bits
        (packed,) = struct.unpack_from("<I", head, 21)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":  # in 14 bits, below two of scale
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", head, 26))
    else:
        return None
    return ImageSize(height, width) if len(head) >= 30 else None


def _jpeg_size(data: bytes) -> ImageSize | None:
    """From the first start of frame; anything between markers is passed over, as decoders do."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _START_OF_FRAME:
            return ImageSize(*struct.unpack_from(">HH", data, at + 3))
        if marker == _START_OF_SCAN:
            return None
        if marker not in _WITHOUT_LENGTH:
            at += struct.unpack_from(">H", data, at)[0]
    return None


def check_image_sizes(images: Iterable[tuple[str, ImageSize | None]], limits: Limits) -> None:
    """Raises AssetError if images of some names have too many pixels, alone or together."""
    in_all = 0
    for name, size in images:
        pixels = 0 if size is None else size.height * size.width
        in_all += pixels
        if size is not None and pixels > limits.image_pixels:
            raise AssetError(
                Reason.image_too_large,
                f"image {name} declares {size.width}×{size.height} pixels; at most "
                f"{limits.image_pixels:,} are read",
            )
    if in_all > limits.all_image_pixels:
        raise AssetError(
            Reason.image_too_large,
            f"its images declare {in_all:,} pixels together; at most "
            f"{limits.all_image_pixels:,} are read",
        )
