"""Rendering or baking of many assets, each to its folder: parallel, resumable, with a manifest."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from generation.curation.assets.limits import Limits
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
from generation.curation.render.baking import bake_asset
from generation.curation.render.rendering import (
    NO_BACKEND,
    AnyAsset,
    AssetTask,
    finished_row,
    new_row,
    render_asset,
)
from generation.curation.render.settings import TIMEOUT_S, BakeSettings, RenderSettings
from recon.devices import usable_cores
from recon.errors import BackendError, FourdvdError, InputError, OutputExistsError
from recon.output import check_output
from recon.progress import OnStep, Progress, ignore_progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchResult:
    """Result of a batch.

    Attributes:
        folder: folder of the grids or baked assets.
        finished: status of a finished asset.
        rows: manifest row of each asset, in the order of the assets.
        from_before: number of assets that an earlier run had finished.
    """

    folder: Path
    finished: Status
    rows: Sequence[Row]
    from_before: int

    @property
    def counts(self) -> dict[Status, int]:
        """Number of assets by status."""
        counts = Counter(row.status for row in self.rows)
        return {status: counts[status] for status in _statuses(self.finished)}

    @property
    def refused(self) -> list[Row]:
        """Rows of the assets that were rejected or failed."""
        return [row for row in self.rows if row.status is not self.finished]

    def require_finished(self) -> None:
        """Raise an error if no asset was finished.

        Raises:
            BackendError: Blender, a compiled kernel or the requested device is missing.
            InputError: all assets were rejected.
            FourdvdError: some failed for another reason.
        """
        if self.counts[self.finished]:
            return
        more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
        first = self.refused[0]
        message = f"no asset was {self.finished}; {first.asset}: {first.reason}{more}"
        if any(row.facts.get("code") == NO_BACKEND for row in self.refused):
            raise BackendError(message)
        raise FourdvdError(message) if self.counts[Status.FAILED] else InputError(message)

    def to_json(self) -> dict[str, Any]:
        """Return counts and rows as JSON."""
        return {
            "folder": str(self.folder),
            **{str(status): count for status, count in self.counts.items()},
            "from_before": self.from_before,
            "assets": [row_json(row) for row in self.rows],
        }


@dataclass(frozen=True)
class AssetBatch:
    """A batch of assets that are rendered or baked.

    Attributes:
        folder: output folder for the manifest and a folder of each asset.
        settings: settings of the output.
        limits: resource limits of an asset.
        timeout_s: time limit of Blender for one asset in seconds.
        workers: number of assets processed at the same time; None for all cores. A Ray cluster uses
            all of its machines.
        threads: threads per asset; None for the cores divided by the workers, or 1 with Ray.
        ray: address of a Ray cluster; None for processes on this machine.
        overwrite: whether to process finished assets again.
    """

    folder: Path
    settings: RenderSettings | BakeSettings
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = TIMEOUT_S
    workers: int | None = None
    threads: int | None = None
    ray: str | None = None
    overwrite: bool = False

    def run(self, assets: Sequence[AnyAsset], on_step: OnStep = ignore_progress) -> BatchResult:
        """Process the assets that are not finished yet.

        Args:
            assets: assets from `find_assets` or `figure_assets`.
            on_step: called after each asset, with the counts by status as metrics.

        Raises:
            OutputExistsError: the folder of an asset exists with other content.
            BackendError: the Ray cluster cannot be used.
            FourdvdError, OSError: see `process_asset`.
        """
        rows = self._finished(assets)
        waiting = [asset for asset in assets if asset.name not in rows]
        before = len(rows)
        counts: Counter[Status] = Counter()
        with closing(self._process(waiting)) as results:
            for row in results:
                append_row(self.folder / MANIFEST_NAME, row)
                rows[row.name] = row
                for warning in row.facts.get("warnings", ()):
                    _log.info("%s: %s", row.name, warning)
                counts[row.status] += 1
                statuses = _statuses(self.settings.finished)
                metrics = {str(status): float(counts[status]) for status in statuses}
                on_step(Progress(self.phase, counts.total(), len(waiting), metrics=metrics))
        ordered = [rows[asset.name] for asset in assets]
        return BatchResult(self.folder, self.settings.finished, ordered, before)

    @property
    def phase(self) -> str:
        """What the batch does, for progress."""
        return "baking" if isinstance(self.settings, BakeSettings) else "rendering"

    def _finished(self, assets: Sequence[AnyAsset]) -> dict[str, Row]:
        """Return the rows of finished assets; check that the folders of the others are free."""
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
        return row.status is Status.REJECTED or (self.folder / row.name).is_dir()

    def _check_folder(self) -> None:
        """Check a folder without a manifest, which may hold assets whose rows a crash prevented."""
        held = list(self.folder.glob(f"*/{self.settings.record}")) if self.folder.is_dir() else []
        if not held:
            check_output(self.folder, self.overwrite)

    def _check_free(self, folder: Path) -> None:
        try:
            check_output(folder)
        except OutputExistsError as error:
            raise OutputExistsError(
                error.path, state="has other settings or another asset"
            ) from error

    def _process(self, assets: Sequence[AnyAsset]) -> Generator[Row, None, None]:
        if not assets:
            return
        workers, threads = self._shares(len(assets))
        tasks = [
            AssetTask(
                asset, (self.folder / asset.name).absolute(), self.settings, self.overwrite,
                self.limits, self.timeout_s, threads,
            )
            for asset in assets
        ]  # fmt: skip
        bakes = isinstance(self.settings, BakeSettings)
        process = cast("Callable[[Any], Row]", bake_asset if bakes else render_asset)
        executor = make_executor(self.ray, workers, Resources(cpus=threads or 1, gpus=self._gpus))
        with closing(executor.run(process, tasks)) as results:
            for completed in results:
                if completed.value is not None:
                    yield completed.value
                    continue
                lost = new_row(assets[completed.index], self.settings)
                yield replace(lost, reason=completed.failure, facts={"code": "worker"})

    def _shares(self, assets: int) -> tuple[int, int]:
        """Return the number of workers, and of threads per worker; a Ray cluster counts its own."""
        if self.ray is not None:
            return 1, self.threads or 1
        cores = usable_cores()
        workers = self.workers or max(1, min(assets, 1 if self._gpus else cores))
        return workers, self.threads or max(1, cores // workers)

    @property
    def _gpus(self) -> float:
        return 1.0 if self.settings.device == "cuda" else 0.0


def _statuses(finished: Status) -> tuple[Status, ...]:
    return finished, Status.REJECTED, Status.FAILED
