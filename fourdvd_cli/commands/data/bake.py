"""`fourdvd data bake`: bake the triangles of animated 3D assets for `train lift`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.commands.data.asset_options import (
    ASSETS_HELP,
    MaxFacesOption,
    MetadataOption,
    TimeoutOption,
)
from fourdvd_cli.commands.data.batches import run_batch
from fourdvd_cli.help import INPUT, OUTPUT
from fourdvd_cli.options import (
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayOption,
    VerboseOption,
    WorkersOption,
)
from generation.curation.assets.limits import Limits
from generation.curation.render.settings import (
    MAX_CLIPS,
    MAX_TEXTURE_SIZE,
    TIMEOUT_S,
    BakeSettings,
)

DEFAULTS = BakeSettings()


def bake(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for the baked assets, with one subfolder per asset.",
            rich_help_panel=OUTPUT,
        ),
    ],
    assets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ASSET...", help=ASSETS_HELP, show_default="only characters"),
    ] = None,
    overwrite: OverwriteOption = False,
    clips: Annotated[
        int,
        typer.Option(
            "--clips",
            metavar="N",
            min=1,
            max=MAX_CLIPS,
            help="Maximum number of animations of each asset.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.clips,
    frames: Annotated[
        int,
        typer.Option(
            "--frames",
            metavar="N",
            min=1,
            max=1000,
            help="Number of frames of each animation, evenly spaced over it.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.frames,
    texture_size: Annotated[
        int,
        typer.Option(
            "--texture-size",
            metavar="PIXELS",
            min=1,
            max=MAX_TEXTURE_SIZE,
            help="Longer side to which larger textures are reduced.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.texture_size,
    figures: Annotated[
        int,
        typer.Option(
            "--figures",
            metavar="N",
            min=0,
            max=10**6,
            help="Number of procedurally generated characters to bake as well; they need no "
            "Blender.",
            rich_help_panel=INPUT,
        ),
    ] = 0,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            max=10**8 - 1,
            help="Random seed of the first character; the others use the following seeds.",
            rich_help_panel=INPUT,
        ),
    ] = 0,
    max_faces: MaxFacesOption = Limits().triangles,
    metadata: MetadataOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    workers: WorkersOption = None,
    ray: RayOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Bake the triangles of 3D assets with Blender, for `fourdvd train lift`.

    Of each asset, the animations whose motions differ most are selected; those in which it lies or
    dies only if there are no others. Of an asset that does not move, a single frame is
    baked. Run the command again to resume it; finished assets are kept.
    """
    console.configure(quiet, verbose)
    if not assets and not figures:
        raise typer.BadParameter("expected an ASSET, or --figures N", param_hint="ASSET...")
    from generation.curation.assets.files import find_assets
    from generation.curation.figures.asset import figure_assets
    from generation.curation.render.batch import AssetBatch
    from generation.curation.render.blender_process import find_blender

    batch = AssetBatch(
        output, BakeSettings(clips, frames, texture_size), Limits(triangles=max_faces), timeout,
        workers, ray=ray, overwrite=overwrite,
    )  # fmt: skip
    if assets:
        find_blender()
    found = find_assets(assets, metadata) if assets else []
    run_batch(batch, [*found, *figure_assets(seed, figures)], json, quiet)
