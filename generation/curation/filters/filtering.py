"""Filter run over a folder of rendered grids: scores, verdicts and a report.

    DIR/*/ ─▶ scores ─▶ thresholds ─▶ duplicates ─▶ completeness ─▶ REPORT/

The grids are not changed. Each record is written to `REPORT/unfinished` as soon as it is finished,
so that an interrupted run is resumable; valid records of an earlier report are reused.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    Verdict,
    find_candidates,
    parse_record,
    read_records,
    settings_key,
    verdicts_by_scores,
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
from generation.curation.filters.thresholds import Thresholds
from generation.curation.jobs import Completed, Executor
from generation.curation.json_lines import append_line, json_line
from recon.errors import OutputError, OutputExistsError
from recon.media import decode_image
from recon.output import check_output
from recon.progress import OnStep, Progress, ignore_progress

UNFINISHED_NAME = "unfinished"

REPORT_NAME = "filter"


@dataclass(frozen=True)
class FilterJob:
    """Input, settings and output of a filter run.

    Attributes:
        folder: folder of the rendered grids.
        output: folder of the report; None for `folder / REPORT_NAME`.
        settings: settings of the scoring.
        thresholds: thresholds of the scores.
        judge: language model that judges completeness; None to skip this filter.
        overwrite: whether an earlier report may be replaced.
    """

    folder: Path
    output: Path | None = None
    settings: ScoringSettings = field(default_factory=ScoringSettings)
    thresholds: Thresholds = field(default_factory=Thresholds)
    judge: Judge | None = None
    overwrite: bool = False

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.folder / REPORT_NAME if self.output is None else self.output


def filter_grids(job: FilterJob, executor: Executor, on_step: OnStep = ignore_progress) -> Summary:
    """Score all grids of a folder, decide which to keep and write the report.

    Args:
        job: input, settings and output.
        executor: executor of the scoring.
        on_step: called after each grid that was scored or judged.

    Returns:
        Counts of the run.

    Raises:
        InputError: the folder holds no grids, or its manifest is not valid.
        OutputError: the report cannot be written to its folder.
        BackendError, WeightsError: a package, weights file or model is missing.
    """
    check_report_folder(job)
    candidates = find_candidates(job.folder)
    check_settings(job.settings)
    work = _Work(job, executor, on_step)
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
    """Check early, before a large model is loaded, that the report can be written.

    Raises:
        OutputExistsError: a report exists, and `overwrite` is False.
        OutputError: the folder holds other files, which are never replaced.
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
            raise OutputError(
                f"expected an empty folder or a report in {report}, found {min(others)}; choose "
                "another folder"
            )


class _Work:
    """The slow steps of a run, whose results are written to disk as they complete."""

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
        """Return a record for each candidate, in their order."""
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
                self._on_step(Progress("scoring", len(found), len(candidates)))
        return [found[each.name] for each in candidates]

    def judge(
        self, candidates: Sequence[Candidate], verdicts: Sequence[Verdict], judge: Judge
    ) -> list[Verdict]:
        """Ask the model about the kept grids, reusing earlier answers of the same model."""
        judged, unasked = list(verdicts), []
        for index, verdict in enumerate(verdicts):
            known = verdict.record.judgement
            if verdict.kept and known is not None and known.is_by(judge):
                judged[index] = verdict.judged(known)
            elif verdict.kept:
                unasked.append(index)
        folders = [candidates[index].folder.resolve() for index in unasked]
        with closing(self._executor.run(picture_for_judge, folders)) as pictures:
            for done, picture in enumerate(pictures, start=1):
                index = unasked[picture.index]
                judged[index] = self._asked(judged[index], picture, judge)
                self._on_step(Progress("judging", done, len(unasked)))
        return judged

    def _asked(self, verdict: Verdict, picture: Completed[bytes], judge: Judge) -> Verdict:
        if picture.value is None:
            return replace(verdict, reasons=(f"cannot be shown to the model: {picture.failure}",))
        image = Image.fromarray(decode_image(picture.value, "PNG", mode="RGB"))
        judged = verdict.judged(judge_completeness(image, judge))
        self._keep(judged.record)
        return judged

    def strip(self, candidate: Candidate) -> Path | None:
        """Return the path of a grid's thumbnails; None if the file does not exist."""
        places = (self._strip_path(candidate), self._job.report / strip_name(candidate))
        return next((path for path in places if path.is_file()), None)

    def _strip_path(self, candidate: Candidate) -> Path:
        return self._unfinished / strip_name(candidate)

    def _keep(self, record: Record) -> None:
        line = json_line(record.to_json(), f"the record of {record.name}")
        append_line(self._unfinished / SCORES_NAME, line, parse_record)
