"""`fourdvd render`: scene → free-view film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    OverwriteOption,
    QuietOption,
    SceneArgument,
    VerboseOption,
)


def render(
    scene: SceneArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILM", help=".mp4, .gif, or a folder for PNG files."
        ),
    ],
    camera: Annotated[
        str,
        typer.Option(
            "--camera",
            metavar="orbit|swing|fixed|fixed:VIEW|FILE",
            help="Path of the camera; FILE is nerfstudio's camera path or a transforms JSON.",
        ),
    ] = "orbit",
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps", min=1, max=240, help="Frames a second.", show_default="24, or the file's"
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=16,
            max=8192,
            help="Pixels along the longer side.",
            show_default="that of the fitted views",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", min=1, help="Number of frames.", show_default="whole clips"),
    ] = None,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Scene → film in which the camera and time move together."""
    console.configure(quiet, verbose)
    from fourdvd_cli.filming import film

    film(
        scene,
        output,
        camera,
        fps=fps,
        size=size,
        frames=frames,
        device=device.value,
        overwrite=overwrite,
        quiet=quiet,
    )
