"""What an executor promises: one function over many tasks, one result for each, as they complete.

The function and the tasks are pickled, so the function is one of a module. It may start processes
of its own; they have to stay in the process group of their worker (no `start_new_session`), since
they are ended with it through that group. What it does not know: what the function does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

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
