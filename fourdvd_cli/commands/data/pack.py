"""`fourdvd data pack`: pack rendered grids into shards for training."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import IMAGES, INPUT, OUTPUT
from fourdvd_cli.options import JsonOption, OverwriteOption, QuietOption, VerboseOption, one_of
from generation.curation.shards.pack_settings import DEFAULT_QUALITY, Codec, PackSettings

DEFAULTS = PackSettings()
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bytes:
    """A number of bytes, and the text from which it was parsed."""

    number: int
    text: str

    def __str__(self) -> str:
        return self.text


def parse_bytes(text: str | Bytes) -> Bytes:
    """Parse a text like "256MB"; typer passes a default of this type unchanged."""
    if isinstance(text, Bytes):
        return text
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise typer.BadParameter(f"expected a size such as 256MB, found {text!r}")
    return Bytes(round(float(found[1]) * _UNITS[found[2]]), text)


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
            help="Maximum size of a shard file, such as 256MB.",
            rich_help_panel=OUTPUT,
        ),
    ] = Bytes(DEFAULTS.shard_bytes, f"{DEFAULTS.shard_bytes // 10**6}MB"),
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Random seed for shuffling the grids.",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULTS.seed,
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
            help="Pack all grids, including those that `fourdvd data filter` rejected.",
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
    ] = DEFAULTS.min_views,
    min_frames: Annotated[
        int,
        typer.Option(
            "--min-frames",
            metavar="N",
            min=1,
            help="Minimum number of frames; grids with fewer are left out.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.min_frames,
    low: Annotated[
        int,
        typer.Option(
            "--low",
            metavar="PIXELS",
            min=8,
            help="Side of the images for the coarse stage in pixels.",
            rich_help_panel=IMAGES,
        ),
    ] = DEFAULTS.low,
    high: Annotated[
        int,
        typer.Option(
            "--high",
            metavar="PIXELS",
            min=8,
            help="Side of the images for the fine stage in pixels.",
            rich_help_panel=IMAGES,
        ),
    ] = DEFAULTS.high or 0,
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
    ] = DEFAULTS.codec,
    quality: Annotated[
        int | None,
        typer.Option(
            "--webp-quality",
            metavar="N",
            min=0,
            max=100,
            help="Quality of lossy webp.",
            show_default=str(DEFAULT_QUALITY),
            rich_help_panel=IMAGES,
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Pack rendered grids into shards for training, at the image sizes of both stages.

    The shards are WebDatasets: tar files of images and JSON. SHARDS/index.json lists their content
    with licenses and credits, and the skipped grids with the reasons.
    """
    console.configure(quiet, verbose)
    if everything and kept is not None:
        raise typer.BadParameter("cannot be combined with --kept", param_hint="--all")
    if quality is not None and codec is not Codec.WEBP:
        raise typer.BadParameter("needs --codec webp", param_hint="--webp-quality")
    from generation.curation.shards.packing import pack_grids, select_names

    settings = PackSettings(
        low=low, high=None if low_only else high, codec=codec, quality=quality,
        shard_bytes=shard_size.number, min_views=min_views, min_frames=min_frames, seed=seed,
    )  # fmt: skip
    names = select_names(data, kept, everything)
    with console.progress("packing", quiet) as report:
        index = pack_grids(
            data, names, output, settings, overwrite,
            lambda state: report(state.step, state.steps, "grids"),
        )  # fmt: skip
    for skipped in index.skipped:
        _log.warning("skipped %s: %s", skipped.name, skipped.reason)
    console.say(
        f"wrote {output}: {len(index.samples)} of {len(names)} grids, {index.images} images, "
        f"{index.total_bytes / 1e6:.1f} MB in {len(index.shards)} shards"
    )
    if json:
        console.print_json(
            {
                "output": str(output),
                "samples": len(index.samples),
                "images": index.images,
                "bytes": index.total_bytes,
                "shards": len(index.shards),
                "skipped": dict(index.skipped),
            }
        )
