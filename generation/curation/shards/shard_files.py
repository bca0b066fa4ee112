"""Writer and reader of shards, the tar files of packed grids; see `shard_format` for their content.

A reader opens a shard only while it reads one sample, so readers can be pickled, processes share no
open files, and one open file is enough for any number of shards. Letters: V views, T frames,
S pixels on a side.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from generation.curation.shards.pack_settings import Codec
from generation.curation.shards.packed_images import decode
from generation.curation.shards.shard_format import (
    INDEX_NAME,
    IndexedSample,
    PackedSample,
    PackIndex,
    Shard,
    ShardError,
    Stored,
    image_member,
    json_member,
    unique_key,
)
from generation.weights.verify import file_sha256

MAX_INDEX_BYTES = 2**30


class ShardWriter:
    """Writer of shards of limited size; the caller writes the index.

    Attributes:
        samples: the samples written so far.
    """

    def __init__(self, folder: Path, codec: Codec, shard_bytes: int):
        """Create a writer.

        Args:
            folder: an empty folder.
            codec: codec of the images, for the suffix of their names.
            shard_bytes: maximum size of a shard; a sample that would exceed it begins a new shard.
        """
        self.samples: list[IndexedSample] = []
        self._folder, self._codec, self._shard_bytes = folder, codec, shard_bytes
        self._keys: set[str] = set()
        self._shards: list[Path] = []
        self._tar: tarfile.TarFile | None = None

    def add(self, sample: PackedSample, images: Mapping[str, Sequence[bytes]]) -> None:
        """Append a sample.

        Args:
            sample: metadata of the sample; the locations of the images are filled in here.
            images: encoded images by size, V · T of each, view-major.

        Raises:
            OSError: the disk is full or not writable.
        """
        key = unique_key(sample.name, self._keys)
        self._keys.add(key.casefold())
        tar = self._tar_for(sum(len(data) for each in images.values() for data in each))
        V, T = len(sample.cameras), len(sample.times)
        stored = {
            size: tuple(
                _append(tar, image_member(key, size, *divmod(i, T), self._codec), data)
                for i, data in enumerate(files)
            )
            for size, files in images.items()
        }
        text = replace(sample, images=stored).to_json()
        place = _append(tar, json_member(key), text)
        shard = len(self._shards) - 1
        self.samples.append(IndexedSample(sample.name, key, shard, V, T, place, sample.origin))

    def finish(self) -> tuple[Shard, ...]:
        """Close the last shard and return all of them."""
        self.close()
        return tuple(
            Shard(path.name, path.stat().st_size, file_sha256(path)) for path in self._shards
        )

    def close(self) -> None:
        """Close the current shard, if there is one."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None

    def _tar_for(self, size: int) -> tarfile.TarFile:
        if self._tar is not None and self._tar.offset + size > self._shard_bytes:
            self.close()
        if self._tar is None:
            self._shards.append(self._folder / f"shard-{len(self._shards):06d}.tar")
            self._tar = tarfile.TarFile(self._shards[-1], "x", format=tarfile.USTAR_FORMAT)
        return self._tar


@dataclass(frozen=True)
class ShardFolder:
    """A folder of shards and its index."""

    path: Path
    index: PackIndex

    @contextmanager
    def open_sample(self, number: int) -> Iterator[SampleReader]:
        """Open a sample by its number in the index; images can be read inside the block.

        Raises:
            ShardError: the shard is missing, or the sample's JSON is damaged.
        """
        entry = self.index.samples[number]
        shard = self.path / self.index.shards[entry.shard].file
        try:
            with shard.open("rb") as file:
                yield SampleReader(self.index, entry, shard, file)
        except OSError as error:
            raise ShardError(f"cannot be read ({error.strerror or error})", shard) from error


class SampleReader:
    """A sample in an open shard.

    Attributes:
        sample: metadata of the sample.
    """

    def __init__(self, index: PackIndex, entry: IndexedSample, shard: Path, file: BinaryIO):
        self._index, self._entry, self._shard, self._file = index, entry, shard, file
        member = json_member(entry.key)
        text = self._read(entry.json, member)
        try:
            self.sample = PackedSample.from_json(text)
        except ValueError as error:
            raise ShardError(f"{member}: {error}", shard) from error
        found = (len(self.sample.cameras), len(self.sample.times))
        if found != (entry.views, entry.frames) or self.sample.images.keys() != index.sizes.keys():
            raise ShardError(
                f"expected {member} to match {INDEX_NAME}, but views, frames or sizes differ; pack "
                "the grids again",
                shard,
            )

    def image(self, size: str, view: int, frame: int) -> np.ndarray:
        """Read one image, uint8 RGBA, [S, S, 4].

        Raises:
            ShardError: the image is damaged or truncated.
        """
        codec = self._index.codec
        member = image_member(self._entry.key, size, view, frame, codec)
        data = self._read(self.sample.image(size, view, frame), member)
        try:
            return decode(data, codec, self._index.sizes[size])
        except ValueError as error:
            raise ShardError(f"{member}: {error}", self._shard) from error

    def _read(self, place: Stored, member: str) -> bytes:
        if place.offset + place.size > self._index.shards[self._entry.shard].bytes:
            raise ShardError(
                f"expected {member} inside of its shard, but its offset {place.offset} plus size "
                f"{place.size} exceed the shard's bytes; pack the grids again",
                self._shard,
            )
        self._file.seek(place.offset)
        data = self._file.read(place.size)
        if len(data) < place.size:
            raise ShardError(f"truncated in {member}; copy the shard again", self._shard)
        if zlib.crc32(data) != place.crc32:
            raise ShardError(
                f"{member} is damaged: its CRC-32 is wrong; copy the shard again", self._shard
            )
        return data


def read_shards(folder: str | Path) -> ShardFolder:
    """Open a folder of shards.

    Raises:
        ShardError: the folder has no valid index of this version, no sample, or lacks a shard.
    """
    folder = Path(folder)
    path = folder / INDEX_NAME
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise ShardError(f"expected an index of at most {MAX_INDEX_BYTES >> 20} MiB", path)
        index = PackIndex.from_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ShardError(
            f"expected a folder with {INDEX_NAME}; `fourdvd data pack` makes it", folder
        ) from error
    except OSError as error:
        raise ShardError(f"cannot be read ({error.strerror or error})", path) from error
    except (ValueError, RecursionError) as error:
        raise ShardError(str(error), path) from error
    if not index.samples:
        raise ShardError("expected at least one packed sample, found none; pack again", path)
    for shard in index.shards:
        if not (folder / shard.file).is_file():
            raise ShardError("the shard is missing; copy the whole folder", folder / shard.file)
    return ShardFolder(folder, index)


def _append(tar: tarfile.TarFile, name: str, data: bytes) -> Stored:
    header = tarfile.TarInfo(name)  # no date, no user: the same samples give the same bytes
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return Stored.of(tar.offset - padded, data)
