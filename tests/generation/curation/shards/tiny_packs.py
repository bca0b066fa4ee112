"""Folders of tiny grids, and packs of them."""

from pathlib import Path

from generation.curation.manifest import MANIFEST_NAME, Row, Status, append_row
from generation.curation.shards.pack_settings import PackSettings
from generation.curation.shards.packing import grid_names, pack_grids
from generation.curation.shards.shard_format import PackIndex
from recon.grid.writing import write_posed_images
from tests.conftest import make_tiny_grid

SETTINGS = PackSettings(low=8, high=16, min_views=2, min_frames=2)


def write_grid(data: Path, name: str, V: int = 4, T: int = 3, size: int = 24) -> Path:
    """Write one grid folder."""
    folder = data / name
    folder.mkdir(parents=True)
    write_posed_images(make_tiny_grid(V, T, size, size), folder)
    return folder


def write_data(data: Path, count: int = 3, V: int = 4, T: int = 3) -> Path:
    """Write the grids `grid0`, `grid1` … with their manifest."""
    for number in range(count):
        name = f"grid{number}"
        write_grid(data, name, V, T)
        row = Row(
            name, Status.RENDERED, f"{name}.glb", f"https://a.test/{name}", "CC0-1.0", "Ann", "run"
        )
        append_row(data / MANIFEST_NAME, row)
    return data


def pack(data: Path, output: Path, settings: PackSettings = SETTINGS) -> PackIndex:
    """Pack all grids of a folder."""
    return pack_grids(data, grid_names(data), output, settings)


def damage(shard: Path, offset: int) -> None:
    """Flip a bit of a file."""
    content = bytearray(shard.read_bytes())
    content[offset] ^= 1
    shard.write_bytes(content)
