"""`fourdvd data pack`: pack rendered grids into shards for training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import IMAGES, INPUT, OUTPUT
from fourdvd_cli.options import JsonOption, OverwriteOption, QuietOption, VerboseOption, one_of


class Codec(StrEnum):
    """The codecs of `generation.curation.shards.packed_images`; a test compares the two."""

    webp_lossless = "webp-lossless"
    png = "png"
    webp = "webp"


@dataclass(frozen=True)
class Bytes:
    """A number of bytes, and the text with a unit that it was read from."""

    number: int
    text: str

    def __str__(self) -> str:
        return self.text


def parse_bytes(text: str | Bytes) -> Bytes:
    """Parse a text like "256MB"; typer passes a default of this type unchanged."""
    if isinstance(text, Bytes):
        return text
    from fourdvd_cli import packing

    try:
        return Bytes(packing.parse_bytes(text), text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def pack(
    data: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of grids, as written by `fourdvd data render`."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="SHARDS",
            help="Folder of shards to write.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: OverwriteOption = False,
    shard_size: Annotated[
        Bytes,
        typer.Option(
            "--shard-size",
            metavar="SIZE",
            parser=parse_bytes,
            help="Maximum size of a shard file, with its unit.",
            rich_help_panel=OUTPUT,
        ),
    ] = Bytes(256_000_000, "256MB"),
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Random seed of the order of the grids in the shards.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    kept: Annotated[
        Path | None,
        typer.Option(
            "--kept",
            metavar="FILE",
            help="Names of the grids to pack, one per line.",
            show_default="DIR/filter/kept.txt if it exists, else all",
            rich_help_panel=INPUT,
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Pack all grids, whatever `fourdvd data filter` decided.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    min_views: Annotated[
        int,
        typer.Option(
            "--min-views",
            metavar="N",
            min=1,
            help="Minimum number of views; grids with fewer are left out.",
            rich_help_panel=INPUT,
        ),
    ] = 4,
    min_frames: Annotated[
        int,
        typer.Option(
            "--min-frames",
            metavar="N",
            min=1,
            help="Minimum number of frames; grids with fewer are left out.",
            rich_help_panel=INPUT,
        ),
    ] = 5,
    low: Annotated[
        int,
        typer.Option(
            "--low",
            metavar="PIXELS",
            min=8,
            help="Side of the images for the coarse stage in pixels.",
            rich_help_panel=IMAGES,
        ),
    ] = 256,
    high: Annotated[
        int,
        typer.Option(
            "--high",
            metavar="PIXELS",
            min=8,
            help="Side of the images for the fine stage in pixels.",
            rich_help_panel=IMAGES,
        ),
    ] = 576,
    low_only: Annotated[
        bool,
        typer.Option(
            "--low-only",
            help="Leave out the images for the fine stage.",
            rich_help_panel=IMAGES,
        ),
    ] = False,
    codec: Annotated[
        Codec,
        typer.Option(
            "--codec",
            metavar="NAME",
            help=f"{one_of(Codec)}; only webp is lossy.",
            rich_help_panel=IMAGES,
        ),
    ] = Codec.webp_lossless,
    quality: Annotated[
        int | None,
        typer.Option(
            "--webp-quality",
            metavar="N",
            min=0,
            max=100,
            help="Quality of lossy webp.",
            show_default="90",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Pack rendered grids into shards for training, at the image sizes of both stages.

    The shards are WebDatasets: tar files of images and JSON. SHARDS/index.json lists their content
    with licenses and credits, and the grids that were left out with the reason.
    """
    console.configure(quiet, verbose)
    if everything and kept is not None:
        raise typer.BadParameter("cannot be combined with --kept", param_hint="--all")
    if quality is not None and codec is not Codec.webp:
        raise typer.BadParameter("expected --codec webp with it", param_hint="--webp-quality")
    from fourdvd_cli.packing import names_to_pack, run_packing
    from generation.curation.shards import packed_images
    from generation.curation.shards.packing import PackSettings

    settings = PackSettings(
        low=low, high=None if low_only else high, codec=packed_images.Codec(codec), quality=quality,
        shard_bytes=shard_size.number, min_views=min_views, min_frames=min_frames, seed=seed,
    )  # fmt: skip
    names = names_to_pack(data, kept, everything)
    summary = run_packing(data, names, output, settings, overwrite, quiet)
    if json:
        console.print_json(summary)
