"""The life of a worker process of the pool: take a task, answer, until it is told to stop.

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
from multiprocessing.connection import Connection

from generation.curation.execution.jobs import perform

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
