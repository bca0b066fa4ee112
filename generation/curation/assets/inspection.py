"""Inspection of asset files before Blender opens them: a bad file costs milliseconds and no memory.

Of glTF files (`gltf`), sizes, counts, offsets, references, keyframes and image headers are checked;
of other formats only the signature, the size and, for USDZ, the archive and its images.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path, PurePosixPath

from generation.curation.assets.files import Asset, AssetFormat, obj_frames
from generation.curation.assets.gltf import inspect_gltf
from generation.curation.assets.limits import (
    AssetError,
    Inspection,
    Limits,
    Reason,
    check_image_sizes,
    read_image_size,
    require,
)

_USD_SIGNATURES = {".usda": (b"#usda",), ".usdc": (b"PXR-USDC",), ".usd": (b"#usda", b"PXR-USDC")}


def inspect(asset: Asset, limits: Limits | None = None) -> Inspection:
    """Inspect an asset without importing it.

    Args:
        asset: the asset.
        limits: resource limits; `Limits()` if None.

    Raises:
        AssetError: the asset is refused; has the reason and the path.
        OSError: a file cannot be read.
    """
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


def _check_size(asset: Asset, limits: Limits) -> None:
    """Check that the file or the files of an OBJ sequence exist, have content and are not huge."""
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
    """Check a USDZ archive, whose files are stored without compression."""
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
