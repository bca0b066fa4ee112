"""What SIGINT (Ctrl-C) and SIGTERM do: nothing is ever left half-written because of them.

Everywhere a signal raises KeyboardInterrupt, so that the clean-up of every `with` and `finally`
runs. Where Python cannot let it through (in a destructor or a callback of C code), it comes again a
moment later. Inside `stop_request` the first signal only asks, for work that can save its state;
the second one interrupts.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
STDERR = 2  # the file descriptor
SIGNALS = (signal.SIGINT, signal.SIGTERM)
MOMENT_SECONDS = 0.01


def install() -> None:
    """From now on both signals raise KeyboardInterrupt in the main thread.

    SIGINT too: a shell without job control starts background jobs with it ignored, and a script
    that sends it to one of them means it.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    sys.unraisablehook = _come_again


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


def _come_again(unraisable: sys.UnraisableHookArgs) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # Not threading's: its locks may be held where the signal arrived.
        _thread.start_new_thread(_send_again, ())
    else:
        sys.__unraisablehook__(unraisable)


def _send_again() -> None:
    time.sleep(MOMENT_SECONDS)
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # also ends a system call in which it waits
    else:
        signal.raise_signal(signal.SIGINT)
