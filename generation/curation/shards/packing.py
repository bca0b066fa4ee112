"""Packs rendered grids into shards: folders of small files become few large ones.

    DIR/NAME/ ──read──▶ V · T images ──shrink──▶ sizes ──encode──▶ OUTPUT/shard-000000.tar …

A grid that cannot be packed is left out and named; the rest go on. Letters: V views, T frames. What
it does not know: which grids are good (`filters`), how shards look inside (`shard_format`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generation.curation.manifest import MANIFEST_NAME, Row, read_rows
from generation.curation.shards.packed_images import Codec, encode, resolve_quality, shrink
from generation.curation.shards.shard_files import ShardWriter
from generation.curation.shards.shard_format import (
    INDEX_NAME,
    UNKNOWN,
    Origin,
    PackedSample,
    PackIndex,
    Skipped,
)
from recon.errors import GridError, InputError, OutputError
from recon.grid import Grid, read_grid
from recon.output import output_folder

KEPT_PATH = Path("filter", "kept.txt")
TRANSFORMS_NAME = "transforms.json"
MIN_SIZE = 8

OnStep = Callable[[int, int], None]
"""(grids done, of how many)."""


@dataclass(frozen=True)
class PackSettings:
    """How grids are packed.

    Attributes:
        low: pixels on a side, for the coarse stage.
        high: pixels on a side, for the fine stage; None for a pack without.
        codec: of the images.
        quality: of a lossy codec, 0 to 100; None for its usual one.
        shard_bytes: how large a shard may become; one with a single sample may be larger.
        min_views: a grid with fewer is left out.
        min_frames: likewise.
        seed: of the order in which samples lie in the shards.

    Raises:
        InputError: a number is out of its range.
    """

    low: int = 256
    high: int | None = 576
    codec: Codec = Codec.WEBP_LOSSLESS
    quality: int | None = None
    shard_bytes: int = 256_000_000
    min_views: int = 4
    min_frames: int = 5
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "quality", resolve_quality(self.codec, self.quality))
        if self.low < MIN_SIZE:
            raise InputError(f"expected at least {MIN_SIZE} pixels on a side, found {self.low}")
        if self.high is not None and self.high <= self.low:
            raise InputError(f"the high size ({self.high}) must be above the low one ({self.low})")
        if min(self.shard_bytes, self.min_views, self.min_frames) < 1:
            raise InputError("shard size, views and frames must be at least 1")

    @property
    def sizes(self) -> dict[str, int]:
        """Pixels on a side by name."""
        return {"low": self.low} | ({} if self.high is None else {"high": self.high})


def pack_grids(
    data: Path,
    names: Sequence[str],
    output: Path,
    settings: PackSettings,
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> PackIndex:
    """Packs grids into a new folder of shards.

    Args:
        data: folder of the grid folders and their manifest.
        names: of the grids to pack.
        output: folder of the shards.
        settings: how.
        overwrite: whether what is in the output folder may be replaced.
        on_step: called after each grid.

    Returns:
        The index that was written.

    Raises:
        InputError: there is no such data folder, its manifest is not valid, or no grid is left.
        OutputError: the output cannot go where it should.
        OSError: the disk is full or may not be written to.
    """
    _check_folders(data, output)
    rows = read_rows(data / MANIFEST_NAME)
    order = np.random.default_rng(settings.seed).permutation(len(names))
    shuffled = [names[int(number)] for number in order]
    skipped: list[Skipped] = []
    with output_folder(output, overwrite) as partial:
        with closing(ShardWriter(partial, settings.codec, settings.shard_bytes)) as writer:
            for done, name in enumerate(shuffled, start=1):
                try:
                    _pack(data / name, rows.get(name), writer, settings)
                except InputError as error:
                    skipped.append(Skipped(name, str(error)))
                if on_step is not None:
                    on_step(done, len(names))
            if not writer.samples:
                raise InputError(_nothing_left(skipped), data)
            index = PackIndex(
                settings.sizes, settings.codec, settings.quality, writer.finish(),
                tuple(writer.samples), tuple(sorted(skipped)),
            )  # fmt: skip
        (partial / INDEX_NAME).write_text(index.to_json(), encoding="ascii")
    return index


def grid_names(data: Path) -> list[str]:
    """All folders of a data folder that hold a grid, by name."""
    return sorted(path.parent.name for path in data.glob(f"*/{TRANSFORMS_NAME}"))


def kept_names(data: Path) -> list[str]:
    """The grids that the filters kept; all where none were filtered.

    Raises:
        InputError: as `read_names`.
    """
    kept = data / KEPT_PATH
    return read_names(kept) if kept.exists() else grid_names(data)


def read_names(path: Path) -> list[str]:
    """The names in a file, one a line; each counts once, empty lines do not.

    Raises:
        InputError: there is no such file, or a line is not the name of a folder.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from error
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    for name in names:
        if Path(name).name != name or name == "..":
            raise InputError(f"{name!r} is not the name of a folder", path)
    return names


def _check_folders(data: Path, output: Path) -> None:
    if not data.is_dir():
        raise InputError("there is no such folder", data)
    if data.resolve().is_relative_to(output.resolve()):
        raise OutputError(f"the shards would replace the data; choose a folder inside {data}")
    if (output / TRANSFORMS_NAME).exists():
        raise OutputError(f"the shards would replace the grid {output}; choose another folder")


def _pack(folder: Path, row: Row | None, writer: ShardWriter, settings: PackSettings) -> None:
    grid = read_grid(folder)
    _check(grid, folder, settings)
    sample = PackedSample(
        name=folder.name,
        fps=grid.fps,
        times=tuple(grid.times.tolist()),
        cameras=grid.cameras,
        images={},
        clip=None if row is None else row.clip,
        origin=UNKNOWN if row is None else Origin(row.source, row.licence, row.author),
    )
    writer.add(sample, _encoded(grid, settings))


def _check(grid: Grid, folder: Path, settings: PackSettings) -> None:
    largest = max(settings.sizes.values())
    if not grid.is_full:
        raise GridError(
            f"expected an image of each of {grid.V} views at each of {grid.T} times, "
            f"found {len(grid)}",
            folder,
        )
    if settings.min_views > grid.V or settings.min_frames > grid.T:
        raise GridError(
            f"{grid.V} views × {grid.T} frames, expected at least "
            f"{settings.min_views} × {settings.min_frames}",
            folder,
        )
    if grid.width != grid.height:
        raise GridError(f"{grid.width}×{grid.height} pixels, expected a square", folder)
    if grid.height < largest:
        raise GridError(
            f"rendered with {grid.height} pixels on a side; images are never enlarged to {largest}",
            folder,
        )


def _encoded(grid: Grid, settings: PackSettings) -> dict[str, list[bytes]]:
    """All images of each size, view-major."""

    def encoded(image: np.ndarray) -> list[bytes]:
        return [
            encode(shrink(image, size), settings.codec, settings.quality)
            for size in settings.sizes.values()
        ]

    with ThreadPoolExecutor() as pool:  # Pillow works outside Python's lock
        by_image = list(pool.map(encoded, grid.images))
    return {
        name: [files[number] for files in by_image] for number, name in enumerate(settings.sizes)
    }


def _nothing_left(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return (
            f"no grid to pack; expected folders with {TRANSFORMS_NAME}, or a list that names some"
        )
    return f"none of {len(skipped)} grids can be packed; {skipped[0].name}: {skipped[0].reason}"
