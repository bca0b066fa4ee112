"""Tasks over the machines of a Ray cluster, which may come and go.

Only a few tasks more than the cluster has room for are handed to Ray, and each result is fetched as
it comes, so that a million of them fill neither the scheduler nor the object store. Tasks whose
worker or machine was lost are handed in again here rather than by Ray, which does not say how often
it did so and repeats without end what ran out of memory.

On every machine the same fourdvd is installed, and the folders that the tasks name are on a file
system that all of them see under the same path. Start the machines with
`RAY_process_group_cleanup_enabled=1` in the environment of `ray start`, so that a worker which is
killed takes the processes that it started with it. What it does not know: what the tasks are.


----
This process's connection to Ray: quiet, reporting to nobody, with sentences where it fails.

What Ray still prints on its own, that a machine of the cluster was lost, cannot be turned off. What
it does not know: what the connection is for.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from generation.curation.jobs.executor import (
    ATTEMPTS,
    Backlog,
    Completed,
    Job,
    Resources,
    Task,
    Value,
    completed,
    perform,
)
from recon.errors import BackendError

IN_FLIGHT_PER_SLOT = 2
REFRESH_SECONDS = 5.0
PATIENCE_SECONDS = 600.0  # for machines that a cluster starts on demand


class RayCluster:
    """An executor on a Ray cluster.

    Args:
        address: "local" starts Ray on this machine for as long as the tasks run; else of a running
            cluster: "auto" or "host:6379" from one of its machines, "ray://host:10001" from
            outside (needs `ray[client]`). If this process is connected to Ray already, that
            connection is used and left open.
        resources: what one task needs.
        attempts: how many workers a task may lose before it counts as failed, at least 1.
    """

    def __init__(self, address: str, resources: Resources, attempts: int = ATTEMPTS):
        assert attempts >= 1
        self._address = address
        self._resources = resources
        self._attempts = attempts

    def run(
        self, function: Callable[[Task], Value], tasks: Iterable[Task]
    ) -> Generator[Completed[Value], None, None]:
        """As `Executor.run`.

        Raises:
            BackendError: Ray is not installed, cannot be reached, or no machine of the cluster has
                what a task needs.
        """
        ray = imported_ray()
        backlog = Backlog(function, tasks, self._attempts)
        running: dict[Any, Job] = {}
        with connection(ray, self._address):
            try:
                yield from self._results(ray, backlog, running)
            finally:
                for reference in running:
                    ray.cancel(reference, force=True)

    def _results(
        self, ray: Any, backlog: Backlog, running: dict[Any, Job]
    ) -> Generator[Completed[Any], None, None]:
        patience = _Patience(0.0 if self._address == LOCAL else PATIENCE_SECONDS, self._resources)
        remote = ray.remote(perform).options(**_options(self._resources))
        while True:
            slots = slot_count(ray.nodes(), self._resources)
            patience.check(slots)
            most = IN_FLIGHT_PER_SLOT * max(1, slots)  # one asks a cluster for a machine
            while len(running) < most and (job := backlog.take()) is not None:
                running[remote.remote(job.payload)] = job
            if not running:
                return
            ready, _ = ray.wait(list(running), timeout=REFRESH_SECONDS)
            for reference in ready:
                result = _result(ray, reference, running.pop(reference), backlog)
                if result is not None:
                    yield result


def slot_count(nodes: Iterable[dict[str, Any]], resources: Resources) -> int:
    """How many tasks the machines of a cluster can run at once.

    Args:
        nodes: as `ray.nodes()` describes them.
        resources: what one task needs.
    """
    need = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": resources.memory_bytes or 0}
    return sum(
        min(int(node["Resources"].get(kind, 0) / count) for kind, count in need.items() if count)
        for node in nodes
        if node["Alive"]
    )


class _Patience:
    """How long a cluster may be without a machine that fits."""

    def __init__(self, seconds: float, resources: Resources):
        self._seconds = seconds
        self._resources = resources
        self._last_fit = time.monotonic()

    def check(self, slots: int) -> None:
        now = time.monotonic()
        if slots:
            self._last_fit = now
        elif now - self._last_fit >= self._seconds:
            need = self._resources
            memory = "" if need.memory_bytes is None else f", {need.memory_bytes / 1e9:g} GB"
            raise BackendError(
                f"no machine of the Ray cluster has the {need.cpus:g} CPUs, {need.gpus:g} GPUs"
                f"{memory} that one task needs; ask for less or add a larger machine"
            )


def _result(ray: Any, reference: Any, job: Job, backlog: Backlog) -> Completed | None:
    """Of a task that is ready; None if it lost its worker and waits for another."""
    try:
        return completed(job, ray.get(reference))
    except ray.exceptions.RayTaskError as error:  # `perform` raises nothing, so it never began
        return Completed(job.index, None, first_line(error.cause), job.attempt)
    except ray.exceptions.RayError as error:
        return backlog.worker_lost(job, f"Ray said: {first_line(error)}")


def _options(resources: Resources) -> dict[str, Any]:
    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": 0}
    if resources.memory_bytes is not None:
        options["memory"] = resources.memory_bytes
    return options


LOCAL = "local"
PROBE_SECONDS = 10.0

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # unset, Ray warns of a change to come
    "RAY_process_group_cleanup_enabled": "1",
}


def imported_ray() -> Any:
    """The package; raises BackendError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise BackendError(
            "Ray is not installed; pip install 'fourdvd[cluster]', or leave Ray out to work with "
            "processes of this machine"
        ) from error
    return ray


@contextmanager
def connection(ray: Any, address: str) -> Iterator[None]:
    """Connects this process for the length of a block, unless it is connected already.

    Args:
        ray: the package.
        address: as `RayCluster` takes it.

    Raises:
        BackendError: there is no cluster to be reached.
    """
    if ray.is_initialized():
        yield
        return
    with _environment(QUIET):
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
    except Exception as error:  # Ray has no common class for what goes wrong here
        raise BackendError(
            f"no connection to a Ray cluster at {address!r} ({first_line(error)}); start one with "
            '`ray start --head`, or give "local" to start Ray on this machine'
        ) from error


def _probe(address: str) -> None:
    """Raises OSError where nothing listens: Ray itself goes on trying for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets what is not set yet, for the length of a block."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def first_line(error: BaseException) -> str:
    """Type and first line of an error; Ray's go on with logs and advice."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
