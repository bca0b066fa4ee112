"""Write a scene to a folder in several formats: a subfolder per format, and `export.json`.

Each subfolder is complete or absent; a later export can add another format to the same folder.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recon.errors import InputError, SceneError
from recon.exporters import MESHES, exporters
from recon.exporters.conventions import frame_times
from recon.exporters.manifest import MANIFEST, existing_manifest, file_entry
from recon.exporters.options import ExportOptions
from recon.exporters.packages import check_package
from recon.output import check_output, json_text, output_file, output_folder
from recon.progress import OnStep, Progress, Whole, ignore_progress
from recon.scene import Scene

Exporter = Callable[..., Iterator[tuple[str, bytes]]]
MESH_COST = 16.0  # duration of the work on a mesh; that on files of Gaussians is 1


def export(
    scene: Scene,
    folder: str | Path,
    formats: Sequence[str],
    options: ExportOptions | None = None,
    *,
    verify: bool = False,
    on_step: OnStep = ignore_progress,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Export a scene to the file formats of other programs.

    Example:
        >>> scene = load_scene("out/scene")
        >>> export(scene, "out/export", formats=["ply", "glb"])
        >>> export(scene, "out/export", ["splat"], ExportOptions(frames=30), verify=True)

    Args:
        scene: the scene.
        folder: output folder; it gets a subfolder per format and `export.json`.
        formats: "ply" (3DGS, a file per frame), "glb" (animated textured mesh), "glb-splats"
            (KHR_gaussian_splatting, a file per frame), "splat" (a file per frame), "html" (the
            player with the scene, one file), "zip" (of PLY files), or, with the
            extra `[formats]`, "spz", "sog" or "compressed-ply" (a file per frame) or "usd" (the
            moving Gaussians, and the animated mesh) or "4dgs" or
            "splat4d" (one file).
        options: number of frames, axes, mesh and texture size; None: the defaults.
        verify: whether the files are read back, rendered and compared with the scene.
        on_step: called after every file, with the file's path in `folder` as the phase, and before
            each part of the work on a mesh and each image of a verification; its steps are
            hundredths of the whole export.
        overwrite: whether an existing subfolder of a format is replaced.

    Returns:
        The content of `export.json`; with `verify`, each exported format has a `verification`
        with the fields of `recon.exporters.verification.Verification` in addition.

    Raises:
        InputError: A format or its axes are unknown.
        BackendError: A package that a format needs is missing; nothing was written.
        SceneError: The scene has no Gaussians, it contains NaN, they enclose no surface ("glb"),
            or they are more than a page shows ("html").
        OutputExistsError: The subfolder of a format exists; nothing was written.
        OutputError: `folder` contains an `export.json` that is not an export manifest.
        VerificationError: Renderings of the exported PLY files differ from the scene.
    """
    folder = Path(folder)
    options = options or ExportOptions()
    found = {name: find_exporter(name) for name in formats}
    if scene.gaussians.means.shape[0] == 0:
        raise SceneError("the scene is without Gaussians, expected at least one; fit it again")
    for name, tensor in (scene.gaussians._asdict() | scene.deformation.state_dict()).items():
        if not tensor.isfinite().all():
            raise SceneError(f"the scene's {name} contain NaN or infinite numbers; fit it again")
    times = frame_times(scene, options.frames)
    manifest = existing_manifest(folder)
    for name in found:
        check_output(folder / name, overwrite)
    whole = Whole(_costs(formats, verify), on_step)
    for name, exporter in found.items():
        on_part = whole.part(name)
        with (  # the folder takes its place first, when its manifest is written already
            output_file(folder / MANIFEST, overwrite=True) as partial_manifest,
            output_folder(folder / name, overwrite) as partial,
        ):
            files = []
            for file, data in exporter(scene, times, options, **_reporting(name, on_part)):
                (partial / file).write_bytes(data)
                files.append(file_entry(f"{name}/{file}", data))
                # An exporter of meshes reports steps itself; most others write a file per frame.
                steps = None if name in MESHES else 1 + max(len(times), len(files))
                on_part(Progress(files[-1]["path"], len(files), steps))
            manifest["formats"][name] = {
                "times": [float(time) for time in times],
                "options": dataclasses.asdict(options) | {"axes": options.axes_of(name)},
                "files": files,
            }
            text = json_text(manifest, folder / MANIFEST)
            partial_manifest.write_text(text, encoding="utf-8")
    if verify:
        from recon.exporters.verification import verify_export  # loads every format's reader

        for name in found:
            on_part = _named(name, whole.part(_verification(name)))
            result = verify_export(scene, folder, [name], on_part)[name]
            manifest["formats"][name]["verification"] = result._asdict()
    if found:
        whole.finish("done")
    return manifest


def _costs(formats: Sequence[str], verify: bool) -> dict[str, float]:
    """Return the relative durations of the parts of an export, as measured on a CPU."""
    costs = {name: MESH_COST if name in MESHES else 1.0 for name in formats}
    if verify:
        for name in formats:
            costs[_verification(name)] = costs[name] / 2
    return costs


def _verification(name: str) -> str:
    """Return the name of the part that verifies a format."""
    return f"verification of {name}"


def _reporting(name: str, on_step: OnStep) -> dict[str, OnStep]:
    """Return the argument with which an exporter of meshes reports its progress."""
    if name not in MESHES:
        return {}
    return {"on_step": _named(name, on_step)}


def _named(name: str, on_step: OnStep) -> OnStep:
    """Let the phases of a part begin with the name of its format."""
    return lambda part: on_step(part._replace(phase=f"{name}: {part.phase}"))


def find_exporter(name: str) -> Exporter:
    """Import the exporter of a format.

    Raises:
        InputError: There is no format of that name.
        BackendError: The package that the format needs is missing.
    """
    if name not in exporters:
        raise InputError(f"unknown export format {name!r}; expected one of {', '.join(exporters)}")
    check_package(name)
    module, _, function = exporters[name].partition(":")
    return getattr(importlib.import_module(module), function)
