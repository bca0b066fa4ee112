"""Process pool: each task has exactly one result, even if workers die."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
import pytest

from generation.curation.jobs import Resources, make_executor, report
from generation.curation.jobs.process_pool import ProcessPool
from generation.curation.jobs.ray_cluster import RayCluster, slot_count
from recon.errors import BackendError, GridError
from recon.output import output_folder

ROOT = Path(__file__).parents[3]
DRIVER = """
import signal
import sys
from functools import partial
from pathlib import Path
from generation.curation.jobs.process_pool import ProcessPool
from tests.generation.curation.jobs.test_process_pool import renders_for_ever

if __name__ == "__main__":
    # Whoever starts the tests in the background of a script has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in ProcessPool(2).run(partial(renders_for_ever, Path(sys.argv[1])), range(5)):
        pass
"""


def square(task: int) -> int:
    return task * task


def reports_twice(task: int) -> int:
    report(("begun", task))
    report(("half", task))
    return square(task)


def note(folder: Path, task: object) -> None:
    """Create one file for each attempt at a task."""
    (folder / f"{task}-{os.getpid()}-{time.monotonic_ns()}").touch()


def attempts_at(folder: Path, task: object) -> int:
    return len(list(folder.glob(f"{task}-*")))


def dies_at_two(folder: Path, task: int) -> int:
    note(folder, task)
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return square(task)


def dies_at_first(folder: Path, task: int) -> int:
    note(folder, task)
    if attempts_at(folder, task) == 1:
        os._exit(7)
    return square(task)


def raises_at_odd(folder: Path, task: int) -> int:
    note(folder, task)
    if task == 1:
        raise GridError("the grid is empty", "fox")
    if task == 3:
        return [][task]
    return square(task)


def not_picklable(task: int) -> object:
    return lambda: task


def starts_a_process_and_dies(folder: Path, task: int) -> None:
    child = subprocess.Popen(["sleep", "600"])
    (folder / str(child.pid)).touch()
    os._exit(1)


def renders_for_ever(folder: Path, task: int) -> None:
    with output_folder(folder / "results" / str(task)) as partial_folder:
        child = subprocess.Popen(["sleep", "600"])
        (partial_folder / "image.png").touch()
        (folder / f"{child.pid}.pid").touch()
        (folder / f"{os.getpid()}.pid").touch()
        child.wait()


def finishes_the_first(folder: Path, task: int) -> int:
    if task == 0:
        while len(pids_in(folder)) < 2:
            time.sleep(0.02)
        return task
    renders_for_ever(folder, task)
    return task


def threads_of_numeric_libraries(task: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def pids_in(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.pid")]


def wait_until_gone(pids: list[int], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"{alive} still run"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    yield tmp_path
    for pid in pids_in(tmp_path):
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def driver(folder) -> Iterator[subprocess.Popen]:
    """A process whose pool runs two endless tasks."""
    script = folder / "driver.py"
    script.write_text(DRIVER)
    process = subprocess.Popen(
        [sys.executable, script, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while len(pids_in(folder)) < 4:
        assert time.monotonic() < deadline, "the tasks did not start"
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


def test_what_a_task_reports_arrives_before_its_result():
    reported = []
    pool = ProcessPool(2, on_report=lambda index, value: reported.append((index, value)))
    for result in pool.run(reports_twice, [5, 6, 7]):
        mine = [value for index, value in reported if index == result.index]
        assert mine == [("begun", 5 + result.index), ("half", 5 + result.index)]
        assert result.value == square(5 + result.index)
    assert len(reported) == 6


def test_reports_that_nobody_hears_are_dropped():
    for pool in (ProcessPool(1), make_executor(None, 1, Resources())):
        assert [result.value for result in pool.run(reports_twice, [3])] == [9]


def test_a_report_outside_of_a_pool_is_dropped():
    assert reports_twice(3) == 9


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_has_one_result_with_its_index(workers):
    results = list(ProcessPool(workers).run(square, range(12)))
    assert {each.index: each.value for each in results} == {i: i * i for i in range(12)}
    assert len(results) == 12
    assert all(each.failure is None and each.attempts == 1 for each in results)


def test_no_worker_is_started_without_tasks():
    assert list(ProcessPool(2).run(square, [])) == []


def test_results_are_yielded_in_the_order_of_completion():
    results = list(ProcessPool(2).run(time.sleep, [1.5, 0, 0, 0]))
    assert [each.index for each in results][-1] == 0


def test_a_task_that_raises_is_not_retried(tmp_path):
    results = list(ProcessPool(1).run(partial(raises_at_odd, tmp_path), range(5)))
    assert {each.index: each.value for each in results} == {0: 0, 1: None, 2: 4, 3: None, 4: 16}
    assert results[1].failure == "GridError: fox: the grid is empty"
    assert (results[3].failure or "").startswith("IndexError: list index out of range (")
    assert [attempts_at(tmp_path, task) for task in range(5)] == [1] * 5


def test_a_task_that_kills_its_worker_does_not_affect_other_tasks(tmp_path):
    results = list(ProcessPool(3).run(partial(dies_at_two, tmp_path), range(10)))
    by_index = {each.index: each for each in results}
    assert sorted(each.index for each in results) == list(range(10))
    failed = by_index.pop(2)
    assert (failed.value, failed.attempts) == (None, 3)
    assert "3 times" in (failed.failure or "") and "SIGKILL" in (failed.failure or "")
    assert all(each.value == each.index**2 for each in by_index.values())
    tried = {task: attempts_at(tmp_path, task) for task in range(10)}
    assert tried == {**dict.fromkeys(range(10), 1), 2: 3}


def test_a_task_is_retried_in_a_new_worker_after_its_worker_died(tmp_path):
    results = list(ProcessPool(2).run(partial(dies_at_first, tmp_path), range(3)))
    assert {each.index: each.value for each in results} == {0: 0, 1: 1, 2: 4}
    assert [each.attempts for each in results] == [2, 2, 2]


def test_with_one_attempt_a_lost_task_is_not_retried():
    (failed,) = ProcessPool(1, attempts=1).run(os._exit, [7])
    assert failed.failure == "lost its worker once, the last time because it exited with code 7"


def test_a_return_value_that_cannot_be_pickled_is_a_failure():
    (failed,) = ProcessPool(1).run(not_picklable, [1])
    assert "pickle" in (failed.failure or "")


def test_large_tasks_and_return_values_pass_through_the_pipe():
    (result,) = ProcessPool(1).run(bytes.upper, [b"a" * 5_000_000])
    assert result.value == b"A" * 5_000_000


def test_tasks_are_taken_lazily_as_workers_become_free():
    drawn = Counter()
    tasks = (drawn.update(n=1) or i for i in itertools.count())
    with closing(ProcessPool(2).run(square, tasks)) as results:
        values = {next(results).index for _ in range(5)}
    assert len(values) == 5
    assert drawn["n"] <= 7


def test_each_worker_gets_its_share_of_the_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("generation.curation.jobs.process_pool.usable_cores", lambda: 8)
    assert [each.value for each in ProcessPool(3).run(threads_of_numeric_libraries, [0])] == ["2"]


def test_child_processes_of_a_dead_worker_are_killed(tmp_path):
    (failed,) = ProcessPool(1, attempts=1).run(partial(starts_a_process_and_dies, tmp_path), [0])
    assert failed.value is None
    wait_until_gone([int(path.name) for path in tmp_path.iterdir()])


def test_closing_ends_all_processes_and_leaves_no_unfinished_folder(folder):
    with closing(ProcessPool(2).run(partial(finishes_the_first, folder), range(4))) as results:
        assert next(results).value == 0
    assert len(pids_in(folder)) >= 2
    wait_until_gone(pids_in(folder), seconds=0.5)
    assert list((folder / "results").iterdir()) == []


def test_interrupting_the_main_process_ends_its_workers(driver, folder):
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    _, message = driver.communicate(timeout=15)
    assert message.count("Traceback") == 1  # that of the driver itself
    wait_until_gone(pids_in(folder))
    assert list((folder / "results").iterdir()) == []


def test_killing_the_main_process_leaves_no_process_behind(driver, folder):
    driver.kill()
    wait_until_gone(pids_in(folder))
    assert list((folder / "results").iterdir()) == []


def test_ray_is_used_only_if_an_address_is_given():
    need = Resources()
    assert isinstance(make_executor(None, 2, need), ProcessPool)
    assert isinstance(make_executor("local", 2, need), RayCluster)


def test_a_missing_ray_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendError, match=r"pip install 'fourdvd\[cluster\]'"):
        list(make_executor("local", 1, Resources()).run(square, [1]))


def test_slots_are_counted_per_machine_and_only_on_machines_that_are_alive():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 5.0, "GPU": 1.0, "memory": 100.0}},
        {"Alive": True, "Resources": {"CPU": 3.0, "memory": 30.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 900.0}},
    ]
    assert slot_count(nodes, Resources(cpus=2)) == 2 + 1
    assert slot_count(nodes, Resources(cpus=0.5, gpus=0.5)) == 2
    assert slot_count(nodes, Resources(cpus=1, memory_bytes=30)) == 3 + 1
    assert slot_count(nodes, Resources(cpus=8)) == 0
