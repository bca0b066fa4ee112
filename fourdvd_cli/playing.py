"""The player in the browser, for the commands that show a scene."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fourdvd_cli import console

if TYPE_CHECKING:
    from recon.viewer.server import PlayerServer


@contextlib.contextmanager
def playing(server: PlayerServer, browser: bool = True) -> Iterator[None]:
    """Serve in the background, and open the page in a browser, if there is one.

    Args:
        server: the server, which serves until the end of the context.
        browser: whether to open a browser; the address is said in any case.
    """
    server.start()
    try:
        console.say(f"the player is at {server.url}")
        if browser and not webbrowser.open(server.url):
            console.say(f"no browser was found; open {server.url} in one")
        yield
    finally:
        server.shutdown()


def wait_for_interrupt() -> None:
    """Wait until Ctrl-C, which is the regular end."""
    console.say("press Ctrl-C to end")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
