"""Downloads Objaverse objects into a folder, with a table of licenses and the credits they require.

    find_objects ──▶ sample ──▶ download_objects ──▶ <uid>.glb, objects.jsonl, ATTRIBUTION.md

`objects.jsonl` has a row for each object that is there; rows are appended during the download, so
an interruption loses none, and the table is sorted by uid at the end. `failures.jsonl` names the
objects that could not be downloaded. Files are hard-linked to the Hugging Face cache where the file
system allows it. A second run downloads only what is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from generation.curation.assets.licenses import LICENSES
from generation.curation.assets.objaverse import DownloadError, ObjaverseObject, fetch
from generation.curation.json_lines import append_line, json_line, read_lines
from generation.weights.hub import silent_hub
from generation.weights.verify import file_sha256
from recon.errors import OutputError, OutputExistsError
from recon.output import output_file
from recon.progress import OnStep, Progress, ignore_progress

TABLE_NAME = "objects.jsonl"
FAILURES_NAME = "failures.jsonl"
ATTRIBUTION_NAME = "ATTRIBUTION.md"
MAX_CONNECTION_FAILURES = 5  # in sequence; then the download ends
_ATTRIBUTION_HEAD = """\
# Credits

These objects of Objaverse are under licenses that require attribution. Whatever is made from them,
including renders, has to carry these lines and has to say what was changed.

"""
_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>#|!"})


@dataclass(frozen=True)
class Record:
    """A row of `objects.jsonl`.

    Attributes:
        file: name of the GLB file, beside the table.
        uid: identifier in Objaverse.
        name: title.
        licence: SPDX identifier of the license, where it has one.
        licence_url: address of the license text.
        author: name to credit.
        author_url: the author's page, if known.
        source: the object's page.
        faces: number of faces, as Sketchfab counts.
        animations: number of animations, as Sketchfab counts.
        bytes: size of the file.
        sha256: hash of the file, hexadecimal.
    """

    file: str
    uid: str
    name: str
    licence: str
    licence_url: str
    author: str
    author_url: str | None
    source: str
    faces: int
    animations: int
    bytes: int
    sha256: str


class Downloaded(NamedTuple):
    """The result of a download.

    Attributes:
        records: rows of the requested objects that are there, by uid.
        already_there: how many of them were there before.
        failures: the reason for each object that is missing, by uid.
    """

    records: dict[str, Record]
    already_there: int
    failures: dict[str, str]


def download_objects(
    objects: Sequence[ObjaverseObject],
    folder: str | Path,
    workers: int = 4,
    on_step: OnStep = ignore_progress,
) -> Downloaded:
    """Download objects into a folder; those already there are kept.

    A failed object is recorded in `failures.jsonl`, and the others continue.

    Args:
        objects: the objects.
        folder: for the files; made if missing. It may hold other objects from before.
        workers: number of parallel downloads.
        on_step: called after each object.

    Raises:
        DownloadError: the connection failed several times in sequence. Finished objects are kept
            and are in the table.
        InputError: the folder's table is broken.
        OutputError: the folder is a file, or has credits or failures without a table.
        OSError: a file cannot be written, or the disk is full.
    """
    folder = Path(folder)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    records = read_records(folder)
    missing = [each for each in objects if each.uid not in records]
    there = len(objects) - len(missing)
    failures: dict[str, str] = {}
    try:
        _write_table(folder, records.values())  # without the rows of files that are gone
        with silent_hub(), closing(_download_all(missing, folder, workers)) as results:
            for done, (uid, result) in enumerate(results, start=there + 1):
                if isinstance(result, Record):
                    append_line(folder / TABLE_NAME, _row(result), _parse)
                    records[uid] = result
                else:
                    failures[uid] = str(result)
                on_step(Progress("downloading", done, len(objects)))
    finally:
        _write_table(folder, records.values())
        rows = [{"uid": uid, "reason": reason} for uid, reason in sorted(failures.items())]
        lines = [json_line(row, f"the failure of {row['uid']}") for row in rows]
        _write_or_remove(folder / FAILURES_NAME, b"".join(lines))
    wanted = {each.uid: records[each.uid] for each in objects if each.uid in records}
    return Downloaded(wanted, there, failures)


def read_records(folder: Path) -> dict[str, Record]:
    """Read the rows of the objects whose files are there at their recorded size, by uid.

    A torn last line, which a crash leaves, is dropped; the object's file is there and gets a new
    row without a download.

    Raises:
        InputError: another line is not a row; names the line.
    """
    records = {}
    for record in read_lines(folder / TABLE_NAME, _parse):
        file = folder / _file_name(record.uid)
        if file.is_file() and file.stat().st_size == record.bytes:
            records[record.uid] = record
    return records


def _download_all(
    objects: Sequence[ObjaverseObject], folder: Path, workers: int
) -> Generator[tuple[str, Record | DownloadError], None, None]:
    """Download objects in threads; yield uid and row or error of each as it completes."""
    limit = min(MAX_CONNECTION_FAILURES, len(objects))
    failed_connections = 0
    with _threads(workers) as pool:
        uids: dict[Future[Record], str] = {
            pool.submit(_download, each, folder): each.uid for each in objects
        }
        for future in as_completed(uids):
            try:
                result = future.result()
                failed_connections = 0
            except DownloadError as error:
                failed_connections = failed_connections + 1 if error.connection else 0
                if failed_connections == limit:
                    raise
                result = error
            yield uids[future], result


@contextmanager
def _threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that, on an error or interruption, finish their current task and start no other."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _download(wanted: ObjaverseObject, folder: Path) -> Record:
    """Put the file of an object into the folder, unless an interrupted run did so already."""
    path = folder / _file_name(wanted.uid)
    if not path.exists():
        cached = _fetch_glb(wanted)
        with output_file(path) as partial:
            _link_or_copy(cached, partial)
    elif not _is_whole_glb(path):
        raise DownloadError(f"{path} exists, but is not a complete GLB file; remove it")
    return Record(
        file=path.name,
        uid=wanted.uid,
        name=wanted.name,
        licence=wanted.license.name,
        licence_url=wanted.license.url,
        author=wanted.author,
        author_url=wanted.author_url,
        source=wanted.source,
        faces=wanted.faces,
        animations=wanted.animations,
        bytes=path.stat().st_size,
        sha256=file_sha256(path),
    )


def _fetch_glb(wanted: ObjaverseObject) -> Path:
    """Return the cached file of an object; a damaged one is downloaded once more."""
    for force in (False, True):
        path = fetch(wanted.object_path, force).resolve()  # the blob: snapshots are links
        if _is_whole_glb(path):
            return path
    raise DownloadError(f"{wanted.object_path} of Objaverse is not a complete GLB file")


def _is_whole_glb(path: Path) -> bool:
    """Whether a file has a GLB header and at least the length it declares."""
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12:
        return False
    magic, _, length = struct.unpack("<4sII", head)
    return magic == b"glTF" and length <= path.stat().st_size


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def _check_folder(folder: Path) -> None:
    """Raise OutputError if somebody else's file would be replaced."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; expected a folder, choose another name")
    if (folder / TABLE_NAME).exists():
        return
    for name in (ATTRIBUTION_NAME, FAILURES_NAME):
        if (folder / name).exists():
            raise OutputExistsError(folder / name, "choose another folder")


def _write_table(folder: Path, records: Iterable[Record]) -> None:
    """Replace the table and the credits."""
    rows = sorted(records, key=lambda record: record.uid)
    with output_file(folder / TABLE_NAME, overwrite=True) as partial:
        partial.write_bytes(b"".join(map(_row, rows)))
    required = {each.name for each in LICENSES.values() if each.attribution}
    credits = [_credit(record) for record in rows if record.licence in required]
    text = _ATTRIBUTION_HEAD + "".join(credits) if credits else ""
    _write_or_remove(folder / ATTRIBUTION_NAME, text.encode())


def _credit(record: Record) -> str:
    name, author = record.name.translate(_MARKDOWN), record.author.translate(_MARKDOWN)
    by = author if record.author_url is None else f"[{author}](<{record.author_url}>)"
    license = f"[{record.licence}](<{record.licence_url}>)"
    return f"- `{record.file}`: [{name}](<{record.source}>) by {by}, {license}\n"


def _file_name(uid: str) -> str:
    return f"{uid}.glb"


def _row(record: Record) -> bytes:
    return json_line(asdict(record), f"the row of {record.uid}")


def _parse(line: bytes) -> Record:
    """Parse a row; raise ValueError, which invalid JSON and UTF-8 are too."""
    row = json.loads(line)
    names = {each.name for each in fields(Record)}
    if not isinstance(row, dict) or row.keys() != names:
        raise ValueError(f"expected the keys {', '.join(sorted(names))}")
    return Record(**row)


def _write_or_remove(path: Path, content: bytes) -> None:
    """Replace a file; remove it if there is no content."""
    if not content:
        path.unlink(missing_ok=True)
        return
    with output_file(path, overwrite=True) as partial:
        partial.write_bytes(content)
