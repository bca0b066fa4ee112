"""Objaverse 1.0 through its package `objaverse`: index, annotations and files, cached at home.

The only file that imports that package. It keeps the package's cache sound: what a broken
connection or an interruption leaves half-written there is removed, and what is damaged is fetched
again. Some of the package's names that are used here start with an underscore: its public functions
read the index of all 800 000 objects again for each call and end at the first object that fails.

What it does not know: which objects are wanted.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError, URLError

from recon.errors import BackendError, FourdvdError

FOLDERS_AT_ONCE = 10  # annotations of 50 000 objects; of more, the package shows a progress bar
TIMEOUT_SECONDS = 60.0
_OBJECT_PATH = re.compile(r"glbs/(?P<folder>\d{3}-\d{3})/(?P<uid>[0-9a-f]{32})\.glb")
_NAMES = ("load_annotations", "_load_object_paths", "_download_object", "_VERSIONED_PATH")
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, ValueError)  # ValueError: JSON and UTF-8, too
_DISCONNECTED = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_TOO_MANY_REQUESTS, _SERVER_ERRORS = 429, 500


class DownloadError(FourdvdError):
    """Objaverse is not reached, or hands out something else than expected; a hint says what to do.

    Attributes:
        of_connection: the next download will hardly fare better.
    """

    def __init__(self, message: str, *, of_connection: bool = False):
        self.of_connection = of_connection
        self.hint = (
            "check the network and run the command again: it goes on with what is missing"
            if of_connection
            else None
        )
        super().__init__(message)


def read_object_paths() -> dict[str, str]:
    """The place of each object in the data set, by its uid of 32 hexadecimal digits.

    Raises:
        BackendError: the package is missing.
        DownloadError: the index is not in the cache and cannot be fetched.
        OSError: the cache cannot be written.
    """
    package = _package()
    paths = _load(package._load_object_paths, [_cache(package) / "object-paths.json.gz"])
    return {uid: path for uid, path in paths.items() if _is_place_of(uid, path)}


def read_annotations(
    object_paths: Mapping[str, str],
) -> Iterator[tuple[dict[str, dict[str, Any]], int, int]]:
    """What Sketchfab tells of objects, in parts, because all of it takes many GB of memory.

    Args:
        object_paths: the objects, as `read_object_paths` gives them.

    Yields:
        The annotations of some objects by uid, how many objects have had their turn, and how many
        there are in all. Objects may lack annotations.

    Raises:
        BackendError, DownloadError, OSError: as `read_object_paths`.
    """
    package = _package()
    uids: dict[str, list[str]] = {}
    for uid, path in object_paths.items():
        uids.setdefault(path.split("/")[1], []).append(uid)
    folders, done = sorted(uids), 0
    for start in range(0, len(folders), FOLDERS_AT_ONCE):
        some = folders[start : start + FOLDERS_AT_ONCE]
        wanted = [uid for folder in some for uid in uids[folder]]
        files = [_cache(package) / "metadata" / f"{folder}.json.gz" for folder in some]
        annotations = _load(lambda wanted=wanted: package.load_annotations(wanted), files)
        done += len(wanted)
        yield annotations, done, len(object_paths)


def fetch_object(uid: str, object_path: str) -> Path:
    """The file of an object in the package's cache; downloaded unless it is there. Thread-safe.

    Raises:
        BackendError: the package is missing.
        DownloadError: the object cannot be fetched, or what is handed out is not a whole GLB file.
        OSError: the cache cannot be written.
    """
    package = _package()
    path = _cache(package) / object_path
    if path.is_file() and is_whole_glb(path):
        return path
    try:
        with _explained(f"object {uid}"):
            package._download_object(uid, object_path, 1, 0)
    except BaseException:
        path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
        raise
    if not is_whole_glb(path):
        path.unlink()
        raise DownloadError(f"what was downloaded of object {uid} is not a whole GLB file")
    return path


def is_whole_glb(path: Path) -> bool:
    """Whether a file begins like a GLB file and is as long as its header tells."""
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12:
        return False
    magic, _, length = struct.unpack("<4sII", head)
    return magic == b"glTF" and length <= path.stat().st_size


@contextmanager
def patient_sockets() -> Iterator[None]:
    """In this block a connection that says nothing for a minute fails instead of waiting forever.

    The package sets no limit, so this is the process's own default, which is put back afterwards.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _package() -> ModuleType:
    try:
        import objaverse
    except ImportError as error:
        raise BackendError(
            f"Objaverse needs a package that is missing ({error.name}); pip install 'fourdvd[data]'"
        ) from error
    if not all(hasattr(objaverse, name) for name in _NAMES):
        raise BackendError(
            "this version of the package objaverse is not known; pip install 'objaverse==0.1.7'"
        )
    # Found before the built-in one: the package prints to stdout, which carries results only.
    package: Any = objaverse
    package.print = _say_nothing
    return package


def _say_nothing(*words: object) -> None:
    """Stands for `print`."""


def _cache(package: ModuleType) -> Path:
    return Path(package._VERSIONED_PATH)


def _is_place_of(uid: str, path: str) -> bool:
    """Whether a row of the index is of the known form; files are named by both."""
    match = _OBJECT_PATH.fullmatch(path)
    return match is not None and match["uid"] == uid


def _load(load: Callable[[], dict[str, Any]], files: Sequence[Path]) -> dict[str, Any]:
    """Calls a function of the package that reads files of its cache and fetches missing ones."""
    with _explained("the list of objects"):
        try:
            return load()
        except _DAMAGED:
            _remove_damaged(files)
        except BaseException:
            _remove_damaged(files)
            raise
        try:
            return load()
        except _DAMAGED as error:
            _remove_damaged(files)
            raise DownloadError(
                f"the list of objects of Objaverse arrives damaged: {error}"
            ) from error


def _remove_damaged(files: Sequence[Path]) -> None:
    """The package writes these files in place, so an interruption leaves the beginning of one."""
    for path in files:
        try:
            with gzip.open(path, "rb") as file:
                json.load(file)
        except FileNotFoundError:
            continue
        except _DAMAGED:
            path.unlink()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns errors of the connection into `DownloadError`; faults of this machine stay `OSError`.

    Args:
        what: is fetched.
    """
    try:
        yield
    except HTTPError as error:
        error.close()
        raise DownloadError(
            f"Hugging Face does not hand out {what} of Objaverse: it answered {error.code}",
            of_connection=error.code == _TOO_MANY_REQUESTS or error.code >= _SERVER_ERRORS,
        ) from error
    except _DISCONNECTED as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise DownloadError(
            f"Hugging Face, which keeps Objaverse, is not reached for {what}: {reason}",
            of_connection=True,
        ) from error
