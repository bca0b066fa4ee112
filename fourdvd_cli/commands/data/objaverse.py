"""`fourdvd data objaverse`: download animated objects of Objaverse with licenses and credits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fourdvd_cli import console
from fourdvd_cli.help import INPUT, MACHINE, OUTPUT
from fourdvd_cli.options import JsonOption, QuietOption, VerboseOption
from generation.curation.assets.objaverse import Criteria

if TYPE_CHECKING:
    from generation.curation.assets.objaverse import Matches, ObjaverseObject
    from generation.curation.assets.objaverse_download import Downloaded

DEFAULTS = Criteria()
DEFAULT_COUNT = 100  # all matches would be hundreds of GB
HEADER = ("license", "objects", "faces", "GB")

_log = logging.getLogger(__name__)


def objaverse(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for the downloads; required unless --dry-run is given.",
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
            help="Number of objects, chosen at random from those that match.",
            show_default=f"{DEFAULT_COUNT}, or all of --uids",
            rich_help_panel=INPUT,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Random seed of that choice.",
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
    ] = sorted(DEFAULTS.licenses),
    min_animations: Annotated[
        int,
        typer.Option(
            "--min-animations",
            metavar="N",
            min=0,
            help="Minimum number of animations.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.min_animations,
    min_faces: Annotated[
        int,
        typer.Option(
            "--min-faces",
            metavar="N",
            min=0,
            help="Minimum number of faces.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.min_faces,
    max_faces: Annotated[
        int,
        typer.Option(
            "--max-faces",
            metavar="N",
            min=1,
            help="Maximum number of faces.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.max_faces,
    max_size: Annotated[
        int,
        typer.Option(
            "--max-file-size",
            metavar="MB",
            min=1,
            help="Maximum size of the GLB file in megabytes.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULTS.max_bytes // 10**6,
    keep_test_objects: Annotated[
        bool,
        typer.Option(
            "--keep-test-objects",
            help="Do not leave out the objects of Consistent4D's test set.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=32,
            help="Number of parallel downloads.",
            rich_help_panel=MACHINE,
        ),
    ] = 4,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Download animated objects of Objaverse 1.0 as GLB files.

    Writes objects.jsonl (source and license of each object) and ATTRIBUTION.md (the credits that
    the licenses require) beside them. Age-restricted objects and the test set of Consistent4D are
    left out. Run the command again to resume an unfinished download.
    """
    console.configure(quiet, verbose)
    if output is None and not dry_run:
        raise typer.BadParameter("required unless --dry-run is given", param_hint="-o")
    from generation.curation.assets.objaverse import find_objects, read_uids, sample
    from generation.curation.assets.objaverse_download import download_objects
    from recon.errors import InputError

    accepted = frozenset(slug.lower() for slug in licence)
    excluded = frozenset() if keep_test_objects else DEFAULTS.excluded
    criteria = Criteria(accepted, min_animations, min_faces, max_faces, max_size * 10**6, excluded)
    requested = None if uids is None else read_uids(uids)
    with console.progress("searching the metadata", quiet) as report:
        matches = find_objects(
            criteria, requested, lambda state: report(state.step, state.steps, "objects")
        )
    _show_matches(matches)
    drawn = sample(
        matches.objects, DEFAULT_COUNT if count is None and uids is None else count, seed
    )
    if output is None or dry_run:
        _show_counts(matches, drawn, json)
        return
    if not drawn:
        raise InputError(
            f"no object of Objaverse matches the criteria; excluded: {matches.mismatch_summary}"
        )
    with console.progress("downloading", quiet) as report:
        downloaded = download_objects(
            drawn, output, workers, lambda state: report(state.step, state.steps, "objects")
        )
    if json:
        console.print_json(_counts(matches, drawn) | _outcome(output, downloaded))
    _show_outcome(output, downloaded)


def _show_matches(matches: Matches) -> None:
    console.say(f"{len(matches.objects)} objects match; excluded: {matches.mismatch_summary}")
    if matches.unknown:
        _log.warning("%d unknown uids, e.g. %s", len(matches.unknown), matches.unknown[0])


def _show_counts(matches: Matches, drawn: list[ObjaverseObject], json: bool) -> None:
    if json:
        console.print_json(_counts(matches, drawn))
        return
    totals = matches.totals
    together = [sum(column) for column in zip(*totals.values(), strict=True)] or [0, 0, 0]
    rows = [*totals.items(), ("all", together)]
    console.print_table(
        HEADER,
        [(slug, f"{n:,}", f"{faces:,}", f"{size / 1e9:.2f}") for slug, (n, faces, size) in rows],
    )
    console.say(f"{len(drawn)} of them would be downloaded")


def _show_outcome(output: Path, downloaded: Downloaded) -> None:
    from generation.curation.assets.objaverse import DownloadError
    from generation.curation.assets.objaverse_download import FAILURES_NAME, TABLE_NAME

    there, before = len(downloaded.records), downloaded.already_there
    console.say(f"{output}: {there} objects, {before} of them from earlier runs; see {TABLE_NAME}")
    failed, failures = len(downloaded.failures), output / FAILURES_NAME
    if failed and not there:
        raise DownloadError(f"all {failed} downloads failed; see {failures}")
    if failed:
        _log.warning("%d downloads failed; see %s", failed, failures)


def _counts(matches: Matches, drawn: list[ObjaverseObject]) -> dict[str, Any]:
    from generation.curation.assets.objaverse import Mismatch

    return {
        "matching": {slug: total._asdict() for slug, total in matches.totals.items()},
        "left_out": {cause.name: matches.mismatches.get(cause, 0) for cause in Mismatch},
        "unknown": list(matches.unknown),
        "drawn": [each.uid for each in drawn],
    }


def _outcome(output: Path, downloaded: Downloaded) -> dict[str, Any]:
    return {
        "output": str(output),
        "downloaded": len(downloaded.records) - downloaded.already_there,
        "already_there": downloaded.already_there,
        "failed": downloaded.failures,
    }
