"""Filter runs over a folder, with a scripted model and this process as the only worker."""

import json
import pickle
import shutil
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from generation.curation.filters.filtering import FilterJob, filter_grids
from generation.curation.filters.scoring import ScoringSettings, ScoringTask, score_grid
from generation.curation.filters.thresholds import Thresholds
from generation.curation.jobs import Completed
from generation.curation.manifest import MANIFEST_NAME, Row, Status, append_row
from recon.errors import (
    BackendError,
    FourdvdError,
    GridError,
    InputError,
    OutputError,
    OutputExistsError,
)
from recon.grid import write_grid
from tests.generation.curation.filters.discs import altered, steady, textured_disc


class Here:
    """Executor that runs tasks in this process and records them."""

    def __init__(self, interrupted_after: int | None = None):
        self.tasks: list[Any] = []
        self._interrupted_after = interrupted_after

    def run(
        self, function: Callable[[Any], Any], tasks: Iterable[Any]
    ) -> Generator[Completed[Any], None, None]:
        for index, task in reversed(list(enumerate(tasks))):
            if len(self.tasks) == self._interrupted_after:
                raise KeyboardInterrupt
            self.tasks.append(task)
            try:
                value = pickle.loads(pickle.dumps(function))(task)
                yield Completed(index, value, None, 1)
            except FourdvdError as error:
                yield Completed(index, None, str(error), 1)


class Oracle:
    """Judge that gives scripted answers in turn."""

    name = "oracle"

    def __init__(self, *answers: str):
        self.answers = list(answers)

    def answer(self, picture: Image.Image, prompt: str) -> str:
        if not self.answers:
            raise BackendError("the server is gone")
        return self.answers.pop(0)


COMPLETE = '{"complete": true, "reason": "a ball"}'
INCOMPLETE = '{"complete": false, "reason": "<half> a ball"}'


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A folder of two good grids, and one grid for each reason of rejection."""
    folder = tmp_path_factory.mktemp("original") / "data"
    good = textured_disc(steady(5, 2.0))
    grids = {
        "a good": good,
        "b again": good,
        "c other": textured_disc(steady(5, 3.0), seed=3),
        "d still": textured_disc(steady(5, 0.0)),
        "e empty": altered(good, np.zeros_like),
    }
    for name, grid in grids.items():
        write_grid(grid, folder / name)
    (folder / "f broken").mkdir()
    (folder / "f broken" / "transforms.json").write_text("{}")
    (folder / "not a grid").mkdir()
    write_grid(good, folder / ".a grid.partial-1234")
    for name in (*grids, "g gone"):
        append_row(
            folder / MANIFEST_NAME, Row(name, Status.RENDERED, f"{name}.glb", licence="CC0 <1.0>")
        )
    append_row(folder / MANIFEST_NAME, Row("h", Status.FAILED, "h.glb", reason="no animation"))
    return folder


@pytest.fixture
def data(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


def rows_of(report: Path) -> dict[str, dict[str, Any]]:
    lines = (report / "scores.jsonl").read_text().splitlines()
    return {row["name"]: row for row in map(json.loads, lines)}


def test_each_grid_has_a_verdict_even_if_another_one_is_damaged(data):
    steps = []
    job = FilterJob(data, data / "filter")
    summary = filter_grids(job, Here(), lambda state: steps.append(state[:3]))
    rows = rows_of(job.report)
    assert list(rows) == [
        "a good", "b again", "c other", "d still", "e empty", "f broken", "g gone"
    ]  # fmt: skip
    assert (job.report / "kept.txt").read_text() == "a good\nc other\n"
    assert rows["b again"]["duplicate_of"] == "a good"
    assert rows["b again"]["reasons"] == ["looks the same as a good"]
    assert rows["d still"]["reasons"][0].startswith("hardly moves")
    assert rows["e empty"]["reasons"] == ["too little to be seen: coverage 0 < 0.005"]
    assert rows["f broken"]["reasons"][0].startswith("cannot be measured")
    assert rows["g gone"]["scores"] is None
    assert rows["a good"]["licence"] == "CC0 <1.0>"
    assert (summary.grids, summary.kept, summary.rejected, summary.unmeasured) == (7, 2, 5, 2)
    assert steps[-1] == ("scoring", 7, 7)
    written = json.loads((job.report / "filter.json").read_text())
    assert written["reasons"] == summary.reasons
    assert written["thresholds"]["max_motion"] == Thresholds().max_motion


def test_the_page_has_no_broken_links_and_escapes_text(data):
    job = FilterJob(data, data.parent / "a report", judge=Oracle(INCOMPLETE, COMPLETE))
    filter_grids(job, Here())
    page = (job.report / "report.html").read_text()
    links = [part.split('"')[0] for key in ('href="', 'src="') for part in page.split(key)[1:]]
    assert len(links) == 2 * 5
    for link in links:
        assert (job.report / unquote(link)).is_file()
    assert "&lt;half&gt; a ball" in page
    assert "<half>" not in page
    assert "<1.0>" not in page


def test_sheets_contain_every_grid(data):
    job = FilterJob(data, data / "filter")
    filter_grids(job, Here())
    with Image.open(job.report / "kept_01.png") as kept:
        assert np.asarray(kept).std() > 10
    with Image.open(job.report / "rejected_01.png") as rejected:
        assert rejected.width > 4 * 384
    assert not (job.report / "rejected_02.png").exists()


def test_other_thresholds_reuse_the_scores(data):
    job = FilterJob(data, data / "filter")
    filter_grids(job, Here())
    again = Here()
    loose = Thresholds(min_motion=0.0, duplicate_distance=None)
    with pytest.raises(OutputExistsError):
        filter_grids(FilterJob(data, job.report, thresholds=loose), again)
    summary = filter_grids(FilterJob(data, job.report, thresholds=loose, overwrite=True), again)
    assert [task.folder.name for task in again.tasks] == ["g gone", "f broken"]
    assert summary.kept == 4
    assert (job.report / "strips").is_dir()
    assert not (job.report / "unfinished").exists()


def test_changed_grids_are_scored_again(data):
    job = FilterJob(data, data / "filter", overwrite=True)
    filter_grids(job, Here())
    shutil.rmtree(data / "d still")
    write_grid(textured_disc(steady(5, 4.0), seed=7), data / "d still")
    append_row(data / MANIFEST_NAME, Row("c other", Status.RENDERED, "c.glb", clip="walk"))
    again = Here()
    filter_grids(job, again)
    assert {task.folder.name for task in again.tasks} == {
        "c other", "d still", "f broken", "g gone"
    }  # fmt: skip
    assert rows_of(job.report)["d still"]["verdict"] == "kept"


def test_an_interrupted_run_is_resumed(data):
    job = FilterJob(data, data / "filter")
    with pytest.raises(KeyboardInterrupt):
        filter_grids(job, Here(interrupted_after=4))
    assert not (job.report / "kept.txt").exists()
    with (job.report / "unfinished" / "scores.jsonl").open("a") as torn:
        torn.write('{"name": "a go')
    again = Here()
    assert filter_grids(job, again).kept == 2
    assert len(again.tasks) == 7 - 2  # of the four, two had failed


def test_a_torn_record_is_removed_before_the_next_one(data):
    job = FilterJob(data, data / "filter")
    with pytest.raises(KeyboardInterrupt):
        filter_grids(job, Here(interrupted_after=1))
    scores = job.report / "unfinished" / "scores.jsonl"
    with scores.open("a") as torn:
        torn.write('{"name": "a go')
    with pytest.raises(KeyboardInterrupt):
        filter_grids(job, Here(interrupted_after=2))
    names = [json.loads(line)["name"] for line in scores.read_text().splitlines()]
    assert names == ["g gone", "g gone", "f broken"]  # failures are tried again


def test_the_model_is_asked_once_and_only_about_kept_grids(data):
    oracle = Oracle(INCOMPLETE, "I cannot say")
    job = FilterJob(data, data / "filter", judge=oracle, overwrite=True)
    summary = filter_grids(job, Here())
    assert (summary.kept, summary.judged, summary.undecided) == (1, 2, 1)
    rows = rows_of(job.report)
    assert rows["c other"]["reasons"] == ["not complete: <half> a ball"]
    assert rows["a good"]["judgement"]["answer"] == "I cannot say"
    assert rows["a good"]["verdict"] == "kept"
    assert filter_grids(job, Here()) == summary  # the oracle has nothing left to say


def test_answers_are_kept_if_the_server_fails_later(data):
    with pytest.raises(BackendError):
        filter_grids(FilterJob(data, data / "filter", judge=Oracle(COMPLETE)), Here())
    oracle = Oracle(COMPLETE)
    assert filter_grids(FilterJob(data, data / "filter", judge=oracle), Here()).judged == 2


def test_a_report_never_replaces_other_files(data, tmp_path):
    for place in (data, tmp_path):
        with pytest.raises(OutputError, match="replace the data"):
            filter_grids(FilterJob(data, place, overwrite=True), Here())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").touch()
    with pytest.raises(OutputError, match="found chapter"):
        filter_grids(FilterJob(data, tmp_path / "thesis", overwrite=True), Here())
    with pytest.raises(OutputError, match="is a file"):
        filter_grids(FilterJob(data, tmp_path / "thesis" / "chapter", overwrite=True), Here())


def test_a_folder_without_grids_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        filter_grids(FilterJob(tmp_path / "absent", tmp_path / "report"), Here())
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="found none"):
        filter_grids(FilterJob(tmp_path / "data", tmp_path / "report"), Here())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_grid_with_images_missing_is_refused(tmp_path):
    full = textured_disc(steady(3))
    write_grid(full.subset(np.arange(1, len(full))), tmp_path / "sparse")
    with pytest.raises(GridError, match="4 views × 3 frames, found 11 images"):
        score_grid(ScoringTask(tmp_path / "sparse", ScoringSettings()))


def test_scores_are_picklable_and_reproducible(data):
    task = ScoringTask(data / "a good", ScoringSettings())
    assert score_grid(pickle.loads(pickle.dumps(task))) == score_grid(task)
