"""A scene on disk in other programs' formats: a subfolder for each, and `export.json` over all.

Each subfolder is complete or absent; a later call can add another format to the same folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import InputError, OutputError, SceneError
from recon.exporters import exporters
from recon.exporters.frames import frame_times
from recon.exporters.options import ExportOptions
from recon.output import check_output, output_folder, write_json
from recon.scene import Scene

FORMAT = "fourdvd-export"
VERSION = 1
MANIFEST = "export.json"

Exporter = Callable[[Scene, np.ndarray, ExportOptions], Iterator[tuple[str, bytes]]]


def export(
    scene: Scene,
    folder: str | Path,
    formats: Sequence[str],
    options: ExportOptions | None = None,
    on_step: Callable[[str], None] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes a scene in some formats.

    Args:
        scene: what to write.
        folder: gets a subfolder for each format and `export.json`.
        formats: keys of `recon.exporters.exporters`.
        options: the defaults if None.
        on_step: called with the path of each file inside `folder` when it is written.
        overwrite: whether a subfolder that is there already may be replaced.

    Returns:
        The content of `export.json`.

    Raises:
        InputError: a format or its axes are not known.
        SceneError: the scene has no Gaussians, or for a mesh no surface.
        OutputExistsError: a subfolder is there already; nothing was written.
        OutputError: `folder` holds an `export.json` of something else.
    """
    folder = Path(folder)
    options = options or ExportOptions()
    found = {name: find_exporter(name) for name in formats}
    if scene.gaussians.means.shape[0] == 0:
        raise SceneError("a scene without Gaussians cannot be exported; was it ever fitted?")
    times = frame_times(scene, options.frames)
    manifest = _existing_manifest(folder)
    for name in found:
        check_output(folder / name, overwrite)
    for name, exporter in found.items():
        with output_folder(folder / name, overwrite) as partial:
            files = []
            for file, data in exporter(scene, times, options):
                (partial / file).write_bytes(data)
                files.append(_entry(f"{name}/{file}", data))
                if on_step is not None:
                    on_step(files[-1]["path"])
        manifest["formats"][name] = {
            "times": [float(time) for time in times],
            "options": dataclasses.asdict(options),
            "files": files,
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The `export.json` of a folder.

    Raises:
        InputError: it is missing, corrupt or of something else.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{MANIFEST} is missing; expected a folder of exports", folder) from error
    except ValueError as error:
        raise InputError(f"not valid JSON ({error})", path) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("formats"), dict):
        raise InputError("expected a JSON object with `formats`", path)
    found = (manifest.get("format"), manifest.get("version"))
    if found != (FORMAT, VERSION):
        raise InputError(f"expected format {FORMAT!r} version {VERSION}, found {found}", path)
    return manifest


def find_exporter(name: str) -> Exporter:
    """The exporter of a format, imported when asked for.

    Raises:
        InputError: there is no format of that name.
    """
    if name not in exporters:
        raise InputError(f"unknown export format {name!r}; expected one of {', '.join(exporters)}")
    module, _, function = exporters[name].partition(":")
    return getattr(importlib.import_module(module), function)


def _existing_manifest(folder: Path) -> dict[str, Any]:
    """What earlier exports left, less the formats whose folders are gone."""
    if not (folder / MANIFEST).exists():
        return {"format": FORMAT, "version": VERSION, "formats": {}}
    try:
        manifest = read_manifest(folder)
    except InputError as error:
        raise OutputError(f"{error}; choose another folder or remove that file") from error
    kept = {name: entry for name, entry in manifest["formats"].items() if (folder / name).is_dir()}
    return manifest | {"formats": kept}


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
