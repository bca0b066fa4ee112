"""Objaverse 1.0: selects animated objects by their metadata in the data set `allenai/objaverse`.

    object-paths.json.gz        uid → path of the GLB file
    metadata/000-000.json.gz …  uid → Sketchfab's metadata, for 160 folders of objects
    glbs/000-000/UID.glb …      800 000 objects; not all have metadata

Files are downloaded through `huggingface_hub` and live in the Hugging Face cache; `HF_HOME`,
`HF_HUB_OFFLINE` and `HF_ENDPOINT` apply.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, cast

from generation.curation.assets.licenses import LICENSES, PERMISSIVE, License
from recon.errors import FourdvdError, InputError
from recon.progress import OnStep, Progress, ignore_progress

REPOSITORY = "allenai/objaverse"
# The last commit of the data set. At a fixed commit the hub's library serves cached files without
# asking the server, and a seed draws the same objects for ever.
REVISION = "21e4e142159e2153706c23a3a02e55cec5591cea"
SKETCHFAB = "https://sketchfab.com"
_OBJECT_PATH = re.compile(r"glbs/(?P<folder>\d{3}-\d{3})/(?P<uid>[0-9a-f]{32})\.glb")
_UID = re.compile(r"[0-9a-f]{32}")
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, ValueError)  # ValueError: JSON and UTF-8 too


# The test set of Consistent4D, seven objects of Sketchfab of which six are in Objaverse:
# https://github.com/yanqinJiang/Consistent4D/blob/e6d3e2584b04e7fdc574094913dee9d1b407e217/test_dataset_uid.txt
CONSISTENT4D = frozenset(
    {
        "ba7b382c918b40e6b07011da4ff3ebc0",
        "29c26c661f1c47aabb245c9b2f896455",
        "53abad43280a4b7ab26bd0e6b8dea62f",
        "22bbb0b7ca4d4d63b47b1367984aa7ce",
        "26adfd631730494ab0fc80c806eada77",
        "a1c936d72a9f4fa0ac15033339bd6efe",
        "9fea6ffd67b840cb970f5b4570794709",
    }
)
"""Objects on which the field reports its numbers, and which must not be trained on."""


class DownloadError(FourdvdError):
    """A file of Objaverse cannot be downloaded.

    Attributes:
        connection: whether the connection or the server failed, so that other files fail too.
    """

    def __init__(self, message: str, *, connection: bool = False):
        self.connection = connection
        if connection:
            self.hint = "check the network and run the command again; it resumes the download"
        super().__init__(message)


@dataclass(frozen=True)
class Criteria:
    """Criteria for the selection of objects.

    Attributes:
        licenses: slugs of the accepted licenses.
        min_animations: least number of animations.
        min_faces: least number of faces.
        max_faces: largest number of faces.
        max_bytes: largest size of the GLB file. Objects of unknown size pass.
        excluded: uids of objects that are left out, by default those of `CONSISTENT4D`.

    Raises:
        InputError: a slug is not a license of Sketchfab.
    """

    licenses: frozenset[str] = PERMISSIVE
    min_animations: int = 1
    min_faces: int = 100
    max_faces: int = 500_000
    max_bytes: int = 100 * 10**6
    excluded: frozenset[str] = CONSISTENT4D

    def __post_init__(self):
        unknown = sorted(self.licenses - LICENSES.keys())
        if unknown:
            known = ", ".join(LICENSES)
            raise InputError(f"{unknown[0]!r} is not a license of Sketchfab; expected {known}")


class Mismatch(StrEnum):
    """The first criterion that an object fails."""

    unknown = "not in Objaverse, or without metadata"
    age_restricted = "age-restricted"
    test_set = "in a test set"
    animations = "too few animations"
    licence = "license"  # its name is a JSON key
    faces = "face count"
    bytes = "file size"


@dataclass(frozen=True)
class ObjaverseObject:
    """An object as its metadata describe it.

    Attributes:
        uid: 32 hexadecimal digits.
        object_path: path of its GLB file in the data set.
        name: title.
        license: its license.
        author: name to credit.
        author_url: the author's page, if known.
        source: the object's page.
        faces: number of faces.
        animations: number of animations.
        bytes: approximate size of the GLB file, if known.
    """

    uid: str
    object_path: str
    name: str
    license: License
    author: str
    author_url: str | None
    source: str
    faces: int
    animations: int
    bytes: int | None


class Total(NamedTuple):
    """Sums over the objects of a license; objects of unknown size count as 0 bytes."""

    objects: int
    faces: int
    bytes: int


@dataclass(frozen=True)
class Matches:
    """The result of a search.

    Attributes:
        objects: those that meet the criteria, ordered by uid.
        mismatches: number of other objects by the first criterion that they fail.
        unknown: requested uids that are not in Objaverse or have no metadata.
    """

    objects: tuple[ObjaverseObject, ...]
    mismatches: Mapping[Mismatch, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def totals(self) -> dict[str, Total]:
        """Sum over the objects of each license, by its slug, in the order of `LICENSES`."""
        totals = dict.fromkeys(LICENSES, Total(0, 0, 0))
        for each in self.objects:
            before = totals[each.license.slug]
            totals[each.license.slug] = Total(
                before.objects + 1, before.faces + each.faces, before.bytes + (each.bytes or 0)
            )
        return {slug: total for slug, total in totals.items() if total.objects}

    @property
    def mismatch_summary(self) -> str:
        """The numbers of objects that fail each criterion, in one line."""
        return ", ".join(f"{each.value} {self.mismatches.get(each, 0)}" for each in Mismatch)


def find_objects(
    criteria: Criteria, uids: Sequence[str] | None = None, on_step: OnStep = ignore_progress
) -> Matches:
    """Search the metadata of Objaverse; what is not cached is downloaded.

    Args:
        criteria: what objects must meet.
        uids: the only objects to consider; all 800 000 if None.
        on_step: called after each metadata file with the number of objects considered.

    Raises:
        DownloadError: the metadata cannot be downloaded.
        OSError: the cache cannot be written.
    """
    from generation.weights.hub import silent_hub

    with silent_hub():
        return _find(criteria, uids, on_step)


def sample(
    objects: Iterable[ObjaverseObject], count: int | None, seed: int
) -> list[ObjaverseObject]:
    """Draw objects uniformly at random without replacement.

    An object's rank is a hash of its uid and the seed, so a larger sample contains a smaller one,
    and objects that are added or removed do not change the order of the others.

    Args:
        objects: to draw from.
        count: size of the sample; all objects if None or if there are fewer.
        seed: of the ranks.
    """
    ranked = sorted(
        objects, key=lambda each: hashlib.sha256(f"{seed}:{each.uid}".encode()).digest()
    )
    return ranked[:count]


def read_uids(path: str | Path) -> list[str]:
    """Read a list of uids, one per line or as a JSON list; duplicates are dropped.

    Raises:
        InputError: the file cannot be read, is empty, or holds something else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        uids = json.loads(text) if text.lstrip().startswith("[") else text.split()
    except (OSError, ValueError) as error:
        raise InputError(f"not a list of uids: {error}", path) from error
    for uid in uids:
        if not isinstance(uid, str) or not _UID.fullmatch(uid):
            raise InputError(f"expected uids of 32 hexadecimal digits, found {uid!r:.60}", path)
    if not uids:
        raise InputError("the list of uids is empty", path)
    return list(dict.fromkeys(uids))


def fetch(path: str, force: bool = False) -> Path:
    """Return the cached copy of a file of the data set, downloading it if necessary. Thread-safe.

    Args:
        path: in the data set.
        force: whether a cached copy is replaced.

    Raises:
        DownloadError: the file does not exist, or the server cannot be reached.
        OSError: the cache cannot be written.
    """
    from huggingface_hub import hf_hub_download

    with _explained(path):
        return Path(
            hf_hub_download(
                REPOSITORY, path, repo_type="dataset", revision=REVISION, force_download=force
            )
        )


def _find(criteria: Criteria, uids: Sequence[str] | None, on_step: OnStep) -> Matches:
    wanted, found, seen = _object_paths(), [], set()
    requested = set(wanted) if uids is None else set(uids)
    wanted = {uid: path for uid, path in wanted.items() if uid in requested}
    mismatches: Counter[Mismatch] = Counter()
    done = 0
    for folder, members in _by_folder(wanted).items():
        annotations = _read_json(f"metadata/{folder}.json.gz")
        for uid in members & annotations.keys():
            annotation = annotations[uid]
            seen.add(uid)
            excluded = Mismatch.test_set if uid in criteria.excluded else None
            mismatch = excluded or _mismatch(annotation, criteria)
            if mismatch is None:
                found.append(_object(uid, wanted[uid], annotation))
            else:
                mismatches[mismatch] += 1
        done += len(members)
        on_step(Progress("searching the metadata", done, len(wanted)))
    unknown = sorted(requested - seen)
    if unknown:
        mismatches[Mismatch.unknown] = len(unknown)
    found.sort(key=lambda each: each.uid)
    return Matches(tuple(found), dict(mismatches), () if uids is None else tuple(unknown))


def _object_paths() -> dict[str, str]:
    """Paths of all objects by uid; rows of an unexpected form are dropped, as they name files."""
    paths = _read_json("object-paths.json.gz")
    matches = {uid: _OBJECT_PATH.fullmatch(str(path)) for uid, path in paths.items()}
    return {uid: match[0] for uid, match in matches.items() if match and match["uid"] == uid}


def _by_folder(paths: Mapping[str, str]) -> dict[str, set[str]]:
    folders: dict[str, set[str]] = {}
    for uid, path in sorted(paths.items(), key=lambda item: item[1]):
        folders.setdefault(path.split("/")[1], set()).add(uid)
    return folders


def _read_json(path: str) -> dict[str, Any]:
    """Read a compressed JSON object of the data set; a damaged copy is downloaded once more."""
    for force in (False, True):
        try:
            with gzip.open(fetch(path, force), "rb") as file:
                content = json.load(file)
            if isinstance(content, dict):
                return content
        except _DAMAGED as error:
            if force:
                raise DownloadError(f"{path} of Objaverse is damaged: {error}") from error
    raise DownloadError(f"{path} of Objaverse is damaged: expected a JSON object")


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn errors of the hub's library into `DownloadError`; local faults stay `OSError`."""
    from huggingface_hub.errors import HfHubHTTPError

    # The base of the library's own error belongs to whichever HTTP client its version uses.
    ClientError = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        yield
    except (ClientError, OSError, ValueError) as error:
        answers = [e for e in (error, error.__cause__) if isinstance(e, HfHubHTTPError)]
        if answers:
            status = answers[0].response.status_code
            raise DownloadError(
                f"the Hugging Face hub does not serve {path} of Objaverse: status {status}",
                connection=status == 429 or status >= 500,
            ) from error
        if getattr(error, "errno", None) is not None:
            raise  # the hub's library raises OSError without a number for its own errors
        reason = str(error.__cause__ or error).split("\n")[0]
        raise DownloadError(
            f"the Hugging Face hub cannot be reached for {path} of Objaverse: {reason}",
            connection=True,
        ) from error


def _mismatch(annotation: Mapping[str, Any], criteria: Criteria) -> Mismatch | None:
    size = _glb_bytes(annotation)
    checks = {
        Mismatch.age_restricted: not annotation.get("isAgeRestricted"),
        Mismatch.animations: _number(annotation, "animationCount") >= criteria.min_animations,
        Mismatch.licence: _text(annotation, "license") in criteria.licenses,
        Mismatch.faces: criteria.min_faces
        <= _number(annotation, "faceCount")
        <= criteria.max_faces,
        Mismatch.bytes: size is None or size <= criteria.max_bytes,
    }
    return next((reason for reason, passed in checks.items() if not passed), None)


def _object(uid: str, object_path: str, annotation: Mapping[str, Any]) -> ObjaverseObject:
    user = _mapping(annotation, "user")
    return ObjaverseObject(
        uid,
        object_path,
        _text(annotation, "name") or uid,
        LICENSES[annotation["license"]],
        _text(user, "displayName") or _text(user, "username") or "unknown",
        _text(user, "profileUrl"),
        _text(annotation, "viewerUrl") or f"{SKETCHFAB}/3d-models/{uid}",
        _number(annotation, "faceCount"),
        _number(annotation, "animationCount"),
        _glb_bytes(annotation),
    )


def _glb_bytes(annotation: Mapping[str, Any]) -> int | None:
    return _number(_mapping(_mapping(annotation, "archives"), "glb"), "size") or None


def _mapping(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def _number(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    return value if isinstance(value, int) else 0


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    """A text on one line, or None; lone surrogates, which no file can hold, are replaced."""
    value = entry.get(key)
    if not isinstance(value, str):
        return None
    return " ".join(value.encode(errors="replace").decode().split()) or None
