"""Image sizes from headers; images are not decoded, as kilobytes can declare gigabytes of pixels.

Pillow rejects damage that other readers, which still allocate the pixels, ignore.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from generation.curation.assets.limits import Limits, Reason, limit

HEADER_BYTES = 64 * 2**20  # color profiles and previews come before the size of a JPEG
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_WEBP = {  # first byte, bytes, shift of the height, bits of a size, what is added to it
    b"VP8X": (24, 6, 24, 24, 1), b"VP8L": (21, 4, 14, 14, 1), b"VP8 ": (26, 4, 16, 14, 0),
}  # fmt: skip
Size = tuple[int, int]  # width and height in pixels


def image_size(data: bytes) -> Size | None:
    """Read the size of a PNG, WebP or JPEG, given `HEADER_BYTES` of it; None if unreadable."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return struct.unpack_from(">II", data, 16)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP" and len(data) >= 30:
            start, count, shift, bits, more = _WEBP[data[12:16]]
            packed, mask = int.from_bytes(data[start : start + count], "little"), 2**bits - 1
            return (packed & mask) + more, (packed >> shift & mask) + more
        return _jpeg_size(data) if data.startswith(b"\xff\xd8") else None
    except (struct.error, LookupError):  # the file ends within its header
        return None


def _jpeg_size(data: bytes) -> Size | None:
    """Read the first start of frame; bytes between markers are skipped, as decoders do."""
    at = 2
    while (at := data.find(b"\xff", at) + 1) and (marker := data[at]) != _START_OF_SCAN:
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 4)
            return width, height
        if marker not in _WITHOUT_LENGTH and marker != 0xFF:
            at += 1 + struct.unpack_from(">H", data, at + 1)[0]
    return None


def check_images(images: Iterable[tuple[str, Size | None]], limits: Limits) -> None:
    """Raise AssetError if named images have too many pixels, one alone or all together."""
    total = 0
    for name, (width, height) in ((name, size or (0, 0)) for name, size in images):
        what, pixels = f"pixels of image {name}, {width}×{height}", width * height
        limit(what, pixels, limits.image_pixels, Reason.image_too_large)
        total += pixels
    limit("pixels of all images", total, limits.all_image_pixels, Reason.image_too_large)
