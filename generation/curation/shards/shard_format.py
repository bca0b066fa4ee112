"""The format of packed grids: tar files for training, and the index that makes them random-access.

    index.json           list of the samples with the locations of their JSON; written last
    shard-000000.tar …   the samples, one after the other, none in two shards

Members of a sample, contiguous and in this order:

    KEY.SIZE.vVV.tTTT.EXT   an image: view VV, frame TTT, at the size "low" or "high"
    KEY.json                locations of the images; cameras, times, origin

They are plain USTAR members, so the shards are WebDatasets. A KEY is the name of the grid folder
without dots and with portable characters only; the JSON has the original name. Images are square
RGBA with straight alpha, and white where alpha is 0, unless the codec is lossy. `Stored` is the
location of a member's bytes: offset in the shard, size and CRC-32. The CRC is needed because a
lossless WebP with a flipped bit often still decodes.

    index.json   format version sizes {SIZE: pixels} codec quality
                 shards   [{file bytes sha256}]
                 samples  [{name key shard views frames json source licence author}]
                 skipped  [{name reason}]
                 counts   {samples images bytes skipped}, informative
    KEY.json     name fps times clip source licence author
                 cameras  [V], as `recon.grid.cameras.camera_to_json`, of the render
                 images   {SIZE: [[offset size crc32]]}, V · T of them, view-major

Letters: V views, T frames.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from generation.curation.assets.files import Origin
from generation.curation.shards.pack_settings import Codec
from recon.errors import InputError
from recon.grid.cameras import Camera, camera_from_json, camera_to_json

FORMAT = "fourdvd-shards"
VERSION = 1
INDEX_NAME = "index.json"
KEY_LETTERS = 80  # a member's name must fit in the 100 bytes of its tar header

_FILE_NAME = re.compile(r"[\w-]+\.tar")
_NOT_VALID = (KeyError, TypeError, ValueError, AttributeError)


class ShardError(InputError):
    """Raised if a folder of shards, its index, a shard or one of its members cannot be read."""


class Stored(NamedTuple):
    """Location of bytes in a shard, and their CRC-32."""

    offset: int
    size: int
    crc32: int

    @classmethod
    def of(cls, offset: int, data: bytes) -> Stored:
        """Create the location of bytes that are stored at an offset."""
        return cls(offset, len(data), zlib.crc32(data))


class Shard(NamedTuple):
    """One tar file."""

    file: str
    bytes: int
    sha256: str


class Skipped(NamedTuple):
    """A grid that was not packed, and the reason."""

    name: str
    reason: str


UNKNOWN = Origin()


@dataclass(frozen=True)
class IndexedSample:
    """A sample in the index.

    Attributes:
        name: name of the grid folder.
        key: prefix of the names of its members.
        shard: index of its shard.
        views: number of views V.
        frames: number of frames T.
        json: location of its JSON.
        origin: origin of its asset.
    """

    name: str
    key: str
    shard: int
    views: int
    frames: int
    json: Stored
    origin: Origin = UNKNOWN


@dataclass(frozen=True)
class PackIndex:
    """Index of a folder of shards.

    Attributes:
        sizes: side of the images in pixels, by "low" and "high".
        codec: codec of the images.
        quality: quality of a lossy codec, 0 to 100; None for a lossless one.
        shards: the tar files.
        samples: the samples in the order of their bytes.
        skipped: grids that could not be packed.
    """

    sizes: Mapping[str, int]
    codec: Codec
    quality: int | None
    shards: tuple[Shard, ...]
    samples: tuple[IndexedSample, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def images(self) -> int:
        """Number of images of all samples at all sizes."""
        return len(self.sizes) * sum(sample.views * sample.frames for sample in self.samples)

    @property
    def total_bytes(self) -> int:
        """Size of all shards in bytes."""
        return sum(shard.bytes for shard in self.shards)

    def to_json(self) -> str:
        """Return `index.json` in ASCII, because folder names may not be valid text."""
        values = {
            "format": FORMAT,
            "version": VERSION,
            "sizes": dict(self.sizes),
            "codec": self.codec.value,
            "quality": self.quality,
            "counts": {
                "samples": len(self.samples),
                "images": self.images,
                "bytes": self.total_bytes,
                "skipped": len(self.skipped),
            },
            "shards": [shard._asdict() for shard in self.shards],
            "samples": [_flat(sample) for sample in self.samples],
            "skipped": [skipped._asdict() for skipped in self.skipped],
        }
        return json.dumps(values, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> PackIndex:
        """Create an index from the result of `to_json`.

        Raises:
            ValueError: the text is not an index, or has another version.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(
                f"expected an index with the format {FORMAT}; `fourdvd data pack` makes it"
            )
        if values.get("version") != VERSION:
            raise ValueError(
                f"expected version {VERSION}, found {values.get('version')!r}; "
                "was it made by a newer fourdvd?"
            )
        try:
            return cls(
                sizes={str(name): _natural(pixels) for name, pixels in values["sizes"].items()},
                codec=Codec(values["codec"]),
                quality=values["quality"],
                shards=tuple(_shard(each) for each in values["shards"]),
                samples=tuple(_sample(each, len(values["shards"])) for each in values["samples"]),
                skipped=tuple(Skipped(**each) for each in values["skipped"]),
            )
        except _NOT_VALID as error:
            raise ValueError(
                f"expected a valid index, found a missing or invalid value ({error!r}); pack again"
            ) from error


@dataclass(frozen=True)
class PackedSample:
    """Content of a sample's JSON.

    Attributes:
        name: name of the grid folder.
        fps: frames per second.
        times: T ascending times in [0, 1].
        cameras: V cameras, with the image size of the render.
        images: locations of the V · T images of each size, view-major.
        clip: name of the animation; None if unknown.
        origin: origin of the asset.
    """

    name: str
    fps: float
    times: tuple[float, ...]
    cameras: tuple[Camera, ...]
    images: Mapping[str, tuple[Stored, ...]]
    clip: str | None = None
    origin: Origin = UNKNOWN

    def image(self, size: str, view: int, frame: int) -> Stored:
        """Return the location of one image."""
        return self.images[size][view * len(self.times) + frame]

    def to_json(self) -> bytes:
        """Return the member `KEY.json`."""
        values = {
            "name": self.name,
            "fps": self.fps,
            "times": self.times,
            "clip": self.clip,
            **self.origin._asdict(),
            "cameras": [camera_to_json(camera) for camera in self.cameras],
            "images": self.images,
        }
        return json.dumps(values, allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> PackedSample:
        """Create a sample from the result of `to_json`; raise ValueError for anything else."""
        try:
            values = json.loads(text)
            sample = cls(
                name=str(values["name"]),
                fps=float(values["fps"]),
                times=tuple(float(time) for time in values["times"]),
                cameras=tuple(camera_from_json(each) for each in values["cameras"]),
                images={
                    size: tuple(_stored(each) for each in images)
                    for size, images in values["images"].items()
                },
                clip=values["clip"],
                origin=_origin(values),
            )
        except _NOT_VALID as error:
            raise ValueError(
                f"expected the JSON of a sample, found a missing or invalid value ({error!r}); "
                "pack again"
            ) from error
        count = len(sample.cameras) * len(sample.times)
        if any(len(images) != count for images in sample.images.values()):
            counts = {size: len(images) for size, images in sample.images.items()}
            raise ValueError(f"expected {count} images of each size, found {counts}")
        return sample


def image_member(key: str, size: str, view: int, frame: int, codec: Codec) -> str:
    """Return the name of an image in its shard."""
    return f"{key}.{size}.v{view:02d}.t{frame:03d}.{codec.suffix}"


def json_member(key: str) -> str:
    """Return the name of a sample's JSON in its shard."""
    return f"{key}.json"


def unique_key(name: str, taken: set[str]) -> str:
    """Return a key for a name that differs from all keys in `taken`, ignoring case."""
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:KEY_LETTERS]
    key, number = stem, 1
    while key.casefold() in taken:
        number += 1
        key = f"{stem[: KEY_LETTERS - 8]}-{number}"
    return key


def _flat(sample: IndexedSample) -> dict[str, Any]:
    values = asdict(sample)
    del values["origin"]
    return {**values, "json": sample.json, **sample.origin._asdict()}


def _sample(values: dict[str, Any], shards: int) -> IndexedSample:
    shard = _natural(values["shard"], least=0)
    if shard >= shards:
        raise ValueError(
            f"expected a shard number below {shards} for sample {values['name']!r}, found {shard}"
        )
    return IndexedSample(
        name=str(values["name"]),
        key=str(values["key"]),
        shard=shard,
        views=_natural(values["views"]),
        frames=_natural(values["frames"]),
        json=_stored(values["json"]),
        origin=_origin(values),
    )


def _shard(values: dict[str, Any]) -> Shard:
    shard = Shard(**values)
    if not _FILE_NAME.fullmatch(shard.file):  # it must not leave the folder
        raise ValueError(
            f"expected the name of a shard such as shard-000000.tar, found {shard.file!r}"
        )
    return shard


def _origin(values: Mapping[str, Any]) -> Origin:
    return Origin(*(values[name] for name in Origin._fields))


def _stored(values: Any) -> Stored:
    return Stored(*(_natural(value, least=0) for value in values))


def _natural(value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"expected a whole number of at least {least}, found {value!r}")
    return value
