import json

import numpy as np

from generation.curation.shards.shard_files import read_shards
from recon.grid import read_grid

OPTIONS = ["--views", 4, "--frames", 5, "--size", 32, "--workers", 1]


def test_figures_can_be_packed_and_a_larger_count_adds_grids(fourdvd, tmp_path):
    out = tmp_path / "out"
    first = fourdvd("data", "figures", "-o", out, "--count", 2, *OPTIONS, "--json")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout)["rendered"] == 2
    more = fourdvd("data", "figures", "-o", out, "--count", 3, *OPTIONS, "--json")
    summary = json.loads(more.stdout)
    assert (summary["rendered"], summary["from_before"]) == (3, 2)
    assert {row["licence"] for row in summary["assets"]} == {"CC0-1.0"}

    grids = [read_grid(out / f"figure_{seed:08d}") for seed in range(3)]
    assert [(grid.V, grid.T, grid.width) for grid in grids] == [(4, 5, 32)] * 3
    assert not np.array_equal(grids[0].images, grids[1].images)
    assert all((grid.images[..., 3] > 200).mean() > 0.02 for grid in grids)

    packed = fourdvd(
        "data", "pack", out, "-o", tmp_path / "shards", "--low", 16, "--high", 32, "--all"
    )
    assert packed.exit_code == 0, packed.stderr
    assert len(read_shards(tmp_path / "shards").index.samples) == 3


def test_other_settings_do_not_replace_existing_grids(fourdvd, tmp_path):
    out = tmp_path / "out"
    assert fourdvd("data", "figures", "-o", out, "--count", 1, *OPTIONS).exit_code == 0
    other = fourdvd("data", "figures", "-o", out, "--count", 1, *OPTIONS, "--elevation", 20)
    assert other.exit_code == 1
    assert "--overwrite" in other.stderr


def test_a_count_out_of_range_is_refused(fourdvd, tmp_path):
    assert fourdvd("data", "figures", "-o", tmp_path / "out", "--count", 0).exit_code == 2
