"""`fourdvd data pack`: rendered grids → shards for training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import JsonOption, OverwriteOption, QuietOption, VerboseOption


class Codec(StrEnum):
    """The codecs of `generation.curation.shards.packed_images`; a test compares the two."""

    webp_lossless = "webp-lossless"
    png = "png"
    webp = "webp"


@dataclass(frozen=True)
class Bytes:
    """A number of bytes that was written with a unit."""

    number: int
    text: str

    def __str__(self) -> str:
        return self.text


def parse_bytes(text: str | Bytes) -> Bytes:
    """The size in a text like "256MB"; typer hands its default over as it is."""
    if isinstance(text, Bytes):
        return text
    from fourdvd_cli import packing

    try:
        return Bytes(packing.parse_bytes(text), text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def pack(
    data: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of grids, as `fourdvd data render` fills.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="SHARDS", help="Folder to make.")
    ],
    low: Annotated[
        int, typer.Option("--low", min=8, help="Side of the images of the coarse stage in pixels.")
    ] = 256,
    high: Annotated[int, typer.Option("--high", min=8, help="Likewise of the fine stage.")] = 576,
    low_only: Annotated[
        bool, typer.Option("--low-only", help="Leave out the images of the fine stage.")
    ] = False,
    codec: Annotated[
        Codec, typer.Option("--codec", help="webp is the only one that loses anything.")
    ] = Codec.webp_lossless,
    quality: Annotated[
        int | None,
        typer.Option("--quality", min=0, max=100, help="Of webp.", show_default="90"),
    ] = None,
    shard_size: Annotated[
        Bytes,
        typer.Option("--shard-size", metavar="SIZE", parser=parse_bytes, help="Of a file at most."),
    ] = Bytes(256_000_000, "256MB"),
    kept: Annotated[
        Path | None,
        typer.Option(
            "--kept",
            metavar="FILE",
            help="Names of the grids to pack, one a line.",
            show_default="DIR/filter/kept.txt, or all",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All grids, whatever the filters said.")
    ] = False,
    min_views: Annotated[
        int, typer.Option("--min-views", min=1, help="Grids with fewer are left out.")
    ] = 4,
    min_frames: Annotated[int, typer.Option("--min-frames", min=1, help="Likewise.")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order in the shards.")] = 0,
    json: JsonOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Rendered grids → shards for training, at the sizes of both stages.

    The shards are WebDatasets: tar files of images and JSON. index.json names what is in them, with
    licences and credits, and the grids that had to be left out.
    """
    console.configure(quiet, verbose)
    if everything and kept is not None:
        raise typer.BadParameter("says otherwise than --kept", param_hint="--all")
    if quality is not None and codec is not Codec.webp:
        raise typer.BadParameter("is for --codec webp alone", param_hint="--quality")
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
