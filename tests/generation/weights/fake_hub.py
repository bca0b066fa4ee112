"""A fake Hugging Face hub with its content delivery on 127.0.0.1, for downloads.

The hub answers HEAD and GET of `/REPOSITORY/resolve/REVISION/FILE` with a redirect to the delivery,
another origin, whose answers can break off. What was asked is kept.
"""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]


class Refusal(NamedTuple):
    """An HTTP answer in place of the file."""

    status: int
    code: str | None = None
    message: str | None = None


class FakeHub:
    """The two servers, with their scripted behavior.

    Attributes:
        content: of the file.
        etag: the sha256 of the content, unless a test sets another.
        size: as the hub announces it.
        commit: which the hub names.
        refusal: of the hub.
        tokens: with one of them there is no refusal.
        breaks: for each answer of the delivery the bytes after which it breaks off, None for none;
            a negative number -N waits after N bytes until the hub is closed.
        deliveries_refused: status with which the delivery refuses what comes after `breaks`.
        asked: of the hub.
        delivered: asked of the delivery.
    """

    def __init__(self, content: bytes):
        self.content = content
        self.etag = hashlib.sha256(content).hexdigest()
        self.size = len(content)
        self.commit: str | None = COMMIT
        self.refusal: Refusal | None = None
        self.tokens: set[str] = set()
        self.breaks: list[int | None] = []
        self.deliveries_refused: int | None = None
        self.asked: list[Asked] = []
        self.delivered: list[Asked] = []
        self.closing = threading.Event()
        self._delivery = self._serve(_Delivery)
        self._hub = self._serve(_Hub)
        self.url = _url(self._hub)
        self.delivery_url = _url(self._delivery)

    def close(self) -> None:
        self.closing.set()
        for server in (self._hub, self._delivery):
            server.shutdown()
            server.server_close()

    def _serve(self, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"hub": self}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


def _url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def note(self) -> Asked:
        return Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()


class _Hub(_Handler):
    def do_HEAD(self) -> None:
        self.hub.asked.append(self.note())
        refusal = self.hub.refusal
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if refusal and token not in self.hub.tokens:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self.answer(refusal.status, {k: v for k, v in headers.items() if v is not None})
        elif "/resolve/" not in self.path:
            self.answer(404, {})
        else:
            headers = {
                "Location": f"{self.hub.delivery_url}/blob?signature=1",
                "X-Linked-Etag": f'"{self.hub.etag}"',
                "X-Linked-Size": str(self.hub.size),
                "ETag": '"of the pointer"',
            }
            if self.hub.commit is not None:
                headers["X-Repo-Commit"] = self.hub.commit
            self.answer(302, headers)

    do_GET = do_HEAD


class _Delivery(_Handler):
    def do_GET(self) -> None:
        hub = self.hub
        hub.delivered.append(self.note())
        if not hub.breaks and hub.deliveries_refused:
            self.answer(hub.deliveries_refused, {})
            return
        end = hub.breaks.pop(0) if hub.breaks else None
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        body = hub.content[start:]
        headers = {"Content-Length": str(len(body)), "ETag": f'"{hub.etag}"'}
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}"
        self.answer(206 if "Range" in self.headers else 200, headers)
        self.wfile.write(body if end is None else body[: abs(end)])
        if end is not None:
            self.wfile.flush()
            if end < 0:
                hub.closing.wait()
            self.close_connection = True
