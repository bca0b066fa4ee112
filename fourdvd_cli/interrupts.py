"""What SIGINT (Ctrl-C) and SIGTERM do: nothing is ever left half-written because of them.

Everywhere a signal raises KeyboardInterrupt, so that the clean-up of every `with` and `finally`
runs. Inside `stop_request` the first one only asks, for work that can save its state; the second
one interrupts.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
STDERR = 2  # the file descriptor
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def install() -> None:
    """From now on both signals raise KeyboardInterrupt in the main thread.

    SIGINT too: a shell without job control starts background jobs with it ignored, and a script
    that sends it to one of them means it.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """While the block runs, the first signal asks it to stop and the second one interrupts it.

    Yields:
        A function that tells whether it was asked to stop.

    Raises:
        KeyboardInterrupt: the block ended without heeding the request, so the command shall.
    """
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        # Not through the console: the signal may have arrived in the middle of its own writing.
        os.write(STDERR, b"\nstopping after this step (again: at once)\n")

    previous = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if asked.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
