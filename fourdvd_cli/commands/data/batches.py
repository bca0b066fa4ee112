"""Run a batch of `data render`, `data figures` or `data bake` and show its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fourdvd_cli import console

if TYPE_CHECKING:
    from generation.curation.render.batch import AssetBatch
    from generation.curation.render.rendering import AnyAsset

REASONS_SHOWN = 20


def run_batch(batch: AssetBatch, assets: Sequence[AnyAsset], json: bool, quiet: bool) -> None:
    """Process assets with a progress bar, then show the counts and the reasons for refusals.

    Raises:
        FourdvdError: no asset was finished, or as in `AssetBatch.run`.
    """
    with console.progress(batch.phase, quiet) as report:
        result = batch.run(
            assets, lambda state: report(state.step, state.steps, _counts(state.metrics))
        )
    for row in result.refused[:REASONS_SHOWN]:
        console.say(f"{row.status}: {row.name}: {row.reason}")
    before = f"{result.from_before} of them in earlier runs"
    console.say(f"{result.folder}: {_counts(result.counts)}; {before}")
    result.require_finished()
    if json:
        console.print_json(result.to_json())


def _counts(counts: Mapping[Any, float]) -> str:
    return ", ".join(f"{count:.0f} {status}" for status, count in counts.items() if count)
