"""Downloads objects of Objaverse into a folder, with their licences and credits beside them.

    find_objects ──▶ sample ──▶ download_objects ──▶ <uid>.glb, objects.jsonl, ATTRIBUTION.md

Files come from the cache that the package `objaverse` keeps at home; they are linked to it where
the file system can do that, and so take no space of their own. A second run goes on with what is
missing. What it does not know: how objects are selected.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from generation.curation.objaverse.package import (
    DownloadError,
    fetch_object,
    is_whole_glb,
    patient_sockets,
)
from generation.curation.objaverse.records import (
    Record,
    append_record,
    check_folder,
    file_name,
    read_records,
    record_of,
    write_failures,
    write_records,
)
from generation.curation.objaverse.selection import ObjaverseObject
from generation.weights.verify import file_sha256
from recon.output import output_file

DISCONNECTIONS_IN_SEQUENCE = 5  # after so many, no further object is tried
Progress = Callable[[int, int], None]


class Downloaded(NamedTuple):
    """What came of a download.

    Attributes:
        records: of the objects that were wanted and are there, by uid.
        already_there: how many of them were there before.
        failures: a sentence for each object that is missing, by uid.
    """

    records: dict[str, Record]
    already_there: int
    failures: dict[str, str]


def download_objects(
    objects: Sequence[ObjaverseObject],
    folder: str | Path,
    workers: int = 4,
    on_progress: Progress | None = None,
) -> Downloaded:
    """Brings objects into a folder; those that are there already stay as they are.

    An object that cannot be had is told in `failures.jsonl`, and the others go on.

    Args:
        objects: which.
        folder: for the files; made if it is missing. It may hold other objects from before.
        workers: how many objects are downloaded at once.
        on_progress: called with how many objects are dealt with, and of how many.

    Raises:
        BackendError: the package `objaverse` is missing.
        DownloadError: one object after the other failed for the connection's sake; what is there
            stays and is in the table.
        InputError: the folder's table is broken.
        OutputError: the folder is a file, or has credits or failures of something else.
        OSError: a file cannot be written, or the disk is full.
    """
    folder = Path(folder)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    records = read_records(folder)
    missing = [each for each in objects if each.uid not in records]
    there = len(objects) - len(missing)
    failures: dict[str, str] = {}
    try:
        write_records(folder, records.values())  # so that rows are added after a whole line
        with closing(_take_all(missing, folder, workers)) as results:
            for done, result in enumerate(results, start=there + 1):
                if isinstance(result, Record):
                    append_record(folder, result)
                    records[result.uid] = result
                else:
                    failures[result.uid] = result.reason
                if on_progress is not None:
                    on_progress(done, len(objects))
    finally:
        write_records(folder, records.values())
        write_failures(folder, failures)
    wanted = {each.uid: records[each.uid] for each in objects if each.uid in records}
    return Downloaded(wanted, there, failures)


class _Failure(NamedTuple):
    """Why an object is missing."""

    uid: str
    reason: str


def _take_all(
    objects: Sequence[ObjaverseObject], folder: Path, workers: int
) -> Generator[Record | _Failure, None, None]:
    """Takes objects in threads and yields each result as it comes."""
    limit = min(DISCONNECTIONS_IN_SEQUENCE, len(objects))
    disconnections = 0
    with patient_sockets(), _threads(workers) as pool:
        uids: dict[Future[Record], str] = {
            pool.submit(_take, each, folder): each.uid for each in objects
        }
        for future in as_completed(uids):
            try:
                result = future.result()
            except DownloadError as error:
                disconnections = disconnections + 1 if error.of_connection else 0
                if disconnections == limit:
                    raise
                result = _Failure(uids[future], str(error))
            else:
                disconnections = 0
            yield result


@contextmanager
def _threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that on an error or interruption finish what they are at, and begin nothing more."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _take(wanted: ObjaverseObject, folder: Path) -> Record:
    """Puts the file of an object into the folder, unless a run that was cut off did so."""
    path = folder / file_name(wanted.uid)
    if not path.exists():
        cached = fetch_object(wanted.uid, wanted.object_path)
        with output_file(path) as partial:
            _link_or_copy(cached, partial)
    elif not is_whole_glb(path):
        raise DownloadError(f"{path} is there, but it is not a whole GLB file; remove it")
    return record_of(wanted, path.stat().st_size, file_sha256(path))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
