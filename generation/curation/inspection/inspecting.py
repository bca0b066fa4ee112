"""Looks at an asset before Blender opens it, so that a bad file costs milliseconds and no memory.

What it does not know: what an import makes of a sound file. Of glTF it tells triangles and
animations; of other formats only that they are what they say.
"""

from __future__ import annotations

from generation.curation.asset_files import Asset, AssetFormat
from generation.curation.inspection.file_signatures import (
    check_alembic,
    check_fbx,
    check_obj_sequence,
    check_usd,
)
from generation.curation.inspection.findings import AssetError, Inspection, Limits, Reason
from generation.curation.inspection.gltf_inspection import inspect_gltf


def inspect(asset: Asset, limits: Limits | None = None) -> Inspection:
    """What is known of an asset without importing it.

    Args:
        asset: which.
        limits: what it may ask of the machine; `Limits()` if None.

    Raises:
        AssetError: it is refused; the error has a reason and the path.
        OSError: it may not be read.
    """
    try:
        return _inspect(asset, limits or Limits())
    except AssetError as error:
        raise AssetError(error.reason, error.sentence, asset.path) from error.__cause__


def _inspect(asset: Asset, limits: Limits) -> Inspection:
    if asset.format is AssetFormat.obj:
        if not asset.path.is_dir():
            raise AssetError(Reason.missing, "no such folder")
        check_obj_sequence(asset.path, limits)
        return Inspection()
    _check_size(asset, limits)
    match asset.format:
        case AssetFormat.glb | AssetFormat.gltf:
            return inspect_gltf(asset.path, limits)
        case AssetFormat.fbx:
            check_fbx(asset.path)
        case AssetFormat.abc:
            check_alembic(asset.path)
        case AssetFormat.usd:
            check_usd(asset.path, limits)
    return Inspection()


def _check_size(asset: Asset, limits: Limits) -> None:
    if not asset.path.is_file():
        raise AssetError(Reason.missing, "no such file")
    size = asset.path.stat().st_size
    if size == 0:
        raise AssetError(Reason.empty, "the file is empty")
    if size > limits.file_bytes:
        raise AssetError(
            Reason.too_large, f"the file has {size:,} bytes, more than {limits.file_bytes:,}"
        )
