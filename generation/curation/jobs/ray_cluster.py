"""Executor on a Ray cluster, which may gain and lose machines during a run.

Only slightly more tasks are submitted than the cluster can run at once, and results are fetched as
they complete, so that a million tasks fill neither the scheduler nor the object store. Tasks that
lose their worker or machine are resubmitted here instead of by Ray, which does not report the
number of retries and retries tasks that run out of memory without a limit.

All machines need the same version of fourdvd, and the tasks' folders under the same path on a
shared file system. Start them with `RAY_process_group_cleanup_enabled=1` in the environment of
`ray start`, so that a killed worker takes the processes that it started with it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from generation.curation.jobs.executor import (
    ATTEMPTS,
    Backlog,
    Completed,
    Job,
    OnReport,
    Resources,
    Task,
    Value,
    completed,
    perform,
)
from recon.errors import BackendError

LOCAL = "local"
IN_FLIGHT_PER_SLOT = 2
REFRESH_SECONDS = 5.0
REPORT_SECONDS = 0.5  # between two deliveries of reports
MAX_WAIT_SECONDS = 600.0  # time for a cluster to start machines on demand
PROBE_SECONDS = 10.0

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise Ray warns about a future change
    "RAY_process_group_cleanup_enabled": "1",
}


class RayCluster:
    """Executor on a Ray cluster.

    Args:
        address: "local" starts Ray on this machine for the duration of the tasks; "auto" or
            "host:6379" connect from a machine of a running cluster, "ray://host:10001" from outside
            (needs `ray[client]`). An existing connection of this process is used and left open.
        resources: resources of one task.
        attempts: number of attempts, each ended by the loss of its worker, before a task fails.
        on_report: called with the latest of what a task reports while it runs, see
            `executor.report`; None drops the reports, and no actor is started for them.
    """

    def __init__(
        self,
        address: str,
        resources: Resources,
        attempts: int = ATTEMPTS,
        on_report: OnReport | None = None,
    ):
        assert attempts >= 1
        self._on_report = on_report
        self._address = address
        self._resources = resources
        self._attempts = attempts

    def run(
        self, function: Callable[[Task], Value], tasks: Iterable[Task]
    ) -> Generator[Completed[Value], None, None]:
        """Implement `Executor.run`.

        Raises:
            BackendError: Ray is not installed or cannot be reached, or no machine of the cluster
                has the resources of a task.
        """
        ray = import_ray()
        backlog = Backlog(function, tasks, self._attempts)
        running: dict[Any, Job] = {}
        with _connection(ray, self._address):
            reports = None if self._on_report is None else _Reports(ray, self._on_report)
            try:
                yield from self._results(ray, backlog, running, reports)
            finally:
                for reference in running:
                    ray.cancel(reference, force=True)
                if reports is not None:
                    reports.close()

    def _results(
        self, ray: Any, backlog: Backlog, running: dict[Any, Job], reports: _Reports | None
    ) -> Generator[Completed[Any], None, None]:
        last_fit = time.monotonic()
        max_wait = 0.0 if self._address == LOCAL else MAX_WAIT_SECONDS
        remote = ray.remote(_perform).options(**_options(self._resources))
        timeout = REFRESH_SECONDS if reports is None else REPORT_SECONDS
        while True:
            slots = slot_count(ray.nodes(), self._resources)
            if slots:
                last_fit = time.monotonic()
            elif time.monotonic() - last_fit >= max_wait:
                raise _no_machine(self._resources)
            limit = IN_FLIGHT_PER_SLOT * max(1, slots)  # a waiting task makes a cluster scale up
            while len(running) < limit and (job := backlog.take()) is not None:
                latest = None if reports is None else reports.actor
                running[remote.remote(job.payload, job.index, latest)] = job
            if not running:
                return
            ready, _ = ray.wait(list(running), timeout=timeout)
            if reports is not None:  # before the results, which end the tasks
                reports.deliver({job.index for job in running.values()})
            for reference in ready:
                result = _result(ray, reference, running.pop(reference), backlog)
                if result is not None:
                    yield result


def _perform(payload: bytes, index: int, latest: Any) -> bytes:
    """Perform a task whose reports go to the actor `latest`; None to drop them."""
    if latest is None:
        return perform(payload)

    def send(value: Any) -> None:
        with suppress(Exception):  # of any kind: a lost actor must not end the task
            latest.put.remote(index, value)

    return perform(payload, send)


class _Latest:
    """Actor that keeps the latest report of each task until it is taken."""

    def __init__(self) -> None:
        self._values: dict[int, Any] = {}

    def put(self, index: int, value: Any) -> None:
        self._values[index] = value

    def take(self) -> dict[int, Any]:
        values, self._values = self._values, {}
        return values


class _Reports:
    """Delivery of reports: an actor, which no task waits for and whose loss ends none.

    Args:
        ray: the module.
        on_report: called with the index of a task and its latest report.
    """

    def __init__(self, ray: Any, on_report: OnReport):
        self._ray, self._on_report = ray, on_report
        self._start()

    def _start(self) -> None:
        self.actor = self._ray.remote(num_cpus=0)(_Latest).remote()
        self._taken = self.actor.take.remote()

    def deliver(self, running: Collection[int]) -> None:
        """Deliver what has arrived from tasks that still run; never wait for it."""
        if not self._ray.wait([self._taken], timeout=0)[0]:
            return
        try:
            values = self._ray.get(self._taken)
        except self._ray.exceptions.RayError:  # its machine was lost
            self._start()
            return
        self._taken = self.actor.take.remote()
        for index, value in values.items():
            if index in running:
                self._on_report(index, value)

    def close(self) -> None:
        self._ray.kill(self.actor)


def import_ray() -> Any:
    """Import Ray; raise BackendError if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise BackendError(
            "Ray is not installed; pip install 'fourdvd[cluster]', or omit --ray to use processes "
            "of this machine"
        ) from error
    return ray


def slot_count(nodes: Iterable[dict[str, Any]], resources: Resources) -> int:
    """Compute the number of tasks that the machines of a cluster can run at the same time.

    Args:
        nodes: result of `ray.nodes()`.
        resources: resources of one task.
    """
    need = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory_bytes or 0}
    return sum(
        min(int(node["Resources"].get(kind, 0) / count) for kind, count in need.items() if count)
        for node in nodes
        if node["Alive"]
    )


def _no_machine(need: Resources) -> BackendError:
    memory = "" if need.memory_bytes is None else f", {need.memory_bytes / 1e9:g} GB"
    return BackendError(
        f"expected a machine in the Ray cluster with {need.cpus:g} CPUs, {need.gpus:g} GPUs{memory}"
        ", which one task needs, found none; request less or add a larger machine"
    )


def _result(ray: Any, reference: Any, job: Job, backlog: Backlog) -> Completed | None:
    """Return the result of a finished task; None if it lost its worker and is queued again."""
    try:
        return completed(job, ray.get(reference))
    except ray.exceptions.RayTaskError as error:  # `perform` never raises, so it did not start
        return Completed(job.index, None, _first_line(error.cause), job.attempt)
    except ray.exceptions.RayError as error:
        return backlog.worker_lost(job, f"Ray reports {_first_line(error)}")


def _options(resources: Resources) -> dict[str, Any]:
    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": 0}
    if resources.memory_bytes is not None:
        options["memory"] = resources.memory_bytes
    return options


@contextmanager
def _connection(ray: Any, address: str) -> Iterator[None]:
    """Connect this process to Ray for the length of a block, unless it is connected already."""
    if ray.is_initialized():
        yield
        return
    with _environment(_QUIET):
        _connect(ray, address)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        quiet["include_dashboard"] = False
    try:
        _probe(address)
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray has no common base class of its errors
        raise BackendError(
            f"cannot connect to a Ray cluster at {address!r} ({_first_line(error)}); start one "
            'with `ray start --head`, or pass "local" to start Ray on this machine'
        ) from error


def _probe(address: str) -> None:
    """Raise OSError if nothing listens at an address; Ray itself would retry for 15 minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables that are not set yet, for the length of a block."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _first_line(error: BaseException) -> str:
    """Return type and first line of an error; messages of Ray continue with logs and advice."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
