"""Packing as the command line runs it: names found, progress, counts."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdvd_cli import console

if TYPE_CHECKING:
    from generation.curation.shards.packing import PackSettings

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

_log = logging.getLogger(__name__)


def parse_bytes(text: str) -> int:
    """The number in a text like "256MB"; ValueError if there is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise ValueError(f"expected a size such as 256MB, found {text!r}")
    return round(float(found[1]) * _UNITS[found[2]])


def names_to_pack(data: Path, kept: Path | None, everything: bool) -> list[str]:
    """The grids that a user asked for.

    Args:
        data: folder of rendered data.
        kept: file of names; what the filters kept if None.
        everything: all grids instead, whatever the filters said.

    Raises:
        InputError: the names cannot be read.
    """
    from generation.curation.shards import packing

    if everything:
        return packing.grid_names(data)
    return packing.kept_names(data) if kept is None else packing.read_names(kept)


def run_packing(
    data: Path,
    names: Sequence[str],
    output: Path,
    settings: PackSettings,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Packs grids and says what came of it.

    Args:
        data: folder of rendered data.
        names: of the grids to pack.
        output: folder of the shards.
        settings: how.
        overwrite: whether an older output may be replaced.
        quiet: show no progress.

    Returns:
        The counts, as `--json` prints them.

    Raises:
        FourdvdError: as `generation.curation.shards.packing.pack_grids`.
    """
    from generation.curation.shards.packing import pack_grids

    with console.progress("packing", quiet) as report:
        index = pack_grids(
            data, names, output, settings, overwrite,
            lambda done, total: report(done, total, "grids"),
        )  # fmt: skip
    for skipped in index.skipped:
        _log.warning("left out: %s: %s", skipped.name, skipped.reason)
    console.say(
        f"wrote {output}: {len(index.samples)} of {len(names)} grids, {index.images} images, "
        f"{index.total_bytes / 1e6:.1f} MB in {len(index.shards)} shards"
    )
    return {
        "output": str(output),
        "samples": len(index.samples),
        "images": index.images,
        "bytes": index.total_bytes,
        "shards": len(index.shards),
        "skipped": dict(index.skipped),
    }
