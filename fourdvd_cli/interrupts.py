"""Handling of SIGINT (Ctrl-C) and SIGTERM, so that no result is left half-written.

A signal raises KeyboardInterrupt, so that every `with` and `finally` cleans up. If Python discards
that exception (in a destructor or a callback of C code), the signal is sent again a moment later.
Inside `stop_request` the first signal only requests a stop, for work that can save its state; the
second one interrupts.
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
STDERR = 2  # file descriptor
SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESEND_SECONDS = 0.01


def install() -> None:
    """Install handlers with which both signals raise KeyboardInterrupt in the main thread.

    SIGINT is included because shells without job control start background jobs with SIGINT ignored.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    sys.unraisablehook = _resend


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """In the block, the first signal requests a stop and the second one interrupts.

    Yields:
        A function that returns whether a stop was requested.

    Raises:
        KeyboardInterrupt: a stop was requested, but the block ran to its end.
    """
    requested = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        # Not through the console, which the signal may have interrupted while it was writing.
        os.write(STDERR, b"\nstopping after this step; press Ctrl-C again to stop at once\n")

    previous = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if requested.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _resend(unraisable: sys.UnraisableHookArgs) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # Not threading.Thread, whose locks the interrupted code may hold.
        _thread.start_new_thread(_send, ())
    else:
        sys.__unraisablehook__(unraisable)


def _send() -> None:
    time.sleep(RESEND_SECONDS)
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # also ends a blocking system call
    else:
        signal.raise_signal(signal.SIGINT)
