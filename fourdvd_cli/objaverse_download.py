"""Objects of Objaverse as the command line counts, draws and downloads them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourdvd_cli import console
from generation.curation.objaverse.downloading import Downloaded, download_objects
from generation.curation.objaverse.package import DownloadError
from generation.curation.objaverse.records import FAILURES_NAME, TABLE_NAME
from generation.curation.objaverse.selection import (
    Criteria,
    LeftOut,
    Matches,
    ObjaverseObject,
    Total,
    find_objects,
    sample,
    total_by_licence,
)
from recon.errors import InputError

DEFAULT_COUNT = 100  # all that match would be hundreds of GB
HEADER = ("licence", "objects", "faces", "GB")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draw:
    """What is asked for.

    Attributes:
        criteria: that objects must meet.
        uids: the only ones to look at; None for all.
        count: how many to draw; None for `DEFAULT_COUNT`, or all of `uids`.
        seed: of the draw.
    """

    criteria: Criteria
    uids: Sequence[str] | None
    count: int | None
    seed: int

    def from_matches(self, matches: Matches) -> list[ObjaverseObject]:
        """The objects that are drawn."""
        count = DEFAULT_COUNT if self.count is None and self.uids is None else self.count
        return sample(matches.objects, count, self.seed)


def count_objects(draw: Draw, *, json: bool, quiet: bool) -> None:
    """Prints how many objects match under which licence, and how many would be drawn.

    Raises:
        FourdvdError: as `find_objects`.
    """
    matches = _find(draw, quiet)
    drawn = draw.from_matches(matches)
    if json:
        console.print_json(_facts(matches, drawn))
    else:
        console.print_table(HEADER, _rows(matches))
        console.say(f"{len(drawn)} of them would be downloaded")


def fetch_objects(draw: Draw, output: Path, workers: int, *, json: bool, quiet: bool) -> None:
    """Downloads the objects that are drawn and tells what came of it.

    Raises:
        InputError: no object matches.
        DownloadError: none of the objects that were drawn can be had.
        FourdvdError: as `find_objects` and `download_objects`.
    """
    matches = _find(draw, quiet)
    drawn = draw.from_matches(matches)
    if not drawn:
        raise InputError(f"no object of Objaverse matches; left out for: {_causes(matches)}")
    with console.progress("downloading", quiet) as report:
        downloaded = download_objects(
            drawn, output, workers, lambda done, total: report(done, total, "objects")
        )
    if json:
        console.print_json(_facts(matches, drawn) | _outcome(output, downloaded))
    _tell(output, downloaded)


def _find(draw: Draw, quiet: bool) -> Matches:
    with console.progress("looking through the metadata", quiet) as report:
        matches = find_objects(
            draw.criteria, draw.uids, lambda done, total: report(done, total, "objects")
        )
    console.say(f"{len(matches.objects)} objects match; left out for: {_causes(matches)}")
    if matches.unknown:
        _log.warning(
            "%d of the uids are unknown, such as %s", len(matches.unknown), matches.unknown[0]
        )
    return matches


def _tell(output: Path, downloaded: Downloaded) -> None:
    there, before = len(downloaded.records), downloaded.already_there
    console.say(f"{output}: {there} objects, {before} of them from before; see {TABLE_NAME}")
    failed, failures = len(downloaded.failures), output / FAILURES_NAME
    if failed and not there:
        raise DownloadError(f"none of {failed} objects could be had; {failures} tells why")
    if failed:
        _log.warning("%d objects could not be had; %s tells why", failed, failures)


def _causes(matches: Matches) -> str:
    counts = [f"{cause.value} {matches.left_out.get(cause, 0)}" for cause in LeftOut]
    return ", ".join(counts)


def _rows(matches: Matches) -> list[tuple[str, ...]]:
    totals = total_by_licence(matches.objects)
    together = Total(*map(sum, zip(*totals.values(), strict=True))) if totals else Total(0, 0, 0)
    return [
        (slug, f"{total.objects:,}", f"{total.faces:,}", f"{total.bytes / 1e9:.2f}")
        for slug, total in [*totals.items(), ("all", together)]
    ]


def _facts(matches: Matches, drawn: Sequence[ObjaverseObject]) -> dict[str, Any]:
    return {
        "matching": {
            slug: total._asdict() for slug, total in total_by_licence(matches.objects).items()
        },
        "left_out": {cause.name: matches.left_out.get(cause, 0) for cause in LeftOut},
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
