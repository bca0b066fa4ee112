"""Filters a folder of rendered data: scores in other processes, verdicts here, a report at the end.

    DIR/*/ ─▶ scores ─▶ limits ─▶ duplicates ─▶ completeness ─▶ REPORT/

Nothing of DIR is changed. What is finished is kept in `REPORT/unfinished` at once, so that an
interrupted run goes on where it was; an older report lends what still holds. What it does not know:
how scores come about, what a report looks like.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from generation.curation.filters.completeness import (
    Judge,
    judge_completeness,
    picture_for_judge,
)
from generation.curation.filters.records import (
    Candidate,
    Record,
    find_candidates,
    read_records,
    settings_key,
)
from generation.curation.filters.report import (
    SCORES_NAME,
    STRIPS_NAME,
    SUMMARY_NAME,
    Report,
    Summary,
    strip_name,
    write_report,
)
from generation.curation.filters.scoring import (
    ScoringSettings,
    ScoringTask,
    check_settings,
    score_grid,
)
from generation.curation.filters.thresholds import (
    Thresholds,
    Verdict,
    verdicts_by_scores,
    with_judgement,
)
from generation.curation.jobs import Completed, Executor
from recon.errors import OutputError, OutputExistsError
from recon.media import decode_image
from recon.output import check_output

UNFINISHED_NAME = "unfinished"

OnStep = Callable[[str, int, int], None]
"""(what is done, how many of it, of how many)."""


@dataclass(frozen=True)
class FilterJob:
    """What is to be filtered, how, and where the report goes.

    Attributes:
        folder: of rendered data.
        report: folder of the report.
        settings: what grids are measured with.
        thresholds: the limits.
        judge: language model to ask for completeness, or None.
        overwrite: whether an older report may be replaced.
    """

    folder: Path
    report: Path
    settings: ScoringSettings = field(default_factory=ScoringSettings)
    thresholds: Thresholds = field(default_factory=Thresholds)
    judge: Judge | None = None
    overwrite: bool = False


def filter_data(job: FilterJob, executor: Executor, on_step: OnStep | None = None) -> Summary:
    """Scores all grids of a folder, decides about each and writes the report.

    Args:
        job: what and how.
        executor: runs what takes time.
        on_step: called after each grid that was scored or judged.

    Returns:
        The counts.

    Raises:
        InputError: the folder holds no grids, or its manifest is not valid.
        OutputError: the report cannot go where it should.
        BackendError, WeightsError: something to measure or to ask with is missing.
    """
    check_report_folder(job)
    candidates = find_candidates(job.folder)
    check_settings(job.settings)
    work = _Work(job, executor, on_step or (lambda what, done, total: None))
    records = work.score(candidates)
    verdicts = verdicts_by_scores(records, job.thresholds)
    if job.judge is not None:
        verdicts = work.judge(candidates, verdicts, job.judge)
    report = Report(
        folder=job.folder.resolve(),
        candidates=candidates,
        verdicts=verdicts,
        settings=job.settings.to_json(),
        thresholds=job.thresholds,
        judge=None if job.judge is None else job.judge.name,
        strips=[work.strip(each) for each in candidates],
    )
    return write_report(report, job.report)


def check_report_folder(job: FilterJob) -> None:
    """Tells early whether the report may go where it should.

    Raises:
        OutputExistsError: a report is there and may not be replaced.
        OutputError: something else is there, which is never replaced.
    """
    report, data = job.report.resolve(), job.folder.resolve()
    if data.is_relative_to(report):
        raise OutputError(f"the report would replace the data; choose a folder inside {data}")
    is_report = (report / SUMMARY_NAME).is_file()
    if is_report and not job.overwrite:
        raise OutputExistsError(report)
    check_output(report, overwrite=True)
    if not is_report and report.exists():
        others = {path.name for path in report.iterdir()} - {UNFINISHED_NAME}
        if others:
            raise OutputError(f"{report} holds {min(others)}, but no report; choose another folder")


class _Work:
    """The steps that take time, with their results kept on disk as they come."""

    def __init__(self, job: FilterJob, executor: Executor, on_step: OnStep):
        self._job = job
        self._executor = executor
        self._on_step = on_step
        self._key = settings_key(job.settings.to_json())
        self._unfinished = job.report / UNFINISHED_NAME
        (self._unfinished / STRIPS_NAME).mkdir(parents=True, exist_ok=True)
        older = (job.report, self._unfinished)
        self._known = {
            record.name: record for place in older for record in read_records(place / SCORES_NAME)
        }

    def score(self, candidates: Sequence[Candidate]) -> list[Record]:
        """A record for each candidate, in their order."""
        found = {
            each.name: self._known[each.name]
            for each in candidates
            if each.name in self._known
            and self._known[each.name].holds_for(each, self._key)
            and self.strip(each) is not None
        }
        missing = [each for each in candidates if each.name not in found]
        settings = self._job.settings.absolute()
        tasks = [ScoringTask(each.folder.resolve(), settings) for each in missing]
        with closing(self._executor.run(score_grid, tasks)) as results:
            for done in results:
                candidate = missing[done.index]
                record = Record(candidate.name, candidate.fingerprint, self._key)
                if done.value is None:
                    record = replace(record, failure=done.failure or "no reason was given")
                else:
                    self._strip_path(candidate).write_bytes(done.value.strip)
                    record = replace(record, scores=done.value.scores)
                found[candidate.name] = record
                self._keep(record)
                self._on_step("scoring", len(found), len(candidates))
        return [found[each.name] for each in candidates]

    def judge(
        self, candidates: Sequence[Candidate], verdicts: Sequence[Verdict], judge: Judge
    ) -> list[Verdict]:
        """Asks about those that are still kept; what the same model has said before counts."""
        judged, unasked = list(verdicts), []
        for index, verdict in enumerate(verdicts):
            known = verdict.record.judgement
            if verdict.kept and known is not None and known.is_by(judge):
                judged[index] = with_judgement(verdict, known)
            elif verdict.kept:
                unasked.append(index)
        folders = [candidates[index].folder.resolve() for index in unasked]
        with closing(self._executor.run(picture_for_judge, folders)) as pictures:
            for done, picture in enumerate(pictures, start=1):
                index = unasked[picture.index]
                judged[index] = self._asked(judged[index], picture, judge)
                self._on_step("asking", done, len(unasked))
        return judged

    def _asked(self, verdict: Verdict, picture: Completed[bytes], judge: Judge) -> Verdict:
        if picture.value is None:
            return replace(verdict, reasons=(f"cannot be shown to the model: {picture.failure}",))
        image = Image.fromarray(decode_image(picture.value, "PNG", mode="RGB"))
        judged = with_judgement(verdict, judge_completeness(image, judge))
        self._keep(judged.record)
        return judged

    def strip(self, candidate: Candidate) -> Path | None:
        """Where the small images of a grid are, if they are."""
        places = (self._strip_path(candidate), self._job.report / strip_name(candidate))
        return next((path for path in places if path.is_file()), None)

    def _strip_path(self, candidate: Candidate) -> Path:
        return self._unfinished / strip_name(candidate)

    def _keep(self, record: Record) -> None:
        with (self._unfinished / SCORES_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_json()) + "\n")
