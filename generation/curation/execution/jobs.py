"""A task on its way: packed for a worker, performed there, and counted until it has a result.

What it does not know: which executor carries it.
"""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from generation.curation.execution.interface import Completed
from recon.errors import FourdvdError


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
