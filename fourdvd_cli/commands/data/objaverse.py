"""`fourdvd data objaverse`: animated objects of Objaverse, with their licences and credits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import JsonOption, QuietOption, VerboseOption


def objaverse(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to fill.", show_default=False),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            min=1,
            help="How many to draw from those that match.",
            show_default="100, or all of --uids",
        ),
    ] = None,
    uids: Annotated[
        Path | None,
        typer.Option("--uids", metavar="FILE", help="Only these: one a line, or a JSON list."),
    ] = None,
    licence: Annotated[
        list[str],
        typer.Option(
            "--licence",
            "--license",
            metavar="SLUG",
            help="Licence that is good enough, such as by-sa or by-nc; may be repeated.",
        ),
    ] = ["cc0", "by"],  # noqa: B006  (typer copies it)
    min_animations: Annotated[
        int, typer.Option("--min-animations", min=0, help="Animations at least.")
    ] = 1,
    min_faces: Annotated[int, typer.Option("--min-faces", min=0, help="Faces at least.")] = 100,
    max_faces: Annotated[int, typer.Option("--max-faces", min=1, help="Faces at most.")] = 500_000,
    max_size: Annotated[
        int, typer.Option("--max-size", metavar="MB", min=1, help="Of the GLB file.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw.")] = 0,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=32, help="Downloads at once.")
    ] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what matches; fetches only metadata.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Animated objects of Objaverse 1.0 → folder of GLB files.

    Beside them are objects.jsonl (where each is from, its licence) and ATTRIBUTION.md (the credits
    that licences ask for). Age-restricted objects are left out. Metadata and files are kept in
    ~/.objaverse, too. Run again to go on with an unfinished download.
    """
    console.configure(quiet, verbose)
    if output is None and not dry_run:
        raise typer.BadParameter("is needed without --dry-run", param_hint="-o")
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
