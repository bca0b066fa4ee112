"""Packing of rendered grids into shards: many small files become a few large ones.

    DIR/NAME/ ──read──▶ V · T images ──shrink──▶ sizes ──encode──▶ OUTPUT/shard-000000.tar …

A grid that cannot be packed is skipped and listed in the index. Letters: V views, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np

from generation.curation.assets.files import Origin
from generation.curation.manifest import MANIFEST_NAME, Row, read_rows
from generation.curation.shards.pack_settings import PackSettings
from generation.curation.shards.packed_images import encode, shrink
from generation.curation.shards.shard_files import ShardWriter
from generation.curation.shards.shard_format import (
    INDEX_NAME,
    UNKNOWN,
    PackedSample,
    PackIndex,
    Skipped,
)
from recon.errors import GridError, InputError, OutputError
from recon.grid import Grid, read_grid
from recon.output import output_folder
from recon.progress import OnStep, Progress, ignore_progress

KEPT_PATH = Path("filter", "kept.txt")
TRANSFORMS_NAME = "transforms.json"


def pack_grids(
    data: Path,
    names: Sequence[str],
    output: Path,
    settings: PackSettings,
    overwrite: bool = False,
    on_step: OnStep = ignore_progress,
) -> PackIndex:
    """Pack grids into a new folder of shards.

    Args:
        data: folder of the grid folders and their manifest.
        names: names of the grids to pack; see `select_names`.
        output: folder of the shards.
        settings: sizes, codec and shard size.
        overwrite: whether the content of the output folder may be replaced.
        on_step: called after each grid.

    Returns:
        The index that was written.

    Raises:
        InputError: there is no such data folder, its manifest is invalid, or no grid can be packed.
        OutputError: the output would replace the data, or exists.
        OSError: the disk is full or not writable.
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
                on_step(Progress("packing", done, len(names)))
            if not writer.samples:
                raise InputError(_nothing_left(skipped), data)
            index = PackIndex(
                settings.sizes, settings.codec, settings.quality, writer.finish(),
                tuple(writer.samples), tuple(sorted(skipped)),
            )  # fmt: skip
        (partial / INDEX_NAME).write_text(index.to_json(), encoding="ascii")
    return index


def grid_names(data: Path) -> list[str]:
    """Return the names of all folders with a grid, sorted."""
    return sorted(path.parent.name for path in data.glob(f"*/{TRANSFORMS_NAME}"))


def select_names(data: Path, kept: Path | None = None, everything: bool = False) -> list[str]:
    """Select the grids to pack: those that the filters kept, or all if no filters were run.

    Args:
        data: folder of the grid folders.
        kept: file with the names to select; None for `KEPT_PATH`, which the filters write.
        everything: whether to select all grids, regardless of the filters.

    Raises:
        InputError: see `read_names`.
    """
    if everything:
        return grid_names(data)
    if kept is None and not (data / KEPT_PATH).exists():
        return grid_names(data)
    return read_names(data / KEPT_PATH if kept is None else kept)


def read_names(path: Path) -> list[str]:
    """Read names of folders, one per line, without duplicates and empty lines.

    Raises:
        InputError: the file cannot be read, or a line is not the name of a folder.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from error
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    for name in names:
        if Path(name).name != name or name == "..":
            raise InputError(f"expected one folder name per line, found {name!r}; remove it", path)
    return names


def _check_folders(data: Path, output: Path) -> None:
    if not data.exists():
        raise InputError.missing(data)
    if not data.is_dir():
        raise InputError("expected a folder, found a file", data)
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
            f"expected at least {settings.min_views} views × {settings.min_frames} frames, found "
            f"{grid.V} × {grid.T}",
            folder,
        )
    if grid.width != grid.height:
        raise GridError(f"expected square images, found {grid.width}×{grid.height} pixels", folder)
    if grid.height < largest:
        raise GridError(
            f"expected images of at least {largest}² pixels, found {grid.height}²; render larger "
            "ones, or pack at a smaller size",
            folder,
        )


def _encoded(grid: Grid, settings: PackSettings) -> dict[str, list[bytes]]:
    """Encode all images of each size, view-major."""

    def encoded(image: np.ndarray) -> list[bytes]:
        return [
            encode(shrink(image, size), settings.codec, settings.quality)
            for size in settings.sizes.values()
        ]

    with ThreadPoolExecutor() as pool:  # Pillow releases the GIL
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
