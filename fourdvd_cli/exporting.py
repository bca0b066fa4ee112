"""`recon.exporters` as the command line runs it: from a scene folder, with progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourdvd_cli import console
from recon.devices import resolve_device
from recon.exporters.folder import export as write_export
from recon.exporters.options import ExportOptions
from recon.exporters.verification import verify_export
from recon.scene import load_scene


def export(
    scene_folder: Path,
    output: Path,
    formats: Sequence[str],
    options: ExportOptions,
    *,
    verify: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Exports a scene, and looks at the files again if asked to.

    Args:
        scene_folder: as `reconstruct` makes it.
        output: gets a folder for each format.
        formats: keys of `recon.exporters.exporters`.
        options: for all of them.
        verify: whether to compare the files with the scene.
        device: "auto", "cpu" or "cuda".
        overwrite: whether the folder of a format may be replaced.
        quiet: show no progress.

    Returns:
        The content of `export.json`; where verified, each format has `verification` besides.

    Raises:
        FourdvdError: as `recon.export` and `verify_export`.
    """
    scene = load_scene(scene_folder, resolve_device(device))
    written: list[str] = []
    with console.progress("exporting", quiet) as report:

        def on_step(path: str) -> None:
            written.append(path)
            report(len(written), None, path)

        manifest = write_export(scene, output, formats, options, on_step, overwrite)
    console.say(f"wrote {len(written)} files to {output}")
    if verify:
        for name, found in verify_export(scene, output, formats).items():
            manifest["formats"][name]["verification"] = found._asdict()
    return manifest
