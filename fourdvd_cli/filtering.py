"""`generation.curation.filters` as the command line runs it: judge and workers found, progress."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdvd_cli import console
from recon.devices import resolve_network_device, usable_cores

if TYPE_CHECKING:
    from generation.curation.filters import FilterJob, Summary
    from generation.curation.filters.completeness import Judge

DEFAULT_REPORT = "filter"


@dataclass(frozen=True)
class JudgeChoice:
    """Which language model is asked.

    Attributes:
        model: folder or name of it, or as the server calls it; None asks none.
        url: of a server that speaks OpenAI's chat completions; None for a model on this machine.
        device: "auto", "cpu" or "cuda", for a model on this machine.
        download: whether a model that is not here may be fetched.
    """

    model: str | None = None
    url: str | None = None
    device: str = "auto"
    download: bool = False


def run_filters(
    job: FilterJob,
    choice: JudgeChoice,
    workers: int | None = None,
    ray: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Filters a folder and says where the report is.

    Args:
        job: what and how, without the language model.
        choice: of that model.
        workers: processes of this machine; one for each core if None.
        ray: address of a cluster instead, or "local".
        quiet: show no progress.

    Returns:
        The counts and the report's folder, as `--json` prints them.

    Raises:
        FourdvdError: as `generation.curation.filters.filter_data`.
    """
    from generation.curation.filters import check_report_folder, filter_data
    from generation.curation.jobs import Resources, make_executor

    check_report_folder(job)  # before a large model is loaded in vain
    job = replace(job, judge=find_judge(choice))
    executor = make_executor(ray, workers or usable_cores(), Resources())
    with console.progress("filtering", quiet) as report:
        summary = filter_data(
            job, executor, on_step=lambda what, done, total: report(done, total, what)
        )
    console.say(f"wrote {job.report}: {describe(summary)}")
    return {"report": str(job.report), **asdict(summary)}


def find_judge(choice: JudgeChoice) -> Judge | None:
    """The language model that was asked for, if one was.

    Raises:
        WeightsError: the model is not here, or cannot be asked.
        InputError: the address is none.
    """
    if choice.model is None:
        return None
    if choice.url is not None:
        from generation.curation.filters.judges import ServerJudge

        return ServerJudge(choice.url, choice.model)
    from generation.curation.filters.judges import LocalJudge

    return LocalJudge(choice.model, resolve_network_device(choice.device), choice.download)


def report_folder(folder: Path, output: Path | None) -> Path:
    """Where the report goes: into the data's folder, where nothing else was said."""
    return folder / DEFAULT_REPORT if output is None else output


def describe(summary: Summary) -> str:
    """The counts, for people."""
    lines = [f"{summary.kept} of {summary.grids} grids kept"]
    lines += [f"  {count:5d} {reason}" for reason, count in summary.reasons.items()]
    if summary.judged:
        lines.append(f"  {summary.undecided:5d} of {summary.judged} answers without a verdict")
    return "\n".join(lines)
