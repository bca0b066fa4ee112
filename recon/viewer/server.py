"""Serve the player on this machine only: the page, the packed scene and the state of its source."""

from __future__ import annotations

import errno
import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from recon.errors import FourdvdError, OutputError
from recon.player.page import compressed, page
from recon.viewer.sources import Source

HOST = "127.0.0.1"


class PlayerServer(ThreadingHTTPServer):
    """Server of one source, on 127.0.0.1.

    Example:
        >>> with PlayerServer(open_source("out/scene"), "robot") as server:
        ...     print(server.url)
        ...     server.serve_forever()

    Args:
        source: what the page shows.
        title: title of the page.
        port: TCP port; 0: any free one.

    Raises:
        OutputError: The port is in use, or may not be used.
    """

    daemon_threads = True
    allow_reuse_address = False  # a second server on the port would be allowed on Windows

    def __init__(self, source: Source, title: str, port: int = 0):
        self.source = source
        self.page = page(None, title).encode()
        self._lock = threading.Lock()
        self._packed = ("", b"")
        try:
            super().__init__((HOST, port), _Handler)
        except PermissionError as error:
            raise OutputError(f"port {port} may not be used; choose one above 1023") from error
        except OverflowError as error:
            raise OutputError(f"expected a port from 0 to 65535, found {port}") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OutputError(f"port {port} is in use; choose another one with --port") from error

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def start(self) -> None:
        """Serve in a background thread, until `shutdown` or the end of the process."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def scene(self) -> bytes:
        """Return the compressed packed scene; each revision is packed once.

        Raises:
            FourdvdError: The source is not valid.
        """
        with self._lock:
            revision = self.source.state().revision
            if self._packed[0] != revision or not revision:
                self._packed = (revision, compressed(self.source.packed()))
            return self._packed[1]


class _Handler(BaseHTTPRequestHandler):
    server: PlayerServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        path = self.path.split("?")[0]
        if host not in (HOST, "localhost"):  # a page of another site whose name leads here
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"expected the host 127.0.0.1")
        elif path == "/":
            self._send(HTTPStatus.OK, "text/html", self.server.page)
        elif path == "/state.json":
            state = json.dumps(self.server.source.state()._asdict())
            self._send(HTTPStatus.OK, "application/json", state.encode())
        elif path == "/scene.bin":
            self._send_scene()
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"not found")

    def _send_scene(self) -> None:
        try:
            body = self.server.scene()
        except (FourdvdError, OSError) as error:  # e.g. a checkpoint replaced while it was read
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", str(error).encode())
        else:
            self._send(HTTPStatus.OK, "application/octet-stream", body)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the page was closed
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing: libraries do not write to a terminal."""
