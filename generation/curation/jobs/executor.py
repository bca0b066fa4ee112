"""The interface of executors, and the bookkeeping of tasks that both executors share.

Function and tasks are pickled, so the function must be defined in a module. It may start processes,
which must stay in the process group of their worker (no `start_new_session`), because they are
killed with it through that group.
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


@dataclass(frozen=True)
class Resources:
    """Resources of one task, by which a cluster schedules.

    Attributes:
        cpus: processor cores; may be a fraction.
        gpus: graphics processors; may be a fraction.
        memory_bytes: main memory; None if it need not be reserved.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int | None = None

    def __post_init__(self):
        assert self.cpus > 0 or self.gpus > 0, "a task needs a processor"


@dataclass(frozen=True)
class Completed(Generic[Value]):
    """The result of one task.

    Attributes:
        index: of the task.
        value: what the function returned; None if it failed.
        failure: error message; None if it succeeded.
        attempts: number of workers that the task was sent to.
    """

    index: int
    value: Value | None
    failure: str | None
    attempts: int


class Executor(Protocol):
    """Runs a function over tasks in other processes, possibly on other machines."""

    def run(
        self, function: Callable[[Task], Value], tasks: Iterable[Task]
    ) -> Generator[Completed[Value], None, None]:
        """Yield the result of each task exactly once, as they complete.

        A function that raises has failed and is not retried. A worker that dies during a task (out
        of memory, a crash in a library, a lost machine) is replaced and the task retried, up to a
        limit. Tasks are drawn from `tasks` as workers become free.

        Closing the iterator cancels what is pending and kills the workers with all they started;
        `contextlib.closing` does so on every way out.

        Raises:
            BackendError: there is nothing to run on.
        """
        ...


@dataclass(frozen=True)
class Job:
    """A pickled task.

    Attributes:
        index: of the task.
        payload: the function and the task, for `perform`.
        attempt: number of this attempt, from 1.
    """

    index: int
    payload: bytes
    attempt: int = 1


class Backlog:
    """Queue of the tasks that no worker has.

    Those that lost their worker wait behind the fresh ones: if memory was short, they run beside
    others then.
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
        """Queue a job again whose worker died; return the failure if that was its last attempt.

        Args:
            job: the job.
            reason: how the worker died, as a clause.
        """
        if job.attempt < self._attempts:
            self._retries.append(replace(job, attempt=job.attempt + 1))
            return None
        times = "once" if job.attempt == 1 else f"{job.attempt} times"
        failure = f"lost its worker {times}, the last time because {reason}"
        return Completed(job.index, None, failure, job.attempt)


def perform(payload: bytes) -> bytes:
    """Run a job's task in the worker; return the pickled answer for `completed`."""
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
    """Type and message of an error; if it is not one of ours, also where it was raised."""
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, FourdvdError):
        return message
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{message} ({place.filename}, line {place.lineno})"
