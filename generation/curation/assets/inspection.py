"""Inspection of asset files before Blender opens them: a bad file costs milliseconds and no memory.

Of glTF files (`gltf`), sizes, counts, offsets, references, keyframes and image headers are checked;
of other formats only the signature, the size and, for USDZ, the archive and its images. Images are
never decoded: a few kilobytes can declare gigabytes of pixels. Their headers are parsed here rather
than by Pillow, which rejects damage that other readers, which still allocate the pixels, ignore.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO

from generation.curation.assets.files import Asset, AssetFormat, obj_frames
from recon.errors import InputError

_JPEG_HEADER_BYTES = 64 * 2**20  # color profiles and previews come before the size
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_START_OF_SCAN = 0xDA
_USD_SIGNATURES = {".usda": (b"#usda",), ".usdc": (b"PXR-USDC",), ".usd": (b"#usda", b"PXR-USDC")}

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


def inspect(asset: Asset, limits: Limits | None = None) -> Inspection:
    """Inspects an asset without importing it.

    Args:
        asset: the asset.
        limits: resource limits; `Limits()` if None.

    Raises:
        AssetError: the asset is refused; has the reason and the path.
        OSError: a file cannot be read.
    """
    from generation.curation.assets.gltf import inspect_gltf

    path, limits = asset.path, limits or Limits()
    try:
        _check_size(asset, limits)
        if asset.format in (AssetFormat.glb, AssetFormat.gltf):
            return inspect_gltf(path, limits)
        if path.suffix.lower() == ".usdz":
            _check_usdz(path, limits)
        elif asset.format is not AssetFormat.obj:
            _check_signature(path, asset.format)
    except AssetError as error:
        raise AssetError(error.reason, error.sentence, path) from error.__cause__
    return Inspection()


def require(condition: bool, reason: Reason, sentence: str) -> None:
    """Raises AssetError unless a condition holds."""
    if not condition:
        raise AssetError(reason, sentence)


def read_image_size(file: IO[bytes]) -> ImageSize | None:
    """Reads the size of a PNG, WebP or JPEG image from its header; None if it is unreadable."""
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
    """Raises AssetError if named images have too many pixels, one alone or all together."""
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


def _check_size(asset: Asset, limits: Limits) -> None:
    """Checks that the file or the files of an OBJ sequence exist, have content and are not huge."""
    folder = asset.format is AssetFormat.obj
    exists = asset.path.is_dir() if folder else asset.path.is_file()
    files = (obj_frames(asset.path) if folder else [asset.path]) if exists else []
    require(bool(files), Reason.missing, "no such file, or no numbered OBJ files in the folder")
    sizes = [file.stat().st_size for file in files]
    require(all(sizes), Reason.empty, f"{files[sizes.index(min(sizes))].name} is empty")
    require(
        sum(sizes) <= limits.file_bytes, Reason.too_large,
        f"it has {sum(sizes):,} bytes, more than {limits.file_bytes:,}",
    )  # fmt: skip


def _check_signature(path: Path, format: AssetFormat) -> None:
    with path.open("rb") as file:
        head = file.read(4096)
    match format:
        case AssetFormat.fbx:  # text files may begin with a comment
            matches = head.startswith(b"Kaydara FBX Binary  \0") or b"FBXHeaderExtension" in head
        case AssetFormat.abc:
            old = head.startswith(b"\x89HDF\r\n\x1a\n")
            require(not old, Reason.unsupported, "HDF5 Alembic archives are not; export as Ogawa")
            matches = head.startswith(b"Ogawa")
        case _:
            matches = head.startswith(_USD_SIGNATURES[path.suffix.lower()])
    require(matches, Reason.wrong_format, f"its content is not that of a {path.suffix} file")


def _check_usdz(path: Path, limits: Limits) -> None:
    """Checks a USDZ archive, whose files are stored without compression."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [PurePosixPath(entry.filename) for entry in entries]
            declared = sum(entry.file_size for entry in entries)
            first = bool(names) and names[0].suffix in _USD_SIGNATURES
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            require(first, Reason.malformed, "the first file of the archive must be a USD file")
            require(stored, Reason.malformed, "its files are compressed, which USDZ forbids")
            require(
                declared <= size, Reason.malformed,
                f"its files declare {declared:,} bytes, the archive has {size:,}",
            )  # fmt: skip
            inside = all(0 <= entry.header_offset < size for entry in entries)
            require(inside, Reason.malformed, "a file in it begins outside of the archive")
            inside = all(".." not in name.parts for name in names)
            require(inside, Reason.outside_folder, "a file name in it leads out of the archive")
            images = []
            for entry in entries:
                with archive.open(entry) as file:
                    images.append((entry.filename, read_image_size(file)))
    except (zipfile.BadZipFile, struct.error, RuntimeError, ValueError, EOFError) as error:
        raise AssetError(Reason.malformed, f"not a valid USDZ archive: {error}") from error
    check_image_sizes(images, limits)


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
    """Reads the first start of frame; bytes between markers are skipped, as decoders do."""
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
