"""Which objects of Objaverse are wanted: moving, of a size that can be rendered, licensed for it.

All that is known before a download comes from Sketchfab's metadata. What it does not know: whether
the animations move anything, and how the objects look.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from generation.curation.objaverse.licences import LICENCES, PERMISSIVE, Licence
from generation.curation.objaverse.package import (
    patient_sockets,
    read_annotations,
    read_object_paths,
)
from recon.errors import InputError

Progress = Callable[[int, int], None]
SKETCHFAB = "https://sketchfab.com"
_UID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Criteria:
    """What an object must be like.

    Attributes:
        licences: slugs of those that are good enough.
        min_animations: how many animations it has at least.
        min_faces: of its mesh.
        max_faces: of its mesh.
        max_bytes: of its GLB file. Objects whose size the metadata does not tell pass.
    """

    licences: frozenset[str] = PERMISSIVE
    min_animations: int = 1
    min_faces: int = 100
    max_faces: int = 500_000
    max_bytes: int = 100 * 10**6


class LeftOut(StrEnum):
    """The first criterion that an object fails."""

    unknown = "not in Objaverse, or without metadata"
    age_restricted = "age-restricted"
    animations = "too few animations"
    licence = "licence"
    faces = "face count"
    bytes = "file size"


@dataclass(frozen=True)
class ObjaverseObject:
    """What the metadata tells of an object.

    Attributes:
        uid: 32 hexadecimal digits.
        object_path: its place in the data set.
        name: that its author gave it.
        licence: it is under.
        author: name to credit.
        author_url: page of the author; None if it is not told.
        source: page of the object.
        faces: of its mesh.
        animations: how many it has.
        bytes: of its GLB file, about; None if it is not told.
    """

    uid: str
    object_path: str
    name: str
    licence: Licence
    author: str
    author_url: str | None
    source: str
    faces: int
    animations: int
    bytes: int | None


@dataclass(frozen=True)
class Matches:
    """What came of a look through the metadata.

    Attributes:
        objects: that meet the criteria, by uid.
        left_out: how many others fail which criterion first.
        unknown: uids that were asked for and are not in Objaverse, or have no metadata.
    """

    objects: tuple[ObjaverseObject, ...]
    left_out: Mapping[LeftOut, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


class Total(NamedTuple):
    """Objects of one licence.

    Attributes:
        objects: how many.
        faces: of all together.
        bytes: of all together, where it is told.
    """

    objects: int
    faces: int
    bytes: int


def find_objects(
    criteria: Criteria, uids: Sequence[str] | None = None, on_progress: Progress | None = None
) -> Matches:
    """Looks through the metadata of Objaverse; what the cache lacks of it is downloaded.

    Args:
        criteria: what the objects must be like.
        uids: the only ones to look at; all 800 000 if None.
        on_progress: called with how many objects were looked at, and of how many.

    Raises:
        BackendError: the package `objaverse` is missing.
        DownloadError: the metadata cannot be fetched.
        OSError: the cache cannot be written.
    """
    with patient_sockets():
        paths = read_object_paths()
        asked = paths.keys() if uids is None else set(uids)
        wanted = {uid: path for uid, path in paths.items() if uid in asked}
        found: list[ObjaverseObject] = []
        seen: set[str] = set()
        left_out: Counter[LeftOut] = Counter()
        for annotations, done, total in read_annotations(wanted):
            for uid, annotation in annotations.items():
                seen.add(uid)
                reason = _reason_against(annotation, criteria)
                if reason is None:
                    found.append(_object(uid, wanted[uid], annotation))
                else:
                    left_out[reason] += 1
            if on_progress is not None:
                on_progress(done, total)
    unknown = sorted(asked - seen)
    if unknown:
        left_out[LeftOut.unknown] = len(unknown)
    found.sort(key=lambda each: each.uid)
    return Matches(tuple(found), dict(left_out), () if uids is None else tuple(unknown))


def sample(
    objects: Iterable[ObjaverseObject], count: int | None, seed: int
) -> list[ObjaverseObject]:
    """Draws objects evenly at random.

    Each object has a lot that depends on its uid and the seed alone, so a larger count contains a
    smaller one, and objects that enter or leave do not change the lots of the others.

    Args:
        objects: to draw from.
        count: how many; all of them if None or if there are fewer.
        seed: of the lots.
    """
    drawn = sorted(objects, key=lambda each: hashlib.sha256(f"{seed}:{each.uid}".encode()).digest())
    return drawn[:count]


def total_by_licence(objects: Iterable[ObjaverseObject]) -> dict[str, Total]:
    """How much there is under each licence, by its slug, in the order of `LICENCES`."""
    totals = dict.fromkeys(LICENCES, Total(0, 0, 0))
    for each in objects:
        before = totals[each.licence.slug]
        totals[each.licence.slug] = Total(
            before.objects + 1, before.faces + each.faces, before.bytes + (each.bytes or 0)
        )
    return {slug: total for slug, total in totals.items() if total.objects}


def read_uids(path: str | Path) -> list[str]:
    """Reads a list of uids: a JSON list, or one in each line; each is returned once.

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
        raise InputError("holds no uid", path)
    return list(dict.fromkeys(uids))


def _reason_against(annotation: Mapping[str, Any], criteria: Criteria) -> LeftOut | None:
    """The first criterion that an object fails, None if it meets all."""
    size = _glb_bytes(annotation)
    checks = {
        LeftOut.age_restricted: not annotation.get("isAgeRestricted"),
        LeftOut.animations: _number(annotation, "animationCount") >= criteria.min_animations,
        LeftOut.licence: _text(annotation, "license") in criteria.licences & LICENCES.keys(),
        LeftOut.faces: criteria.min_faces <= _number(annotation, "faceCount") <= criteria.max_faces,
        LeftOut.bytes: size is None or size <= criteria.max_bytes,
    }
    return next((reason for reason, passed in checks.items() if not passed), None)


def _object(uid: str, object_path: str, annotation: Mapping[str, Any]) -> ObjaverseObject:
    user = _mapping(annotation, "user")
    return ObjaverseObject(
        uid,
        object_path,
        _text(annotation, "name") or uid,
        LICENCES[annotation["license"]],
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
    """A text on one line, or None; JSON lets half a character through, which no file can hold."""
    value = entry.get(key)
    if not isinstance(value, str):
        return None
    return " ".join(value.encode(errors="replace").decode().split()) or None
