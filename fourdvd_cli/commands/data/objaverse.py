"""`fourdvd data objaverse`: download animated objects of Objaverse with licenses and credits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import INPUT, MACHINE, OUTPUT
from fourdvd_cli.options import JsonOption, QuietOption, VerboseOption


def objaverse(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder to fill; required without --dry-run.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Download only the metadata, and count the matching objects.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            min=1,
            help="Number of objects to draw at random from those that match.",
            show_default="100, or all of --uids",
            rich_help_panel=INPUT,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Random seed of the draw.",
            rich_help_panel=INPUT,
        ),
    ] = 0,
    uids: Annotated[
        Path | None,
        typer.Option(
            "--uids",
            metavar="FILE",
            help="Consider only the objects in this file: one UID per line, or a JSON list.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    licence: Annotated[
        list[str],
        typer.Option(
            "--license",
            metavar="SLUG",
            help="Accepted license, such as by-sa or by-nc; may be repeated.",
            rich_help_panel=INPUT,
        ),
    ] = ["cc0", "by"],  # noqa: B006  (typer copies it)
    min_animations: Annotated[
        int,
        typer.Option(
            "--min-animations",
            metavar="N",
            min=0,
            help="Minimum number of animations.",
            rich_help_panel=INPUT,
        ),
    ] = 1,
    min_faces: Annotated[
        int,
        typer.Option(
            "--min-faces",
            metavar="N",
            min=0,
            help="Minimum number of faces.",
            rich_help_panel=INPUT,
        ),
    ] = 100,
    max_faces: Annotated[
        int,
        typer.Option(
            "--max-faces",
            metavar="N",
            min=1,
            help="Maximum number of faces.",
            rich_help_panel=INPUT,
        ),
    ] = 500_000,
    max_size: Annotated[
        int,
        typer.Option(
            "--max-file-size",
            metavar="MB",
            min=1,
            help="Maximum size of the GLB file in megabytes.",
            rich_help_panel=INPUT,
        ),
    ] = 100,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=32,
            help="Downloads at a time.",
            rich_help_panel=MACHINE,
        ),
    ] = 4,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Download animated objects of Objaverse 1.0 as GLB files.

    Writes objects.jsonl (source and license of each object) and ATTRIBUTION.md (the credits that
    the licenses require) beside them. Age-restricted objects are left out. Run the command again to
    resume an unfinished download.
    """
    console.configure(quiet, verbose)
    if output is None and not dry_run:
        raise typer.BadParameter("expected a folder, unless --dry-run is given", param_hint="-o")
    from fourdvd_cli.objaverse_download import Draw, count_objects, fetch_objects
    from generation.curation.objaverse.licences import check_slugs
    from generation.curation.objaverse.selection import Criteria, read_uids

    criteria = Criteria(
        check_slugs(licence), min_animations, min_faces, max_faces, max_size * 10**6
    )
    draw = Draw(criteria, None if uids is None else read_uids(uids), count, seed)
    if output is None or dry_run:
        count_objects(draw, json=json, quiet=quiet)
    else:
        fetch_objects(draw, output, workers, json=json, quiet=quiet)
