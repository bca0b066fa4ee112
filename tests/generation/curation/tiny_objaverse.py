"""A stand-in for the data set Objaverse on Hugging Face: a few objects behind a local server.

The real package `objaverse` runs against it; only the address it fetches from is another one.
"""

from __future__ import annotations

import gzip
import json
import struct
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ADDRESS = "https://huggingface.co/datasets/allenai/objaverse/resolve/main"


def uid_of(number: int) -> str:
    return f"{number:032x}"


def make_glb(number: int) -> bytes:
    text = json.dumps({"asset": {"version": "2.0", "generator": f"object {number}"}}).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text


def make_annotation(number: int, **changes: Any) -> dict[str, Any]:
    """As Sketchfab tells of an object that meets all criteria."""
    return {
        "uid": uid_of(number),
        "name": f"Object {number}",
        "animationCount": 1,
        "faceCount": 1000 + number,
        "isAgeRestricted": False,
        "license": "by",
        "viewerUrl": f"https://sketchfab.com/3d-models/{uid_of(number)}",
        "user": {
            "username": f"user{number}",
            "displayName": f"Author {number}",
            "profileUrl": f"https://sketchfab.com/user{number}",
        },
        "archives": {"glb": {"size": len(make_glb(number)), "faceCount": 900}},
    } | changes


@dataclass
class Hub:
    """What is served, and how badly.

    Attributes:
        cache: folder of the package.
        files: content by path.
        refused: status by path, instead of the content.
        cut: paths whose connection breaks in the middle.
        requests: paths that were asked for.
    """

    cache: Path
    files: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def publish(self, annotations: list[dict[str, Any]], objects_in_folder: int = 3) -> None:
        """Makes the data set of some objects."""
        paths: dict[str, str] = {}
        metadata: dict[str, dict[str, Any]] = {}
        for index, annotation in enumerate(annotations):
            uid, folder = annotation["uid"], f"000-{index // objects_in_folder:03d}"
            paths[uid] = f"glbs/{folder}/{uid}.glb"
            metadata.setdefault(folder, {})[uid] = annotation
            self.files[paths[uid]] = make_glb(int(uid, 16))
        self.files["object-paths.json.gz"] = gzip.compress(json.dumps(paths).encode())
        for folder, some in metadata.items():
            name = f"metadata/{folder}.json.gz"
            self.files[name] = gzip.compress(json.dumps(some).encode())

    def glb_path(self, number: int) -> str:
        return next(path for path in self.files if path.endswith(f"{uid_of(number)}.glb"))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.lstrip("/")
        self.requests.append(path)
        if path in self.refused or path not in self.files:
            request.send_error(self.refused.get(path, 404))
            return
        content = self.files[path]
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: len(content) // 2] if path in self.cut else content)


@contextmanager
def serve_objaverse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The package asks a server on this machine, and keeps its cache in the folder."""
    objaverse = pytest.importorskip("objaverse")
    hub = Hub(folder / "cache")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            hub.answer(self)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    local, real = f"http://127.0.0.1:{server.server_port}", urllib.request.urlretrieve

    def retrieve(url: str, path: str) -> Any:
        assert url.startswith(ADDRESS)
        return real(url.replace(ADDRESS, local), path)

    monkeypatch.setattr(urllib.request, "urlretrieve", retrieve)
    monkeypatch.setattr(objaverse, "_VERSIONED_PATH", str(hub.cache))
    monkeypatch.setenv("no_proxy", "*")
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no name is resolved, as on a machine without a network."""
    import socket

    def resolve(*_arguments: Any, **_named: Any) -> Any:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
