"""Tasks over processes of this machine, each with a pipe of its own.

`concurrent.futures` is not used because there one dead worker breaks the whole pool, and its
neighbours' tasks, minutes of rendering, are lost with it. With a pipe for each worker a death is
seen at one task and costs no other. Workers are spawned: forks of a process with threads or with
torch in it hang. What it does not know: what the tasks are.


----
The life of a worker process of the pool: take a task, answer, until it is told to stop.

    pool  ──payload──▶  worker  ──answer──▶  pool        over one pipe for each worker

It leads a session of its own, so that a Ctrl-C in the terminal reaches only the pool, and so that
whatever the tasks start can be ended with it as a group. It outlives neither a closed pipe nor the
pool's process, however that one ends. SIGTERM unwinds the running function, so that unfinished
folders are removed. What it does not know: how many of it there are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from generation.curation.jobs.executor import (
    ATTEMPTS,
    Backlog,
    Completed,
    Job,
    Task,
    Value,
    completed,
    perform,
)


class ProcessPool:
    """An executor on this machine.

    Args:
        workers: how many tasks run at once, at least 1.
        attempts: how many workers a task may lose before it counts as failed, at least 1.
    """

    def __init__(self, workers: int, attempts: int = ATTEMPTS):
        assert workers >= 1 and attempts >= 1
        self._workers = workers
        self._attempts = attempts

    def run(
        self, function: Callable[[Task], Value], tasks: Iterable[Task]
    ) -> Generator[Completed[Value], None, None]:
        """As `Executor.run`."""
        backlog = Backlog(function, tasks, self._attempts)
        busy: dict[_Worker, Job] = {}
        idle: list[_Worker] = []
        try:
            while self._fill(busy, idle, backlog):
                worker = _first_to_answer(busy)
                answer = worker.answer()
                job = busy.pop(worker)
                if answer is None:
                    result = backlog.worker_lost(job, worker.cause_of_death())
                else:
                    idle.append(worker)
                    result = completed(job, answer)
                if result is not None:
                    yield result
        finally:
            _end([*busy, *idle])

    def _fill(self, busy: dict[_Worker, Job], idle: list[_Worker], backlog: Backlog) -> bool:
        """Gives every free worker a job while there are any; tells whether one is at work."""
        while len(busy) < self._workers and (job := backlog.take()) is not None:
            if not idle:
                threads = (os.cpu_count() or 1) // self._workers
                idle.append(_Worker(max(1, threads)))
            worker = idle.pop()
            busy[worker] = job
            worker.give(job)
        return bool(busy)


class _Worker:
    """The pool's end of a worker process."""

    def __init__(self, threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def give(self, job: Job) -> None:
        with suppress(OSError):  # a worker that is gone already is seen when its answer is awaited
            self.connection.send_bytes(job.payload)

    def answer(self) -> bytes | None:
        """Of a job that is done; None if the process died under it."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def cause_of_death(self) -> str:
        """Waits for the end of a dying process, ends what it started, and says how it ended."""
        _end([self])
        code = self.process.exitcode
        assert code is not None
        if code == -signal.SIGKILL:
            return "it was killed (SIGKILL), as the system does when memory runs out"
        if code < 0:
            return f"it crashed ({signal.Signals(-code).name})"
        return f"it exited with code {code}"

    def kill_group(self) -> None:
        """Ends the process and all that it started and that is still there."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError, PermissionError):  # it was gone before it led a group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def _first_to_answer(busy: Collection[_Worker]) -> _Worker:
    """Waits until a worker has answered or died; the one that has waited longest counts."""
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


GRACE_SECONDS = 5.0


def serve(connection: Connection, threads: int) -> None:
    """Performs the payloads that arrive; the main function of a worker process.

    Args:
        connection: its end of the pipe.
        threads: how many a numeric library may use, unless the environment says otherwise.
    """
    os.setsid()
    signal.signal(signal.SIGTERM, _leave)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when such a library is loaded
    threading.Thread(target=_follow_the_pool, daemon=True).start()
    try:
        while True:
            connection.send_bytes(perform(connection.recv_bytes()))
    except (EOFError, OSError):
        return
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _follow_the_pool() -> None:
    pool = multiprocessing.parent_process()
    assert pool is not None
    pool.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)
