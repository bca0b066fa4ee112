"""Ray cluster: each task has exactly one result, even if a node is lost."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from generation.curation.jobs import Resources, report
from generation.curation.jobs.ray_cluster import _QUIET, RayCluster
from recon.errors import BackendError

ray = pytest.importorskip("ray", reason="needs pip install 'fourdvd[cluster]'")
pytestmark = pytest.mark.slow  # starts and stops clusters

ONE_CPU = Resources(cpus=1)
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def append(folder: Path, name: str, line: str) -> None:
    """Write to a separate file for each process, so that lines never mix."""
    with (folder / f"{name}-{os.getpid()}").open("a") as file:
        file.write(line + "\n")


def lines(folder: Path, name: str) -> Counter[str]:
    return Counter(
        line for path in folder.glob(f"{name}-*") for line in path.read_text().splitlines()
    )


def works(folder: Path, task: int) -> int:
    """Run a task that takes too long on the node that is named in the file `hold`."""
    node = ray.get_runtime_context().get_node_id()
    append(folder, "start", str(task))
    time.sleep(0.2)
    hold = folder / "hold"
    if hold.exists() and hold.read_text() == node:
        append(folder, "held", str(task))
        time.sleep(600)
    append(folder, "done", str(task))
    return task * task


def dies_at_two(task: int) -> int:
    if task == 2:
        os._exit(1)
    return task * task


def reports_until_it_is_heard(folder: Path, task: int) -> int:
    deadline = time.monotonic() + 60
    while not lines(folder, "heard")[str(task)] and time.monotonic() < deadline:
        report(("fitting", task))
        time.sleep(0.1)
    return task


def raises_at_two(task: int) -> int:
    if task == 2:
        raise ValueError("the clip is empty")
    return task * task


def starts_a_process_and_waits_but_for_the_first(folder: Path, task: int) -> int:
    if task == 0:
        while not lines(folder, "start"):
            time.sleep(0.05)
        return 0
    child = subprocess.Popen(["sleep", "600"])
    append(folder, "start", str(child.pid))
    return child.wait()


def is_running(pid: str) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head node with two CPUs in separate processes; tests add more nodes."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in _QUIET.items():
            patch.setenv(name, value)
        head = {**NODE, "num_cpus": 2, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


def test_a_task_that_raises_or_dies_does_not_affect_other_tasks(cluster):
    executor = RayCluster(cluster.address, ONE_CPU, attempts=2)
    raised = {each.index: each for each in executor.run(raises_at_two, range(5))}
    assert [raised[i].value for i in range(5)] == [0, 1, None, 9, 16]
    assert (raised[2].failure or "").startswith("ValueError: the clip is empty (")
    assert raised[2].attempts == 1
    died = {each.index: each for each in executor.run(dies_at_two, range(5))}
    assert [died[i].value for i in range(5)] == [0, 1, None, 9, 16]
    assert "lost its worker 2 times" in (died[2].failure or "")


def test_reports_of_running_tasks_are_delivered(cluster, tmp_path):
    heard: dict[int, object] = {}

    def hear(index: int, value: object) -> None:
        heard[index] = value
        append(tmp_path, "heard", str(index))

    executor = RayCluster(cluster.address, ONE_CPU, on_report=hear)
    function = partial(reports_until_it_is_heard, tmp_path)
    assert {each.value for each in executor.run(function, range(3))} == {0, 1, 2}
    assert heard == {index: ("fitting", index) for index in range(3)}


def test_closing_kills_the_child_processes_of_tasks(cluster, tmp_path):
    executor = RayCluster(cluster.address, ONE_CPU)
    function = partial(starts_a_process_and_waits_but_for_the_first, tmp_path)
    with closing(executor.run(function, range(9))) as results:
        assert next(results).value == 0
    started = lines(tmp_path, "start")
    assert started
    deadline = time.monotonic() + 15
    while any(is_running(pid) for pid in started):
        assert time.monotonic() < deadline, "a process that a task had started still runs"
        time.sleep(0.1)


def test_tasks_of_a_lost_node_are_retried(cluster, tmp_path):
    second = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    tasks, results = range(30), []
    with closing(RayCluster(cluster.address, ONE_CPU).run(partial(works, tmp_path), tasks)) as run:
        for result in run:
            results.append(result)
            if len(results) == 6:
                (tmp_path / "partial").write_text(second.node_id)
                (tmp_path / "partial").rename(tmp_path / "hold")
            if second in cluster.list_all_nodes() and lines(tmp_path, "held"):
                cluster.remove_node(second, allow_graceful=False)
    assert sorted(each.index for each in results) == list(tasks)
    assert {each.index: each.value for each in results} == {i: i * i for i in tasks}
    assert all(each.failure is None for each in results)
    (held,) = lines(tmp_path, "held")
    assert {each.attempts for each in results if str(each.index) == held} == {2}
    assert lines(tmp_path, "start")[held] == 2
    assert set(lines(tmp_path, "done")) == {str(task) for task in tasks}


def test_a_node_that_joins_during_a_run_gets_tasks(cluster, tmp_path):
    with closing(
        RayCluster(cluster.address, ONE_CPU).run(partial(works, tmp_path), range(20))
    ) as run:
        assert next(run).value is not None
        second = cluster.add_node(**NODE)
        assert len(list(run)) == 19
    assert len(list(tmp_path.glob("done-*"))) > 1
    cluster.remove_node(second)


def test_a_task_that_fits_no_machine_is_refused():
    with pytest.raises(BackendError, match="1000 CPUs"):
        list(RayCluster("local", Resources(cpus=1000)).run(abs, [1]))


def test_an_address_without_a_cluster_is_an_error():
    with pytest.raises(BackendError, match="ray start --head"):
        list(RayCluster("127.0.0.1:9", ONE_CPU).run(abs, [1]))
