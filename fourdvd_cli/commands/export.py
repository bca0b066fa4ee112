"""`fourdvd export`: scene → files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import (
    Axes,
    Device,
    DeviceOption,
    Format,
    JsonOption,
    OverwriteOption,
    QuietOption,
    SceneArgument,
    VerboseOption,
)


def export(
    scene: SceneArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Each format gets a folder in it.")
    ],
    formats: Annotated[
        list[Format], typer.Option("--format", "-f", help="May be given several times.")
    ],
    frames: Annotated[
        int | None,
        typer.Option("--frames", min=1, help="Number of frames.", show_default="the fitted ones"),
    ] = None,
    axes: Annotated[
        Axes, typer.Option("--axes", help="Axes of ply and splat; 3DGS viewers expect y-down.")
    ] = Axes.y_down,
    faces: Annotated[
        int, typer.Option("--faces", min=4, help="Triangles of the mesh in glb, at most.")
    ] = 20_000,
    texture_size: Annotated[
        int, typer.Option("--texture-size", min=16, max=8192, help="Pixels a side, of glb.")
    ] = 1024,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the files again and compare with the scene.")
    ] = False,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Scene → PLY sequence, animated GLB, splat files."""
    console.configure(quiet, verbose)
    from fourdvd_cli.exporting import export as export_folder
    from recon.exporters.options import ExportOptions

    names = list(dict.fromkeys(name.value for name in formats))
    manifest = export_folder(
        scene,
        output,
        names,
        ExportOptions(frames=frames, axes=axes.value, faces=faces, texture_size=texture_size),
        verify=verify,
        device=device.value,
        overwrite=overwrite,
        quiet=quiet,
    )
    if json:
        console.print_json(manifest)
    elif verify:
        found = {name: manifest["formats"][name]["verification"] for name in names}
        console.print_table(
            ("format", "PSNR to the scene", "worst image", "images"),
            [
                (name, f"{v['psnr']:.2f} dB", f"{v['worst_psnr']:.2f} dB", str(v["images"]))
                for name, v in found.items()
            ],
        )
