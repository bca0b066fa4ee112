"""Executor on this machine: spawned worker processes, each with a pipe of its own.

    pool ──payload──▶ worker ──reports, then the answer──▶ pool

In `concurrent.futures`, one dead worker breaks the whole pool and loses the tasks of all other
workers. With a pipe for each worker, a dead worker affects only its own task. Workers are spawned,
because forks of a process with threads or with torch can hang.

Each worker is the leader of its own session: a Ctrl-C in the terminal reaches only the pool, and
the processes that a task starts can be killed as one process group. A worker ends when its pipe is
closed or the pool's process ends. SIGTERM unwinds the running function, so that unfinished folders
are removed.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from generation.curation.jobs.executor import (
    ATTEMPTS,
    Backlog,
    Completed,
    Job,
    OnReport,
    Task,
    Value,
    completed,
    perform,
)
from recon.devices import usable_cores

GRACE_SECONDS = 5.0
_REPORT, _ANSWER = b"r", b"a"  # first byte of a message of a worker


class ProcessPool:
    """Pool of worker processes.

    Args:
        workers: number of tasks that run at the same time, at least 1.
        attempts: number of attempts, each ended by the death of its worker, before a task fails.
        on_report: called with what a task reports while it runs, see `executor.report`; None drops
            the reports.
    """

    def __init__(self, workers: int, attempts: int = ATTEMPTS, on_report: OnReport | None = None):
        assert workers >= 1 and attempts >= 1
        self._workers = workers
        self._attempts = attempts
        self._on_report = on_report

    def run(
        self, function: Callable[[Task], Value], tasks: Iterable[Task]
    ) -> Generator[Completed[Value], None, None]:
        """Implement `Executor.run`."""
        backlog = Backlog(function, tasks, self._attempts)
        busy: dict[_Worker, Job] = {}
        idle: list[_Worker] = []
        try:
            while self._fill(busy, idle, backlog):
                worker = _first_to_send(busy)
                message = worker.message()
                if message is not None and message[:1] == _REPORT:
                    if self._on_report is not None:
                        self._on_report(busy[worker].index, pickle.loads(message[1:]))
                    continue
                job = busy.pop(worker)
                if message is None:
                    result = backlog.worker_lost(job, worker.cause_of_death())
                else:
                    idle.append(worker)
                    result = completed(job, message[1:])
                if result is not None:
                    yield result
        finally:
            _end([*busy, *idle])

    def _fill(self, busy: dict[_Worker, Job], idle: list[_Worker], backlog: Backlog) -> bool:
        """Assign jobs to free workers; return whether any worker is busy."""
        while len(busy) < self._workers and (job := backlog.take()) is not None:
            if not idle:
                threads = usable_cores() // self._workers
                idle.append(_Worker(max(1, threads)))
            worker = idle.pop()
            busy[worker] = job
            worker.give(job)
        return bool(busy)


def serve(connection: Connection, threads: int) -> None:
    """Run the main loop of a worker process, which performs the payloads that arrive.

    Args:
        connection: the worker's end of the pipe.
        threads: thread limit of numeric libraries, unless the environment sets one.
    """
    os.setsid()
    signal.signal(signal.SIGTERM, _exit)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when such a library is loaded
    threading.Thread(target=_follow_the_pool, daemon=True).start()
    try:
        while True:
            payload = connection.recv_bytes()
            connection.send_bytes(_ANSWER + perform(payload, partial(_send_report, connection)))
    except (EOFError, OSError):
        return
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def _send_report(connection: Connection, value: Any) -> None:
    with suppress(OSError):  # the pool has ended, and soon ends this process
        connection.send_bytes(_REPORT + pickle.dumps(value))


class _Worker:
    """A worker process, as the pool sees it."""

    def __init__(self, threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def give(self, job: Job) -> None:
        with suppress(OSError):  # a worker that is dead already is noticed in `message`
            self.connection.send_bytes(job.payload)

    def message(self) -> bytes | None:
        """Receive a report or the answer of the job; None if the process died."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def cause_of_death(self) -> str:
        """Wait until a dying process has ended, kill its child processes, and return the cause."""
        _end([self])
        code = self.process.exitcode
        assert code is not None
        if code == -signal.SIGKILL:
            return "it was killed (SIGKILL), as the system does when memory runs out"
        if code < 0:
            return f"it crashed ({signal.Signals(-code).name})"
        return f"it exited with code {code}"

    def kill_group(self) -> None:
        """Kill the process and all its child processes."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError, PermissionError):  # it died before it led a group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def _first_to_send(busy: Collection[_Worker]) -> _Worker:
    """Wait until a worker has sent something or died; of several, return the longest running."""
    ready = wait([worker.connection for worker in busy])
    return next(worker for worker in busy if worker.connection in ready)


def _end(workers: Collection[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
        worker.process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        worker.kill_group()


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _follow_the_pool() -> None:
    """End the worker when the pool's process has ended for any reason."""
    pool = multiprocessing.parent_process()
    assert pool is not None
    pool.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)
