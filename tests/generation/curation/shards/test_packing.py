"""Packing takes valid grids, lists invalid ones, and leaves no incomplete output."""

import json
import math
import shutil
from dataclasses import replace

import pytest

from generation.curation.shards.pack_settings import Codec
from generation.curation.shards.packing import (
    PackSettings,
    grid_names,
    pack_grids,
    read_names,
    select_names,
)
from generation.curation.shards.shard_files import read_shards
from recon.errors import InputError, OutputError, OutputExistsError
from tests.generation.curation.shards.tiny_packs import SETTINGS, pack, write_data, write_grid


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


def settings(**changes) -> PackSettings:
    return replace(SETTINGS, **changes)


def test_invalid_grids_are_listed_and_the_others_packed(data, tmp_path):
    (write_grid(data, "unreadable") / "images/v01/t001.png").write_bytes(b"no image")
    (write_grid(data, "incomplete") / "images/v01/t001.png").unlink()
    write_grid(data, "small", size=12)
    write_grid(data, "few", V=1)
    write_grid(data, "short", T=1)
    sparse = write_grid(data, "sparse") / "transforms.json"
    values = json.loads(sparse.read_text())
    del values["frames"][5]
    sparse.write_text(json.dumps(values))
    steps = []
    index = pack_grids(
        data, [*grid_names(data), "gone"], tmp_path / "out", SETTINGS,
        on_step=lambda state: steps.append(state[1:3]),
    )  # fmt: skip
    assert steps == [(number, 10) for number in range(1, 11)]
    assert sorted(sample.name for sample in index.samples) == ["grid0", "grid1", "grid2"]
    reasons = dict(index.skipped)
    expected = {
        "unreadable": "t001.png",
        "incomplete": "missing",
        "small": "at least 16² pixels",
        "few": "found 1 × 3",
        "short": "found 4 × 1",
        "sparse": "found 11",
        "gone": "data/gone: ",
    }
    assert reasons.keys() == expected.keys()
    for name, sentence in expected.items():
        assert sentence in reasons[name]
    assert read_shards(tmp_path / "out").index == index


def test_nothing_is_written_if_no_grid_can_be_packed(data, tmp_path):
    with pytest.raises(InputError, match=r"none of 3 grids can be packed; .* at least 32² pixels"):
        pack(data, tmp_path / "out", settings(high=32))
    with pytest.raises(InputError, match="no grid to pack"):
        pack_grids(data, [], tmp_path / "out", SETTINGS)
    with pytest.raises(InputError, match="no such file or folder"):
        pack_grids(tmp_path / "absent", ["a"], tmp_path / "out", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_interruption_leaves_no_output(data, tmp_path):
    def interrupt(state: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_grids(data, grid_names(data), tmp_path / "out", SETTINGS, on_step=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_existing_pack_is_replaced_only_with_overwrite(data, tmp_path):
    pack(data, tmp_path / "out")
    with pytest.raises(OutputExistsError):
        pack(data, tmp_path / "out")
    index = pack_grids(data, ["grid1"], tmp_path / "out", SETTINGS, overwrite=True)
    assert len(index.samples) == 1


@pytest.mark.parametrize("place", [".", "..", "grid1"])
def test_the_output_never_replaces_the_data(data, place):
    with pytest.raises(OutputError, match="would replace the"):
        pack_grids(data, grid_names(data), data / place, SETTINGS, overwrite=True)
    assert len(grid_names(data)) == 3


def test_a_pack_inside_of_the_data_folder_is_not_taken_for_a_grid(data):
    pack(data, data / "shards")
    assert grid_names(data) == ["grid0", "grid1", "grid2"]


def test_no_sample_is_split_between_shards(data, tmp_path):
    index = pack(data, tmp_path / "out", settings(shard_bytes=1))
    assert [shard.file for shard in index.shards] == [f"shard-00000{n}.tar" for n in range(3)]
    assert [sample.shard for sample in index.samples] == [0, 1, 2]
    assert len(pack(data, tmp_path / "one").shards) == 1


def test_shards_stay_below_their_size(tmp_path):
    data = write_data(tmp_path / "data", 5)
    one = pack(data, tmp_path / "one").total_bytes
    most = math.ceil(0.6 * one)
    index = pack(data, tmp_path / "out", settings(shard_bytes=most))
    assert len(index.shards) == 2
    padding = 10_240  # with which a tar file ends
    assert all(shard.bytes <= most + padding for shard in index.shards)


def test_the_seed_determines_the_order_of_samples(tmp_path):
    data = write_data(tmp_path / "data", 6, V=2, T=2)

    def order(seed: int) -> tuple[str, ...]:
        index = pack(data, tmp_path / f"out{len(list(tmp_path.iterdir()))}", settings(seed=seed))
        return tuple(sample.name for sample in index.samples)

    assert order(1) == order(1)
    assert len({order(seed) for seed in range(3)}) > 1


def test_grids_of_different_sizes_and_lengths_share_a_pack(data, tmp_path):
    write_grid(data, "longer", V=6, T=5, size=40)
    index = pack(data, tmp_path / "out")
    shapes = {sample.name: (sample.views, sample.frames) for sample in index.samples}
    assert shapes["longer"] == (6, 5)
    assert shapes["grid0"] == (4, 3)
    assert index.images == 2 * (3 * 12 + 30)


@pytest.mark.parametrize("codec", Codec)
def test_every_codec_can_be_read_again(data, tmp_path, codec):
    index = pack(data, tmp_path / "out", settings(codec=codec, high=None))
    assert index.sizes == {"low": 8}
    with read_shards(tmp_path / "out").open_sample(0) as reader:
        assert reader.image("low", 3, 2).shape == (8, 8, 4)


def test_a_grid_without_a_row_has_no_known_origin(data, tmp_path):
    shutil.copytree(data / "grid0", data / "copy.of v1")
    index = pack(data, tmp_path / "out")
    (copy,) = [sample for sample in index.samples if sample.name == "copy.of v1"]
    assert copy.key == "copy_of_v1"
    assert copy.origin == (None, None, None)


def test_only_kept_grids_are_packed_if_the_filters_were_run(data):
    assert select_names(data) == ["grid0", "grid1", "grid2"]
    (data / "filter").mkdir()
    (data / "filter" / "kept.txt").write_text("grid2\n\ngrid0\ngrid2\n")
    assert select_names(data) == ["grid2", "grid0"]


def test_a_list_with_paths_outside_of_the_folder_is_refused(tmp_path):
    for text in ("../secret\n", "/etc\n", "..\n"):
        (tmp_path / "names.txt").write_text(text)
        with pytest.raises(InputError, match="one folder name per line, found"):
            read_names(tmp_path / "names.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_names(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    "changes",
    [{"low": 4}, {"high": 8}, {"shard_bytes": 0}, {"min_views": 0}, {"quality": 3}],
)
def test_settings_out_of_their_range_are_refused(changes):
    with pytest.raises(InputError):
        settings(**changes)
