"""The interface of executors, and the queue of tasks that both executors share.

Function and tasks are pickled, so the function must be defined at module level. Processes that it
starts must stay in the process group of their worker (no `start_new_session`), because they are
killed together with the worker through that group.
"""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from recon.errors import FourdvdError

Task = TypeVar("Task")
Value = TypeVar("Value")

ATTEMPTS = 3

OnReport = Callable[[int, Any], None]
"""Called in the main process with the index of a task and a value that it reported."""


@dataclass(frozen=True)
class Resources:
    """Resources that a cluster reserves for one task.

    Attributes:
        cpus: number of CPU cores; may be a fraction.
        gpus: number of GPUs; may be a fraction.
        memory_bytes: main memory; None to reserve none.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int | None = None

    def __post_init__(self):
        assert self.cpus > 0 or self.gpus > 0, "a task needs a processor"


@dataclass(frozen=True)
class Completed(Generic[Value]):
    """Result of one task.

    Attributes:
        index: index of the task.
        value: return value of the function; None if it failed.
        failure: error message; None if the function succeeded.
        attempts: number of workers that the task was sent to.
    """

    index: int
    value: Value | None
    failure: str | None
    attempts: int


class Executor(Protocol):
    """Interface to run a function over tasks in other processes, possibly on other machines."""

    def run(
        self, function: Callable[[Task], Value], tasks: Iterable[Task]
    ) -> Generator[Completed[Value], None, None]:
        """Yield the result of each task exactly once, in the order of completion.

        A task whose function raises has failed and is not retried. If a worker dies during a task
        (out of memory, a crash in a library, a lost machine), it is replaced and the task retried,
        up to a limit. Tasks are taken from `tasks` as workers become free.

        Closing the iterator cancels pending tasks and kills the workers and all processes that they
        started; use `contextlib.closing` to do so in every case.

        Raises:
            BackendError: no workers can be started.
        """
        ...


@dataclass(frozen=True)
class Job:
    """A pickled task.

    Attributes:
        index: index of the task.
        payload: pickled function and task, for `perform`.
        attempt: number of this attempt, from 1.
    """

    index: int
    payload: bytes
    attempt: int = 1


class Backlog:
    """Queue of the tasks that no worker has.

    Tasks that lost their worker come after all new ones, so that after a shortage of memory they
    run beside other tasks than before.
    """

    def __init__(self, function: Callable[[Any], Any], tasks: Iterable[Any], attempts: int):
        self._function = function
        self._fresh = enumerate(tasks)
        self._retries: deque[Job] = deque()
        self._attempts = attempts

    def take(self) -> Job | None:
        """Remove and return the next job; None if the queue is empty."""
        for index, task in self._fresh:
            return Job(index, pickle.dumps((self._function, task)))
        return self._retries.popleft() if self._retries else None

    def worker_lost(self, job: Job, reason: str) -> Completed | None:
        """Queue a job again after its worker died; return the failure if it was the last attempt.

        Args:
            job: job of the worker.
            reason: how the worker died, as a clause such as "it was killed".
        """
        if job.attempt < self._attempts:
            self._retries.append(replace(job, attempt=job.attempt + 1))
            return None
        times = "once" if job.attempt == 1 else f"{job.attempt} times"
        failure = f"lost its worker {times}, the last time because {reason}"
        return Completed(job.index, None, failure, job.attempt)


_send_report: Callable[[Any], None] | None = None  # of the task that this worker performs


def report(value: Any) -> None:
    """Send a picklable value from inside a task, such as its progress, to the executor's caller.

    A process pool delivers all values, a Ray cluster the latest one of each task a few times a
    second; outside of executors they are dropped.
    """
    if _send_report is not None:
        _send_report(value)


def perform(payload: bytes, send_report: Callable[[Any], None] | None = None) -> bytes:
    """Run the task of a job in a worker; return the pickled answer for `completed`.

    Args:
        payload: pickled function and task.
        send_report: delivers what the task reports with `report`; None to drop it.
    """
    global _send_report
    _send_report = send_report
    try:
        function, task = pickle.loads(payload)
        return pickle.dumps((function(task), None))
    except Exception as error:
        return pickle.dumps((None, _message(error)))


def completed(job: Job, answer: bytes) -> Completed:
    """Unpickle the answer of `perform`."""
    value, failure = pickle.loads(answer)
    return Completed(job.index, value, failure, job.attempt)


def _message(error: Exception) -> str:
    """Return type and message of an error, and for errors of other libraries the location."""
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, FourdvdError):
        return message
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{message} ({place.filename}, line {place.lineno})"
