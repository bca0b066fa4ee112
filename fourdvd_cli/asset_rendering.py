"""Assets as the command line renders them: many at once, resumable, one row for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fourdvd_cli import console
from generation.curation.assets.files import find_assets
from generation.curation.assets.limits import Limits
from generation.curation.figures.asset import figure_assets
from generation.curation.jobs import Resources, make_executor
from generation.curation.manifest import (
    MANIFEST_NAME,
    Row,
    Status,
    append_row,
    is_final,
    read_rows,
    row_json,
)
from generation.curation.render.blender_process import find_blender
from generation.curation.render.rendering import (
    NO_BACKEND,
    TIMEOUT_S,
    AnyAsset,
    RenderTask,
    finished_row,
    render_asset,
    row_of,
)
from generation.curation.render.settings import RenderSettings
from recon.devices import usable_cores
from recon.errors import BackendError, FourdvdError, InputError, OutputExistsError
from recon.output import check_output

_REASONS_SHOWN = 20


@dataclass(frozen=True)
class Batch:
    """Assets on their way to grids.

    Attributes:
        folder: in which each gets a folder.
        settings: what is drawn.
        limits: what an asset may ask of the machine.
        timeout_s: seconds for one asset.
        workers: assets at once; None fills the machine. With Ray the cluster decides.
        threads: for one asset; None shares the cores among the workers, and is 1 on a cluster.
        ray: address of a cluster, or None.
        overwrite: whether what was rendered before is rendered anew.
        quiet: show no progress.
    """

    folder: Path
    settings: RenderSettings
    limits: Limits
    timeout_s: float = TIMEOUT_S
    workers: int | None = None
    threads: int | None = None
    ray: str | None = None
    overwrite: bool = False
    quiet: bool = False

    def render_files(self, paths: Sequence[Path], metadata: Path | None) -> dict[str, Any]:
        """Renders what is not done yet; what came of all assets, as JSON.

        Raises:
            InputError: there are no such assets, or each of them was refused.
            OutputExistsError: a folder is in the way.
            BackendError: there is no Blender, no compiled kernel, or not the device asked for.
            FourdvdError: every asset failed; or as `render_asset`.
        """
        find_blender()
        return self._run(find_assets(paths, metadata))

    def render_figures(self, first_seed: int, count: int) -> dict[str, Any]:
        """Likewise of the figures of `count` seeds, which need no Blender."""
        return self._run(figure_assets(first_seed, count))

    def _run(self, assets: Sequence[AnyAsset]) -> dict[str, Any]:
        rows = self._finished(assets)
        waiting = [asset for asset in assets if asset.name not in rows]
        before = len(rows)
        for row in self._render(waiting) if waiting else ():
            append_row(self.folder / MANIFEST_NAME, row)
            rows[row.name] = row
            for warning in row.facts.get("warnings", ()):
                console.say(f"warning: {row.name}: {warning}")
        ordered = [rows[asset.name] for asset in assets]
        self._tell(ordered, before)
        return self._summary(ordered, before)

    def _finished(self, assets: Sequence[AnyAsset]) -> dict[str, Row]:
        """The rows of what need not be done again, after a look at what is in the way."""
        known = read_rows(self.folder / MANIFEST_NAME)
        if not known:
            self._check_folder()
        if self.overwrite:
            return {}
        settings, done = self.settings.as_json(), {}
        for asset in assets:
            row = known.get(asset.name)
            same = row is not None and row.asset == str(asset.path) and is_final(row, settings)
            if row is not None and same and self._still_there(row):
                done[asset.name] = row
            elif finished_row(self.folder / asset.name, asset, self.settings) is None:
                self._check_free(self.folder / asset.name)
        return done

    def _still_there(self, row: Row) -> bool:
        return row.status is not Status.RENDERED or (self.folder / row.name).is_dir()

    def _check_folder(self) -> None:
        """A folder without a manifest may hold grids that a crash kept from their rows."""
        held = list(self.folder.glob("*/render.json")) if self.folder.is_dir() else []
        if not held:
            check_output(self.folder, self.overwrite)

    def _check_free(self, folder: Path) -> None:
        try:
            check_output(folder)
        except OutputExistsError as error:
            raise OutputExistsError(
                error.path,
                "it has other settings or another asset; choose another folder or pass --overwrite",
            ) from error

    def _render(self, assets: Sequence[AnyAsset]) -> Iterator[Row]:
        workers, threads = self._shares(len(assets))
        tasks = [
            RenderTask(
                asset, (self.folder / asset.name).absolute(), self.settings, self.overwrite,
                self.limits, self.timeout_s, threads,
            )
            for asset in assets
        ]  # fmt: skip
        executor = make_executor(self.ray, workers, Resources(cpus=threads or 1, gpus=self._gpus()))
        counts: Counter[Status] = Counter()
        with (
            console.progress("rendering", self.quiet) as report,
            closing(executor.run(render_asset, tasks)) as results,
        ):
            for completed in results:
                row = completed.value
                if row is None:
                    lost = row_of(assets[completed.index], self.settings)
                    row = replace(lost, reason=completed.failure, facts={"code": "worker"})
                counts[row.status] += 1
                report(counts.total(), len(tasks), _count_note(counts))
                yield row

    def _shares(self, assets: int) -> tuple[int, int]:
        """Workers, and threads of each; a cluster counts its own cores."""
        if self.ray is not None:
            return 1, self.threads or 1
        cores = usable_cores()
        most = 1 if self._gpus() else cores
        workers = self.workers or max(1, min(assets, most))
        return workers, self.threads or max(1, cores // workers)

    def _gpus(self) -> float:
        return 1.0 if self.settings.device == "cuda" else 0.0

    def _tell(self, rows: Sequence[Row], before: int) -> None:
        refused = [row for row in rows if row.status is not Status.RENDERED]
        for row in refused[:_REASONS_SHOWN]:
            console.say(f"{row.status}: {row.name}: {row.reason}")
        counts = Counter(row.status for row in rows)
        console.say(f"{self.folder}: {_count_note(counts)}; {before} of them from before")
        if counts[Status.RENDERED]:
            return
        if any(row.facts.get("code") == NO_BACKEND for row in refused):
            raise BackendError(f"nothing was rendered; {_first_reason(refused)}")
        if counts[Status.FAILED]:
            raise FourdvdError(f"nothing was rendered; {_first_reason(refused)}")
        raise InputError(f"nothing could be rendered; {_first_reason(refused)}")

    def _summary(self, rows: Sequence[Row], before: int) -> dict[str, Any]:
        counts = Counter(row.status for row in rows)
        return {
            "folder": str(self.folder),
            **{str(status): counts[status] for status in Status},
            "from_before": before,
            "assets": [row_json(row) for row in rows],
        }


def _count_note(counts: Counter[Status]) -> str:
    return ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])


def _first_reason(refused: Sequence[Row]) -> str:
    row = refused[0]
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return f"{row.asset}: {row.reason}{more}"
