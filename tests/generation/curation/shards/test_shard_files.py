"""Shards are plain tar files with random access to every image."""

import hashlib
import json
import os
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from generation.curation.shards.pack_settings import Codec
from generation.curation.shards.packed_images import shrink
from generation.curation.shards.shard_files import read_shards
from generation.curation.shards.shard_format import (
    INDEX_NAME,
    VERSION,
    PackIndex,
    ShardError,
    image_member,
    unique_key,
)
from recon.grid import read_grid
from tests.generation.curation.shards.tiny_packs import SETTINGS, damage, pack, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def shards(data, tmp_path) -> Path:
    pack(data, tmp_path / "shards")
    return tmp_path / "shards"


def members(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = (path.name, member.offset_data, file.read())
    return found


def edit_index(folder: Path, **changes) -> None:
    path = folder / INDEX_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_index_and_json_locate_every_image(data, shards):
    opened, tar = read_shards(shards), members(shards)
    assert len(tar) == 3 * (1 + 2 * 12)
    for number, entry in enumerate(opened.index.samples):
        grid = read_grid(data / entry.name)
        with opened.open_sample(number) as reader:
            for size, pixels in SETTINGS.sizes.items():
                for view, frame in np.ndindex(4, 3):
                    place = reader.sample.image(size, view, frame)
                    name = image_member(entry.key, size, view, frame, Codec.WEBP_LOSSLESS)
                    file, offset, content = tar[name]
                    assert file == opened.index.shards[entry.shard].file
                    assert (offset, len(content)) == (place.offset, place.size)
                    np.testing.assert_array_equal(
                        reader.image(size, view, frame), shrink(grid.image(view, frame), pixels)
                    )


def test_cameras_times_and_origin_are_read_back(data, shards):
    opened = read_shards(shards)
    with opened.open_sample(0) as reader:
        sample = reader.sample
    grid = read_grid(data / sample.name)
    assert sample.times == tuple(grid.times)
    assert sample.fps == grid.fps
    assert sample.clip == "run"
    assert sample.origin == (f"https://a.test/{sample.name}", "CC0-1.0", "Ann")
    assert opened.index.samples[0].origin == sample.origin
    for found, camera in zip(sample.cameras, grid.cameras, strict=True):
        np.testing.assert_array_equal(found.T_world_camera, camera.T_world_camera)
        np.testing.assert_array_equal(found.K, camera.K)


def test_webdataset_reads_the_shards_as_they_are(shards):
    webdataset = pytest.importorskip("webdataset")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = [str(path) for path in sorted(shards.glob("*.tar"))]
        samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode("pilrgba"))
    opened = read_shards(shards)
    assert [sample["__key__"] for sample in samples] == [s.key for s in opened.index.samples]
    for number, sample in enumerate(samples):
        assert sample["json"]["name"] == opened.index.samples[number].name
        with opened.open_sample(number) as reader:
            expected = reader.image("high", 3, 2)
        found = np.asarray(sample["high.v03.t002.webp"])
        np.testing.assert_array_equal(found, expected)


def test_the_sha256_of_each_shard_is_in_the_index(shards):
    for shard in read_shards(shards).index.shards:
        content = (shards / shard.file).read_bytes()
        assert shard.bytes == len(content)
        assert shard.sha256 == hashlib.sha256(content).hexdigest()


def test_the_same_grids_give_the_same_bytes(data, shards, tmp_path):
    pack(data, tmp_path / "again")
    for path in sorted(shards.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_an_index_is_read_back_from_its_json(shards):
    index = read_shards(shards).index
    assert PackIndex.from_json(index.to_json()) == index


@pytest.mark.parametrize("where", ["low", "high"])
def test_the_error_for_a_flipped_bit_names_shard_and_member(shards, where):
    opened = read_shards(shards)
    with opened.open_sample(1) as reader:
        place = reader.sample.image(where, 2, 1)
    for offset in range(place.offset, place.offset + place.size, max(1, place.size // 20)):
        damage(shards / "shard-000000.tar", offset)
        with (
            opened.open_sample(1) as reader,
            pytest.raises(ShardError, match=rf"shard-000000.tar: .*\.{where}\.v02\.t001\.webp"),
        ):
            reader.image(where, 2, 1)
        damage(shards / "shard-000000.tar", offset)  # back again
    with opened.open_sample(1) as reader:
        reader.image(where, 2, 1)


def test_the_error_for_a_damaged_json_names_shard_and_member(shards):
    opened = read_shards(shards)
    damage(shards / "shard-000000.tar", opened.index.samples[0].json.offset + 3)
    key = opened.index.samples[0].key
    with (
        pytest.raises(ShardError, match=rf"shard-000000.tar: {key}\.json"),
        opened.open_sample(0),
    ):
        pytest.fail("the block must not start")


def test_complete_members_of_a_truncated_shard_can_be_read(shards):
    opened = read_shards(shards)
    last = opened.index.samples[-1]
    os.truncate(shards / "shard-000000.tar", last.json.offset + 10)
    with opened.open_sample(0) as reader:
        reader.image("low", 0, 0)
    with (
        pytest.raises(ShardError, match=rf"shard-000000.tar: truncated in {last.key}\.json"),
        opened.open_sample(len(opened.index.samples) - 1),
    ):
        pytest.fail("the block must not start")


def test_a_folder_without_shards_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ShardError, match="fourdvd data pack"):
            read_shards(folder)


def test_a_missing_shard_is_refused_with_its_name(shards):
    (shards / "shard-000000.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000000\.tar: the shard is missing"):
        read_shards(shards)


def test_another_version_or_format_is_refused(shards):
    edit_index(shards, version=VERSION + 1)
    with pytest.raises(ShardError, match=f"expected version {VERSION}, found {VERSION + 1}"):
        read_shards(shards)
    edit_index(shards, format="something")
    with pytest.raises(ShardError, match="format fourdvd-shards"):
        read_shards(shards)


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": [{}]},
        {"samples": None},
        {"sizes": {"low": -1}},
        {"codec": "jpeg"},
        {"shards": [{"file": "../secret.tar", "bytes": 1, "sha256": ""}]},
        {"shards": []},
        {"samples": []},
    ],
)
def test_an_index_with_invalid_values_is_refused(shards, changes):
    edit_index(shards, **changes)
    with pytest.raises(ShardError):
        read_shards(shards)
    (shards / INDEX_NAME).write_text("[" * 100_000)
    with pytest.raises(ShardError):
        read_shards(shards)


def test_a_location_outside_of_the_shard_is_refused(shards):
    samples = json.loads((shards / INDEX_NAME).read_text())["samples"]
    samples[0]["json"] = [0, 2**60, 0]
    edit_index(shards, samples=samples)
    with pytest.raises(ShardError, match="inside of its shard"), read_shards(shards).open_sample(0):
        pytest.fail("the block must not start")


def test_keys_have_no_dots_and_are_unique_without_regard_to_case():
    taken: set[str] = set()
    for name in ("a.b", "a_b", "A_B", "ä" * 300, "ö" * 300, ".."):
        key = unique_key(name, taken)
        assert "." not in key
        assert len(key) <= 80
        assert key.casefold() not in taken
        taken.add(key.casefold())
