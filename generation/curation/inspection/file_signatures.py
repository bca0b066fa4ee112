"""FBX, Alembic, USD and OBJ files: are they what their names say, whole, and not a bomb?

How many triangles there are and what moves is known only after an import.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path, PurePosixPath

from generation.curation.asset_files import obj_frames
from generation.curation.inspection.findings import AssetError, Limits, Reason
from generation.curation.inspection.image_headers import (
    ImageSize,
    check_image_sizes,
    read_image_size,
)

_FBX_BINARY = b"Kaydara FBX Binary  \0"
_FBX_TEXT = b"FBXHeaderExtension"  # a comment may stand before it
_OGAWA, _HDF5 = b"Ogawa", b"\x89HDF\r\n\x1a\n"
_USD_TEXT, _USD_BINARY = b"#usda", b"PXR-USDC"


def check_fbx(path: Path) -> None:
    """Raises AssetError if a file is neither a binary nor a text FBX file."""
    head = _head(path)
    if not head.startswith(_FBX_BINARY) and _FBX_TEXT not in head:
        raise AssetError(Reason.wrong_format, "it begins unlike an FBX file")


def check_alembic(path: Path) -> None:
    """Raises AssetError if a file is no Alembic archive of the kind that Blender reads."""
    head = _head(path)
    if head.startswith(_HDF5):
        raise AssetError(
            Reason.unsupported,
            "an Alembic archive of the old HDF5 kind, which Blender cannot read; "
            "export it as Ogawa",
        )
    if not head.startswith(_OGAWA):
        raise AssetError(Reason.wrong_format, "it begins unlike an Alembic archive")


def check_usd(path: Path, limits: Limits) -> None:
    """Raises AssetError if a file is not the kind of USD that its suffix names, or a bomb."""
    if path.suffix.lower() == ".usdz":
        _check_usdz(path, limits)
        return
    kinds = {".usda": (_USD_TEXT,), ".usdc": (_USD_BINARY,)}
    if not _head(path).startswith(kinds.get(path.suffix.lower(), (_USD_TEXT, _USD_BINARY))):
        raise AssetError(Reason.wrong_format, f"it begins unlike a {path.suffix.lower()} file")


def check_obj_sequence(folder: Path, limits: Limits) -> None:
    """Raises AssetError if a file of a sequence is empty, or all are too large together."""
    frames = obj_frames(folder)
    if not frames:
        raise AssetError(Reason.missing, "the folder has no sequence of numbered OBJ files")
    sizes = [path.stat().st_size for path in frames]
    if 0 in sizes:
        raise AssetError(Reason.empty, f"{frames[sizes.index(0)].name} is empty")
    if sum(sizes) > limits.file_bytes:
        raise AssetError(
            Reason.too_large,
            f"its files have {sum(sizes):,} bytes, more than {limits.file_bytes:,}",
        )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _check_usdz(path: Path, limits: Limits) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries, path.stat().st_size)
            _check_usdz_images(archive, limits)
    except (zipfile.BadZipFile, struct.error, RuntimeError, ValueError, EOFError) as error:
        raise AssetError(Reason.malformed, f"not a sound USDZ archive: {error}") from error


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """USDZ knows no compression, so what it holds cannot be larger than the file."""
    if not entries or PurePosixPath(entries[0].filename).suffix not in (".usd", ".usda", ".usdc"):
        raise AssetError(Reason.malformed, "the first file of a USDZ archive must be a USD file")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise AssetError(Reason.malformed, "its files are compressed, which USDZ does not allow")
    declared = sum(entry.file_size for entry in entries)
    if declared > size:
        raise AssetError(
            Reason.malformed, f"its files declare {declared:,} bytes, the archive has {size:,}"
        )
    if not all(0 <= entry.header_offset < size for entry in entries):
        raise AssetError(Reason.malformed, "a file in it begins outside the archive")
    if any(".." in PurePosixPath(entry.filename).parts for entry in entries):
        raise AssetError(Reason.outside_folder, "a file in it has a name that leads out of it")


def _check_usdz_images(archive: zipfile.ZipFile, limits: Limits) -> None:
    sizes: list[tuple[str, ImageSize | None]] = []
    for entry in archive.infolist():
        with archive.open(entry) as file:
            sizes.append((entry.filename, read_image_size(file)))
    check_image_sizes(sizes, limits)
