"""The manifest of an export folder, `export.json`: formats, their options, files and hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from recon.errors import InputError, OutputError

FORMAT = "fourdvd-export"
VERSION = 1
MANIFEST = "export.json"


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read the `export.json` of a folder.

    Raises:
        InputError: The file is missing, corrupt or of another format or version.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{MANIFEST} is missing; expected a folder of exports", folder) from error
    except ValueError as error:
        raise InputError(f"expected valid JSON ({error}); export again", path) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("formats"), dict):
        raise InputError("expected a JSON object with `formats`", path)
    found = (manifest.get("format"), manifest.get("version"))
    if found != (FORMAT, VERSION):
        raise InputError(f"expected format {FORMAT!r} version {VERSION}, found {found}", path)
    return manifest


def existing_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of earlier exports to a folder, without formats whose subfolder is gone.

    Raises:
        OutputError: The folder contains an `export.json` that is not an export manifest.
    """
    if not (folder / MANIFEST).exists():
        return {"format": FORMAT, "version": VERSION, "formats": {}}
    try:
        manifest = read_manifest(folder)
    except InputError as error:
        raise OutputError(f"{error}; choose another folder or remove that file") from error
    kept = {name: entry for name, entry in manifest["formats"].items() if (folder / name).is_dir()}
    return manifest | {"formats": kept}


def file_entry(path: str, data: bytes) -> dict[str, Any]:
    """Describe a file by its path in the export folder, its size and its hash."""
    return {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
