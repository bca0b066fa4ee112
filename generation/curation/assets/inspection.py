"""Inspection of asset files before Blender opens them: a bad file costs milliseconds and no memory.

Of formats other than glTF, only the size, the signature and the images of USDZ are checked.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path, PurePosixPath

from generation.curation.assets.files import Asset, AssetFormat, obj_frames
from generation.curation.assets.gltf import inspect_gltf
from generation.curation.assets.images import HEADER_BYTES, check_images, image_size
from generation.curation.assets.limits import AssetError, Inspection, Limits, Reason, limit, require

_SIGNATURES = {
    ".fbx": (b"Kaydara FBX Binary  \0",), ".abc": (b"Ogawa",), ".usda": (b"#usda",),
    ".usdc": (b"PXR-USDC",), ".usd": (b"#usda", b"PXR-USDC"),
}  # fmt: skip


def inspect(asset: Asset, limits: Limits | None = None, *, animated: bool = True) -> Inspection:
    """Inspect an asset without importing it.

    Args:
        asset: the asset.
        limits: limits of its size; None for the default ones.
        animated: whether a glTF file without an animation is refused.

    Raises:
        AssetError: the asset is refused; has the reason and the path.
        OSError: a file cannot be read.
    """
    path, limits = asset.path, limits or Limits()
    try:
        _check_size(asset, limits)
        if asset.format in (AssetFormat.glb, AssetFormat.gltf):
            return inspect_gltf(path, limits, animated)
        if path.suffix.lower() == ".usdz":
            _check_usdz(path, limits)
        elif asset.format is not AssetFormat.obj:
            _check_signature(path)
    except AssetError as error:
        raise AssetError(error.reason, error.sentence, path) from error.__cause__
    except (zipfile.BadZipFile, struct.error, ValueError, EOFError, RuntimeError) as error:
        raise AssetError(Reason.malformed, f"cannot be parsed: {error}", path) from error
    return Inspection()


def _check_size(asset: Asset, limits: Limits) -> None:
    """Check that the file or the files of an OBJ sequence exist, have content and are not huge."""
    files = [asset.path] if asset.path.is_file() else []
    if asset.format is AssetFormat.obj:
        files = obj_frames(asset.path) if asset.path.is_dir() else []
    require(bool(files), "no such file, or no numbered OBJ files in the folder", Reason.missing)
    sizes = [file.stat().st_size for file in files]
    require(all(sizes), f"{files[sizes.index(min(sizes))].name} is empty", Reason.empty)
    limit("bytes of its files", sum(sizes), limits.file_bytes)


def _check_signature(path: Path) -> None:
    with path.open("rb") as file:
        head, suffix = file.read(4096), path.suffix.lower()
    old = suffix == ".abc" and head.startswith(b"\x89HDF\r\n\x1a\n")
    require(not old, "HDF5 Alembic is not supported; export it as Ogawa", Reason.unsupported)
    is_text = suffix == ".fbx" and b"FBXHeaderExtension" in head  # may begin with a comment
    matches = is_text or head.startswith(_SIGNATURES[suffix])
    require(matches, f"its content is not that of a {suffix} file", Reason.wrong_format)


def _check_usdz(path: Path, limits: Limits) -> None:
    """Check a USDZ archive, which begins with a USD file and is not compressed."""
    size, sizes = path.stat().st_size, []
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [PurePosixPath(entry.filename) for entry in entries]
        limit("bytes of its files", sum(each.file_size for each in entries), size, Reason.malformed)
        first = bool(names) and names[0].suffix in (".usd", ".usda", ".usdc")
        stored = all(not each.compress_type and 0 <= each.header_offset < size for each in entries)
        require(first and stored, "not an uncompressed archive that begins with a USD file")
        outside = any(".." in name.parts for name in names)
        require(not outside, "a name leads out of the archive", Reason.outside_folder)
        for entry in entries:
            with archive.open(entry) as file:
                sizes.append((entry.filename, image_size(file.read(HEADER_BYTES))))
    check_images(sizes, limits)
