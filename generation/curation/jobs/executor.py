"""What an executor promises: one function over many tasks, one result for each, as they complete.

The function and the tasks are pickled, so the function is one of a module. It may start processes
of its own; they have to stay in the process group of their worker (no `start_new_session`), since
they are ended with it through that group. What it does not know: what the function does.


----
A task on its way: packed for a worker, performed there, and counted until it has a result.

What it does not know: which executor carries it.
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
    """What one task keeps busy; a cluster places tasks by it.

    Attributes:
        cpus: processor cores; may be a fraction.
        gpus: graphics processors; may be a fraction.
        memory_bytes: main memory, or None where it need not be counted.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int | None = None

    def __post_init__(self):
        assert self.cpus > 0 or self.gpus > 0, "a task keeps something busy"


@dataclass(frozen=True)
class Completed(Generic[Value]):
    """What came of one task.

    Attributes:
        index: of the task among all.
        value: what the function returned; None if it did not.
        failure: a sentence why there is no value; None where there is one.
        attempts: how many workers the task was given to, this result's included.
    """

    index: int
    value: Value | None
    failure: str | None
    attempts: int


class Executor(Protocol):
    """Runs a function over tasks in other processes, perhaps on other machines."""

    def run(
        self, function: Callable[[Task], Value], tasks: Iterable[Task]
    ) -> Generator[Completed[Value], None, None]:
        """Results in the order in which they come; each index exactly once.

        A function that raises has failed and is not tried again. A worker that dies under its task
        (out of memory, a crash of a library, a lost machine) is replaced, and the task is tried
        again, but not for ever. Tasks are drawn from `tasks` as workers become free.

        Closing the iterator gives up what is pending and ends the workers with all they started;
        hold it in `contextlib.closing` to have that on every way out.

        Raises:
            BackendError: there is nothing to run on.
        """
        ...


@dataclass(frozen=True)
class Job:
    """A task that a worker can be given.

    Attributes:
        index: of the task among all.
        payload: the function and the task, for `perform`.
        attempt: which one this is; the first is 1.
    """

    index: int
    payload: bytes
    attempt: int = 1


class Backlog:
    """The tasks without a result that no worker has.

    Those that lost their worker stand behind the fresh ones: if memory was short, they meet other
    neighbours then.
    """

    def __init__(self, function: Callable[[Any], Any], tasks: Iterable[Any], attempts: int):
        self._function = function
        self._fresh = enumerate(tasks)
        self._again: deque[Job] = deque()
        self._attempts = attempts

    def take(self) -> Job | None:
        """The next one, or None if there is none."""
        for index, task in self._fresh:
            return Job(index, pickle.dumps((self._function, task)))
        return self._again.popleft() if self._again else None

    def worker_lost(self, job: Job, reason: str) -> Completed | None:
        """Lines a job up again, or gives up on it if that was its last attempt.

        Args:
            job: one whose worker ended under it.
            reason: how the worker ended, as a part of a sentence.

        Returns:
            The failure, if it is given up.
        """
        if job.attempt < self._attempts:
            self._again.append(replace(job, attempt=job.attempt + 1))
            return None
        times = "once" if job.attempt == 1 else f"{job.attempt} times"
        failure = f"lost its worker {times}, the last time because {reason}"
        return Completed(job.index, None, failure, job.attempt)


def perform(payload: bytes) -> bytes:
    """Runs a task; called in the worker. Returns the answer for `completed`."""
    try:
        function, task = pickle.loads(payload)
        return pickle.dumps((function(task), None))
    except Exception as error:
        return pickle.dumps((None, _sentence(error)))


def completed(job: Job, answer: bytes) -> Completed:
    """What came of a job, by the answer of `perform`."""
    value, failure = pickle.loads(answer)
    return Completed(job.index, value, failure, job.attempt)


def _sentence(error: Exception) -> str:
    """Type and message; where the error is not one of ours, also where it was raised."""
    sentence = f"{type(error).__name__}: {error}"
    if isinstance(error, FourdvdError):
        return sentence
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{sentence} ({place.filename}, line {place.lineno})"
