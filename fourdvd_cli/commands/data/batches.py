"""Run a batch of `data render`, `data figures` or `data bake` and show its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fourdvd_cli import console

if TYPE_CHECKING:
    from generation.curation.render.batch import AssetBatch
    from generation.curation.render.rendering import AnyAsset


def run_batch(batch: AssetBatch, assets: Sequence[AnyAsset], json: bool, quiet: bool) -> None:
    """Process assets with a progress bar, then show the counts and the reasons for refusals.

    Raises:
        FourdvdError: no asset was finished, or as in `AssetBatch.run`.
    """
    with console.progress(batch.phase, quiet) as report:
        result = batch.run(
            assets, lambda state: report(state.step, state.steps, console.counted(state.metrics))
        )
    console.show_reasons((row.status, row.name, row.reason) for row in result.refused)
    console.say(f"{result.folder}: {console.counted(result.counts, result.from_before)}")
    result.require_finished()
    if json:
        console.print_json(result.to_json())
