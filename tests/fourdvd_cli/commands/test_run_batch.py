"""`run` with several inputs: each has a result and a row, whatever becomes of the others."""

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from fourdvd_cli import console
from fourdvd_cli.commands import run_batch, run_chain
from fourdvd_cli.commands.run_batch import MANIFEST, ClipTask, RunBatch, run_clip
from fourdvd_cli.commands.run_chain import ChainSettings
from fourdvd_cli.commands.run_manifest import (
    ClipRow,
    ClipStatus,
    append_row,
    is_final,
    read_rows,
)
from generation.curation.jobs.executor import Backlog, Completed, completed, perform
from recon.errors import OutputError
from recon.fitting.config import fit_config
from recon.grid import write_grid
from recon.output import sole_writer
from tests.conftest import make_tiny_grid
from tests.fourdvd_cli.conftest import PATIENCE_SECONDS

OPTIONS = ["--format", "ply", "--device", "cpu", "--quiet"]


class InThisProcess:
    """Executor whose worker is this process."""

    def __init__(self) -> None:
        self.made: list[tuple] = []  # arguments of `make_executor`

    def run(
        self, function: Callable[[Any], Any], tasks: Iterable[Any]
    ) -> Generator[Completed, None, None]:
        backlog = Backlog(function, tasks, 1)
        while (job := backlog.take()) is not None:
            yield completed(job, perform(job.payload))


@pytest.fixture
def here(monkeypatch, short_fits) -> InThisProcess:
    executor = InThisProcess()

    def make(*arguments):
        executor.made.append(arguments)
        return executor

    monkeypatch.setattr(run_batch, "make_executor", make)
    return executor


@pytest.fixture
def grids(tmp_path) -> list[Path]:
    """Two small grids and a video that is damaged, the second of three inputs."""
    for name in ("first", "last"):
        write_grid(make_tiny_grid(3, 2), tmp_path / "inputs" / name)
    (tmp_path / "inputs" / "damaged.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and nothing else")
    return [tmp_path / "inputs" / name for name in ("first", "damaged.mp4", "last")]


def rows(out: Path) -> dict[str, ClipRow]:
    return read_rows(out / MANIFEST)


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_an_input_that_is_damaged_is_recorded_and_the_others_go_on(fourdvd, here, grids, tmp_path):
    out = tmp_path / "out"
    outcome = fourdvd("run", *grids, "-o", out, *OPTIONS, "--threads", 2)
    assert outcome.exit_code == 0, outcome.stderr
    found = rows(out)
    assert {name: row.status for name, row in found.items()} == {
        "first": ClipStatus.FINISHED, "damaged": ClipStatus.REJECTED, "last": ClipStatus.FINISHED,
    }  # fmt: skip
    assert found["damaged"].reason
    assert f"rejected: {grids[1]}: " in fourdvd("run", *grids, "-o", out, *OPTIONS[:-1]).stderr
    assert set(found["last"].steps) == {"grid", "scene", "export"}
    assert found["last"].seconds >= sum(found["last"].steps.values()) > 0
    assert {path.name for path in out.iterdir()} == {"first", "last", MANIFEST}
    assert len(list((out / "last" / "export" / "ply").glob("*.ply"))) == 2


def test_json_has_counts_and_a_line_for_each_input(fourdvd, here, grids, tmp_path):
    out = tmp_path / "out"
    printed = fourdvd("run", *grids, "-o", out, *OPTIONS, "--json").stdout
    found = json.loads(printed)
    assert {key: found[key] for key in ("finished", "rejected", "failed", "from_before")} == {
        "finished": 2, "rejected": 1, "failed": 0, "from_before": 0,
    }  # fmt: skip
    rows = [json.loads(line.rstrip(",")) for line in printed.splitlines() if '"name"' in line]
    assert found["inputs"] == rows
    assert [row["input"] for row in rows] == [str(path) for path in grids]
    assert rows[1]["reason"]
    assert "psnr" not in rows[1]
    scene = json.loads((out / "last" / "scene" / "metrics.json").read_text())
    assert (rows[2]["split"], rows[2]["psnr"]) == ("train", scene["train"]["psnr"])
    again = json.loads(fourdvd("run", *grids, "-o", out, *OPTIONS, "--json").stdout)
    assert again == found | {"from_before": 3}


def test_each_result_is_a_line_as_soon_as_it_is_known(
    fourdvd, here, grids, tmp_path, monkeypatch, capsys
):
    lines_before: list[list[str]] = []  # what was printed when each input began
    usual = run_batch.run_clip

    def watched(task: ClipTask) -> ClipRow:
        lines_before.append(capsys.readouterr().err.splitlines())
        return usual(task)

    monkeypatch.setattr(run_batch, "run_clip", watched)
    monkeypatch.setattr("pickle.dumps", lambda value: value)  # a local function cannot be pickled
    monkeypatch.setattr("pickle.loads", lambda value: value)
    missing = tmp_path / "missing"
    fourdvd("run", missing, grids[1], "-o", tmp_path / "out", *OPTIONS)
    assert len(lines_before) == 2
    assert re.fullmatch(rf"1/2 rejected: {missing}: .+ \(\d+\.\d s\)", lines_before[1][0])


def test_missing_inputs_are_rejected_before_others_begin(fourdvd, here, grids, tmp_path):
    missing = tmp_path / "missing"
    lines = fourdvd("run", grids[1], missing, "-o", tmp_path / "out", *OPTIONS).stderr.splitlines()
    assert lines[0].startswith(f"1/2 rejected: {missing}: no such file or folder")


def test_with_quiet_only_rejected_inputs_are_printed(fourdvd, here, grids, tmp_path):
    arguments = ["run", grids[1], tmp_path / "missing", "-o", tmp_path / "out", *OPTIONS]
    for _ in range(2):  # also those that an earlier command rejected
        lines = fourdvd(*arguments).stderr.splitlines()
        assert [line.split(": ")[0] for line in lines] == ["1/2 rejected", "2/2 rejected", "error"]


def test_an_interruption_says_what_is_kept_and_how_to_resume(
    fourdvd, here, grids, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    usual = here.run

    def stopped(
        function: Callable[[Any], Any], tasks: Iterable[Any]
    ) -> Generator[Completed, None, None]:
        yield next(usual(function, tasks))
        raise KeyboardInterrupt

    monkeypatch.setattr(here, "run", stopped)
    outcome = fourdvd("run", *grids, "-o", out, *OPTIONS)
    assert outcome.exit_code == 130
    assert f"are in {out}" in outcome.stderr
    assert f"to resume: fourdvd run {grids[0]}" in outcome.stderr
    assert rows(out)["first"].status is ClipStatus.FINISHED


def test_a_worker_reports_what_it_does(here, grids, tmp_path, monkeypatch):
    reported = []
    monkeypatch.setattr(run_batch, "report", reported.append)
    settings = ChainSettings(("ply",), {"device": "cpu"})
    run_clip(ClipTask("first", grids[0], tmp_path / "out", settings))
    assert {label for label, _ in reported} == {"fitting", "exporting ply"}
    assert all(step.steps is None or step.step <= step.steps for _, step in reported)


def test_a_second_batch_repeats_nothing_and_may_add_inputs(fourdvd, here, grids, tmp_path):
    out = tmp_path / "out"
    fourdvd("run", *grids[:2], "-o", out, *OPTIONS)
    before = files(out)
    outcome = fourdvd("run", *grids[:2], "-o", out, *OPTIONS[:-1])
    assert outcome.exit_code == 0
    assert "(2 by an earlier command)" in outcome.stderr
    assert files(out) == before
    assert len(here.made) == 1
    fourdvd("run", *grids, "-o", out, *OPTIONS)
    assert before.items() - {(out / MANIFEST, before[out / MANIFEST])} <= files(out).items()
    assert set(rows(out)) == {"first", "damaged", "last"}


def test_another_format_is_added_to_finished_runs(fourdvd, here, grids, tmp_path):
    out = tmp_path / "out"
    fourdvd("run", *grids, "-o", out, *OPTIONS)
    scenes = files(out / "first" / "scene")
    assert fourdvd("run", *grids, "-o", out, *OPTIONS, "--format", "splat").exit_code == 0
    assert files(out / "first" / "scene") == scenes
    assert (out / "last" / "export" / "splat").is_dir()


def test_warnings_of_kept_steps_stay_when_a_format_is_added(fourdvd, here, grids, tmp_path):
    out = tmp_path / "out"
    fourdvd("run", *grids, "-o", out, *OPTIONS)
    before = read_rows(out / MANIFEST)
    for row in before.values():
        append_row(out / MANIFEST, replace(row, warnings=("view 2 disagrees",)))
    assert fourdvd("run", *grids, "-o", out, *OPTIONS, "--format", "splat").exit_code == 0
    after = read_rows(out / MANIFEST)
    assert all(after[name].warnings[0] == "view 2 disagrees" for name in before)
    assert all(after[name].settings != row.settings for name, row in before.items())


def test_warnings_are_printed_with_the_name_of_their_input_and_counted(
    fourdvd, here, grids, tmp_path, monkeypatch
):
    usual = run_chain.reconstruct_with_progress

    def doubtful(grid, *arguments, **named):
        if grid.parent.name == "last":
            console.warn("view 2 disagrees")
        return usual(grid, *arguments, **named)

    monkeypatch.setattr(run_chain, "reconstruct_with_progress", doubtful)
    arguments = ["run", *grids, "-o", tmp_path / "out", *OPTIONS[:-1], "--threads", 2]
    printed = fourdvd(*arguments).stderr.splitlines()
    found = rows(tmp_path / "out")
    for name in ("first", "last"):
        assert {f"warning: {name}: {text}" for text in found[name].warnings} <= set(printed)
    assert printed.count("warning: last: view 2 disagrees") == 1
    finished = [line.partition(" (")[0] for line in printed if " finished: " in line]
    assert finished == [f"1/3 finished: {grids[0]}", f"3/3 finished: {grids[2]}"]
    total = sum(len(row.warnings) for row in found.values())
    assert f"warnings: {total} about 2 of the inputs" in printed[-1]
    again = fourdvd(*arguments).stderr.splitlines()
    assert again[-1] == printed[-1]
    assert not [line for line in again if line.startswith("warning:")]


def test_the_chosen_model_is_said_once_and_only_where_a_grid_is_generated(
    fourdvd, here, grids, tmp_path
):
    arguments = ["run", *grids, "-o", tmp_path / "out", *OPTIONS[:-1]]
    assert fourdvd(*arguments).stderr.splitlines()[0].startswith("model lift: ")
    assert "model lift" not in fourdvd(*arguments).stderr
    refused = fourdvd("run", *grids, "-o", tmp_path / "inputs", *OPTIONS[:-1])
    assert refused.exit_code == 1
    assert "model lift" not in refused.stderr


def test_a_rejected_input_is_tried_again_once_it_has_changed(fourdvd, here, grids, tmp_path):
    out, missing = tmp_path / "out", tmp_path / "inputs" / "later"
    fourdvd("run", grids[1], missing, "-o", out, *OPTIONS)
    assert rows(out)["later"].reason == "no such file or folder"
    before = (out / MANIFEST).read_text()
    fourdvd("run", grids[1], missing, "-o", out, *OPTIONS)
    assert (out / MANIFEST).read_text() == before
    shutil.copytree(grids[0], missing)
    grids[1].write_bytes(b"other damage")
    fourdvd("run", grids[1], missing, "-o", out, *OPTIONS)
    assert rows(out)["later"].status is ClipStatus.FINISHED
    assert len((out / MANIFEST).read_text().splitlines()) == 4


def test_a_finished_input_that_was_replaced_fails_and_keeps_its_result(
    fourdvd, here, grids, tmp_path
):
    out = tmp_path / "out"
    fourdvd("run", *grids[1:], "-o", out, *OPTIONS)
    scene = files(out / "last" / "scene")
    shutil.copytree(grids[0], grids[2], dirs_exist_ok=True)  # the same content
    assert fourdvd("run", *grids[1:], "-o", out, *OPTIONS).exit_code == 0
    image = sorted(grids[2].rglob("*.png"))[0]
    image.write_bytes(image.read_bytes() + b"replaced")
    refused = fourdvd("run", *grids[1:], "-o", out, *OPTIONS)
    assert f"2/2 failed: {grids[2]}: " in refused.stderr
    assert str(out / "last") in refused.stderr
    assert "--overwrite" not in refused.stderr  # which would start all inputs again
    assert files(out / "last" / "scene") == scene


def test_other_settings_are_refused_before_any_work(fourdvd, here, grids, tmp_path):
    out = tmp_path / "out"
    fourdvd("run", *grids[1:], "-o", out, *OPTIONS)
    refused = fourdvd("run", *grids, "-o", out, *OPTIONS, "--seed", 1)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert not (out / "first").exists()
    again = fourdvd("run", *grids, "-o", out, *OPTIONS, "--seed", 1, "--overwrite")
    assert again.exit_code == 0
    assert rows(out)["last"].settings["fit"]["seed"] == 1


def test_a_full_disk_fails_one_run_which_the_next_batch_resumes(
    fourdvd, here, grids, tmp_path, monkeypatch
):
    usual = run_chain.reconstruct_with_progress

    def full(grid, *arguments, **named):
        if grid.parent.name == "first":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(grid))
        return usual(grid, *arguments, **named)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(run_chain, "reconstruct_with_progress", full)
        assert fourdvd("run", *grids, "-o", out, *OPTIONS).exit_code == 0
    found = rows(out)
    assert found["first"].status is ClipStatus.FAILED
    assert "No space left" in str(found["first"].reason)
    assert found["last"].status is ClipStatus.FINISHED
    grid = files(out / "first" / "grid")
    assert fourdvd("run", *grids, "-o", out, *OPTIONS).exit_code == 0
    assert rows(out)["first"].status is ClipStatus.FINISHED
    assert files(out / "first" / "grid") == grid


def test_an_unknown_error_is_recorded_with_its_place(fourdvd, here, grids, tmp_path, monkeypatch):
    def broken(*arguments, **named):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(run_chain, "reconstruct_with_progress", broken)
    outcome = fourdvd("run", *grids[::2], "-o", tmp_path / "out", *OPTIONS)
    assert outcome.exit_code == 1
    row = rows(tmp_path / "out")["first"]
    assert row.status is ClipStatus.FAILED
    assert "ZeroDivisionError: a bug (" in str(row.reason)


def test_a_second_driver_of_a_folder_is_refused(fourdvd, here, grids, tmp_path):
    with sole_writer(tmp_path / "out"):
        refused = fourdvd("run", *grids, "-o", tmp_path / "out", *OPTIONS)
        assert refused.exit_code == 1
        assert "another process" in refused.stderr
        assert not (tmp_path / "out").exists()
    with sole_writer(tmp_path / "single"), pytest.raises(OutputError, match="another process"):
        settings = ChainSettings(("ply",), {"device": "cpu"})
        run_chain.run_chain(grids[0], tmp_path / "single", settings)


def test_inputs_of_one_name_have_folders_of_their_own(fourdvd, here, grids, tmp_path):
    twin = tmp_path / "more" / "first"
    write_grid(make_tiny_grid(3, 2), twin)
    assert fourdvd("run", grids[0], twin, "-o", tmp_path / "out", *OPTIONS).exit_code == 0
    assert {row.input for row in rows(tmp_path / "out").values()} == {str(grids[0]), str(twin)}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_runs_of_one_and_of_several_inputs_are_refused_in_a_folder_of_the_other(
    fourdvd, here, grids, tmp_path, overwrite
):
    one, several, missing = tmp_path / "one", tmp_path / "several", tmp_path / "missing"
    fourdvd("run", grids[0], "-o", one, *OPTIONS)
    fourdvd("run", *grids[1:], "-o", several, *OPTIONS)
    before = files(tmp_path)
    for inputs, out, reason in (
        ([grids[0], missing], one, f"{missing}: no such file"),
        (grids, one, f"{one} has the run of a single input"),
        (grids[:1], several, f"{several} has the results of several inputs"),
    ):
        refused = fourdvd("run", *inputs, "-o", out, *OPTIONS, *overwrite)
        assert refused.exit_code == (3 if missing in inputs else 1)
        assert reason in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert "--overwrite" not in refused.stderr
    assert files(tmp_path) == before


def test_a_folder_with_other_files_is_refused_and_kept(fourdvd, here, grids, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    assert fourdvd("run", *grids, "-o", tmp_path / "out", *OPTIONS).exit_code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_only_rejected_inputs_are_an_error(fourdvd, here, grids, tmp_path):
    outcome = fourdvd("run", grids[1], "-o", tmp_path / "out", *OPTIONS, "--workers", 1)
    assert outcome.exit_code == 3
    assert outcome.stderr.count("damaged.mp4") == 1


def test_a_run_on_a_gpu_reserves_one(here, grids, tmp_path):
    settings = ChainSettings(("ply",), {"device": "cuda"})
    batch = RunBatch(tmp_path / "out", settings, threads=4, ray="auto")
    assert batch._gpus == 1
    assert batch._pool_size(9) == 1
    assert RunBatch(tmp_path / "out", settings, workers=3)._pool_size(9) == 3


def test_a_row_of_other_weights_is_not_final_but_one_of_unknown_weights_is(tmp_path):
    def settings(weights: dict[str, int | str] | None) -> dict[str, Any]:
        chain = ChainSettings(("ply",), {"device": "cpu"}, weights=weights)
        return ClipTask("a", tmp_path / "a.mp4", tmp_path / "a", chain).settings_json

    def final(found: dict[str, Any], weights: dict[str, int | str] | None) -> bool:
        written = json.loads(json.dumps(found))
        row = ClipRow("a", ClipStatus.FINISHED, str(tmp_path / "a.mp4"), settings=written)
        return is_final(row, tmp_path / "a.mp4", None, settings(weights))

    made = settings({"lift": "12ab"})
    assert final(made, {"lift": "12ab"})
    assert not final(made, {"lift": "34cd"})
    assert final(made, None)  # the weights are gone
    older = {name: value for name, value in made.items() if name != "weights"}
    assert final(older, {"lift": "34cd"})
    assert not final(older | {"formats": ["glb"]}, {"lift": "34cd"})


def test_a_broken_manifest_is_an_error(fourdvd, here, grids, tmp_path):
    out = tmp_path / "out"
    fourdvd("run", *grids, "-o", out, *OPTIONS)
    with (out / MANIFEST).open("a") as file:
        file.write('{"name": "x", "status": "won", "input": "y"}\n')
    outcome = fourdvd("run", *grids, "-o", out, *OPTIONS)
    assert outcome.exit_code == 3
    assert "line 4" in outcome.stderr


# -- real workers, which are lost


def held_clip(task: ClipTask) -> ClipRow:
    """Run an input with a short fit, which waits before its start while the file `hold` exists."""
    usual, hold = run_chain.reconstruct_with_progress, task.folder.parent.with_name("hold")

    def reconstruct(*arguments, **named):
        task.folder.parent.with_name(f"begun-{task.name}").touch()
        wait_until(lambda: not hold.exists())
        return usual(*arguments, **named)

    short = partial(replace, fit_config(), iterations=12, max_gaussians=60, initial_gaussians=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_chain, "reconstruct_with_progress", reconstruct)
        patch.setattr("recon.fitting.reconstruction.fit_config", lambda *arguments: short())
        return run_clip(task)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Losses(NamedTuple):
    """What remains of a batch whose workers were lost: its result, and grids from before that."""

    result: run_batch.BatchResult
    grids: dict[str, dict[Path, int]]


def run_with_losses(
    batch: RunBatch, inputs: list[Path], lose: Callable[[], None], monkeypatch
) -> Losses:
    """Run a batch and lose workers when two inputs have their grid and begin to be fitted."""
    monkeypatch.setattr(run_batch, "run_clip", held_clip)
    place, grids = batch.folder.parent, {}
    (place / "hold").touch()

    def act() -> None:
        wait_until(lambda: len(list(place.glob("begun-*"))) == 2)
        begun = [path.name.removeprefix("begun-") for path in place.glob("begun-*")]
        grids.update({name: files(batch.folder / name / "grid") for name in begun})
        lose()
        (place / "hold").unlink()

    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(act)
        result = batch.run(inputs)
        acting.result()
    return Losses(result, grids)


def settings() -> ChainSettings:
    fit = {"quality": "draft", "motion": None, "device": "cpu", "seed": 0, "sh_degree": 0}
    return ChainSettings(("ply",), fit)


@pytest.fixture
def three_grids(tmp_path) -> list[Path]:
    for number in range(3):
        write_grid(make_tiny_grid(3, 2), tmp_path / "inputs" / f"g{number}")
    return [tmp_path / "inputs" / f"g{number}" for number in range(3)]


@pytest.mark.slow
def test_a_killed_worker_loses_no_finished_step(three_grids, tmp_path, monkeypatch):
    out, before = tmp_path / "out", psutil.Process().children()

    def lose() -> None:
        for child in set(psutil.Process().children()) - set(before):
            if any("spawn_main" in part for part in child.cmdline()):
                child.kill()

    batch = RunBatch(out, settings(), workers=2)
    result, grids = run_with_losses(batch, three_grids, lose, monkeypatch)
    assert {row.status for row in result.rows} == {ClipStatus.FINISHED}
    assert sorted(row.attempts for row in result.rows) == [1, 2, 2]
    assert {name: files(out / name / "grid") for name in grids} == grids
    assert set(rows(out)) == {"g0", "g1", "g2"}


@pytest.mark.slow
def test_a_lost_machine_loses_no_finished_step(fourdvd, three_grids, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="needs pip install 'fourdvd[cluster]'")
    from ray.cluster_utils import Cluster

    from generation.curation.jobs.ray_cluster import _QUIET

    for name, value in {**_QUIET, "RAY_worker_niceness": "0"}.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    head = node | {"include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(**node)
    cluster.wait_for_nodes()
    batch = RunBatch(out, settings(), ray=cluster.address)
    try:
        result, grids = run_with_losses(
            batch,
            three_grids,
            lambda: cluster.remove_node(second, allow_graceful=False),
            monkeypatch,
        )
    finally:
        cluster.shutdown()
    assert {row.status for row in result.rows} == {ClipStatus.FINISHED}
    assert sorted(row.attempts for row in result.rows) == [1, 1, 2]
    assert {name: files(out / name / "grid") for name in grids} == grids
    silent = fourdvd("run", *three_grids, "-o", tmp_path / "b", *OPTIONS, "--ray", "127.0.0.1:9")
    assert silent.exit_code == 5
    assert "ray start --head" in silent.stderr
