"""A stand-in for the data set Objaverse on the Hugging Face hub: a few objects on a local server.

The real `huggingface_hub` runs against it, with a cache of its own.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from generation.curation.assets.objaverse import REPOSITORY, REVISION

PREFIX = f"/datasets/{REPOSITORY}/resolve/{REVISION}/"


def uid_of(number: int) -> str:
    return f"{number:032x}"


def make_glb(number: int) -> bytes:
    text = json.dumps({"asset": {"version": "2.0", "generator": f"object {number}"}}).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text


def make_annotation(number: int, **changes: Any) -> dict[str, Any]:
    """The metadata of an object that meets all criteria."""
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
    """The files of the data set, and how the server fails.

    Attributes:
        cache: folder of the Hugging Face cache.
        files: content by path.
        refused: status by path, instead of the content.
        requests: paths whose content was requested.
    """

    cache: Path
    files: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
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

    def cached(self, path: str) -> Path:
        """The file in the cache behind a path of the data set."""
        folder = self.cache / f"datasets--{REPOSITORY.replace('/', '--')}"
        return (folder / "snapshots" / REVISION / path).resolve()

    def answer(self, request: BaseHTTPRequestHandler, with_content: bool) -> None:
        assert request.path.startswith(PREFIX)
        path = request.path.removeprefix(PREFIX)
        content = self.files.get(path)
        if with_content:
            self.requests.append(path)
        if path in self.refused or content is None:
            request.send_response(self.refused.get(path, 404))
            if content is None:
                request.send_header("X-Error-Code", "EntryNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        request.send_header("X-Repo-Commit", REVISION)
        request.end_headers()
        if with_content:
            request.wfile.write(content)


@contextmanager
def serve_objaverse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Points the hub's library to a server on this machine and a cache in a folder."""
    hub = Hub(folder / "cache")

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            hub.answer(self, with_content=False)

        def do_GET(self):
            hub.answer(self, with_content=True)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.split("/{repo_id}")[-1]
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{constants.ENDPOINT}/{{repo_id}}{template}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setenv("no_proxy", "*")
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets HF_HUB_OFFLINE, which the hub's library has read already when tests run."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
