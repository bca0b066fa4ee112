"""Limits of asset files, the reasons for refusing one, and image sizes from their headers.

Images are never decoded: a few kilobytes can declare gigabytes of pixels. Their headers are parsed
here rather than by Pillow, which rejects damage that other readers, which still allocate the
pixels, ignore.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from recon.errors import InputError

_JPEG_HEADER_BYTES = 64 * 2**20  # color profiles and previews come before the size
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_START_OF_SCAN = 0xDA

ImageSize = tuple[int, int]
"""Height and width in pixels."""


class Reason(StrEnum):
    """Why an asset is refused: by the inspection, or by Blender for the last four."""

    missing = "missing"
    empty = "empty"
    too_large = "too_large"
    wrong_format = "wrong_format"
    truncated = "truncated"
    malformed = "malformed"
    outside_folder = "outside_folder"
    missing_buffer = "missing_buffer"
    unsupported = "unsupported"
    no_triangles = "no_triangles"
    too_many_triangles = "too_many_triangles"
    no_animation = "no_animation"
    not_finite = "not_finite"
    unordered_keyframes = "unordered_keyframes"
    image_too_large = "image_too_large"
    import_failed = "import_failed"
    no_motion = "no_motion"
    no_such_action = "no_such_action"
    cannot_be_placed = "cannot_be_placed"


class AssetError(InputError):
    """An asset is refused; `sentence` is the message without the path."""

    def __init__(self, reason: Reason, sentence: str, path: str | Path | None = None):
        self.reason = reason
        self.sentence = sentence
        super().__init__(sentence, path)


@dataclass(frozen=True)
class Limits:
    """Limits on the resources that an asset may use.

    Attributes:
        file_bytes: bytes of the asset's files together, and of all its accessors when read, since
            many accessors may point at the same few bytes or at none.
        document_bytes: bytes of a glTF file's JSON, which takes some twenty times that as objects.
        triangles: triangles of all meshes, counted once for each node that shows them.
        image_pixels: pixels of one image.
        all_image_pixels: pixels of all images together.
    """

    file_bytes: int = 2 * 2**30
    document_bytes: int = 64 * 2**20
    triangles: int = 2_000_000
    image_pixels: int = 8192 * 8192
    all_image_pixels: int = 4 * 8192 * 8192


@dataclass(frozen=True)
class Inspection:
    """What is known of an accepted asset; formats other than glTF keep the defaults.

    Attributes:
        triangles: number of triangles, as for `Limits.triangles`; None if unknown.
        animations: names of the animations of positive duration; None if unknown.
        missing_textures: names of images that are missing or unreadable. The asset can still be
            rendered, with plain colors instead.
    """

    triangles: int | None = None
    animations: tuple[str, ...] | None = None
    missing_textures: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each missing texture."""
        return tuple(f"texture {name} is missing or unreadable" for name in self.missing_textures)


def require(condition: bool, reason: Reason, sentence: str) -> None:
    """Raise AssetError unless a condition holds."""
    if not condition:
        raise AssetError(reason, sentence)


def read_image_size(file: IO[bytes]) -> ImageSize | None:
    """Read the size of a PNG, WebP or JPEG image from its header; None if it is unreadable."""
    head = file.read(32)
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", head, 16)
            return height, width
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
            return _webp_size(head)
        if head.startswith(b"\xff\xd8"):
            return _jpeg_size(head + file.read(_JPEG_HEADER_BYTES))
    except (struct.error, IndexError):  # the file ends within its header
        return None
    return None


def check_image_sizes(images: Iterable[tuple[str, ImageSize | None]], limits: Limits) -> None:
    """Raise AssetError if named images have too many pixels, one alone or all together."""
    total = 0
    for name, size in images:
        height, width = size or (0, 0)
        total += height * width
        require(
            height * width <= limits.image_pixels, Reason.image_too_large,
            f"image {name} declares {width}×{height} pixels, more than {limits.image_pixels:,}",
        )  # fmt: skip
    require(
        total <= limits.all_image_pixels, Reason.image_too_large,
        f"its images declare {total:,} pixels together, more than {limits.all_image_pixels:,}",
    )  # fmt: skip


def _webp_size(head: bytes) -> ImageSize | None:
    if head[12:16] == b"VP8X":  # 24 bits each, less one
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    elif head[12:16] == b"VP8L":  # 14 bits each, less one
        packed = int.from_bytes(head[21:25], "little")
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif head[12:16] == b"VP8 ":  # 14 bits each, below two bits of scale
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", head, 26))
    else:
        return None
    return height, width


def _jpeg_size(data: bytes) -> ImageSize | None:
    """Read the first start of frame; bytes between markers are skipped, as decoders do."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return height, width
        if marker == _START_OF_SCAN:
            return None
        if marker not in _WITHOUT_LENGTH:
            at += struct.unpack_from(">H", data, at)[0]
    return None
