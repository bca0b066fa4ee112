"""Assets are found, get distinct names, and keep their origin."""

import json
from pathlib import Path

import pytest

from generation.curation.assets.files import (
    Asset,
    AssetFormat,
    find_assets,
    obj_frames,
    read_origins,
)
from recon.errors import InputError
from tests.generation.curation.tiny_assets import write_obj_sequence


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(assets: list[Asset]) -> list[str]:
    return [asset.name for asset in assets]


@pytest.mark.parametrize(
    ("suffix", "format"),
    [
        (".glb", AssetFormat.glb),
        (".GLTF", AssetFormat.gltf),
        (".fbx", AssetFormat.fbx),
        (".abc", AssetFormat.abc),
        (".usd", AssetFormat.usd),
        (".usda", AssetFormat.usd),
        (".usdc", AssetFormat.usd),
        (".usdz", AssetFormat.usd),
    ],
)
def test_the_suffix_tells_the_format(tmp_path, suffix, format):
    touch(tmp_path / f"cat{suffix}")
    (asset,) = find_assets([tmp_path / f"cat{suffix}"])
    assert asset == Asset(tmp_path / f"cat{suffix}", format, "cat")


def test_folders_are_searched_recursively_in_order_without_hidden_files(tmp_path):
    touch(tmp_path / "b.glb", tmp_path / "a.fbx", tmp_path / "deep" / "er" / "c.usdz")
    touch(tmp_path / ".d.glb", tmp_path / ".git" / "e.glb", tmp_path / "texture.png")
    assert names(find_assets([tmp_path])) == ["a", "b", "c"]


def test_an_asset_named_twice_is_found_once(tmp_path):
    touch(tmp_path / "a.glb", tmp_path / "b.glb", tmp_path / "sub" / "texture.png")
    found = find_assets([tmp_path / "b.glb", tmp_path, tmp_path / "sub" / ".." / "b.glb"])
    assert names(found) == ["b", "a"]


def test_paths_are_absolute_wherever_the_program_runs(tmp_path, monkeypatch):
    touch(tmp_path / "a.glb")
    monkeypatch.chdir(tmp_path)
    assert find_assets(["a.glb"]) == find_assets(["."]) == find_assets([tmp_path])


def test_numbered_obj_files_are_one_asset_in_the_order_of_their_numbers(tmp_path):
    folder = write_obj_sequence(tmp_path / "walk", frames=3, stem="frame")
    for number in (4, 10):
        (folder / f"frame_{number}.obj").write_text("v 0 0 0\n")
    (folder / "base.obj").write_text("v 0 0 0\n")
    assert find_assets([tmp_path]) == [Asset(folder, AssetFormat.obj, "walk")]
    assert [path.name for path in obj_frames(folder)] == [
        "frame_0001.obj",
        "frame_0002.obj",
        "frame_0003.obj",
        "frame_4.obj",
        "frame_10.obj",
    ]


def test_one_obj_file_or_several_objects_are_no_sequence(tmp_path):
    write_obj_sequence(tmp_path / "one", frames=1)
    write_obj_sequence(tmp_path / "two", stem="chair")
    write_obj_sequence(tmp_path / "two", stem="table")
    with pytest.raises(InputError, match=r"no asset in this folder.*box_0001\.obj"):
        find_assets([tmp_path])


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.glb", "no such file"), ("a.blend", "known asset"), ("empty", "no asset")],
)
def test_a_path_without_asset_is_refused_with_its_name(tmp_path, name, message):
    touch(tmp_path / "a.blend")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        find_assets([tmp_path / name])
    assert caught.value.path == tmp_path / name


def test_assets_of_one_stem_are_named_after_their_folders(tmp_path):
    touch(tmp_path / "zoo" / "Horse.glb", tmp_path / "farm" / "horse.fbx", tmp_path / "cow.glb")
    assert names(find_assets([tmp_path])) == ["cow", "farm-horse", "zoo-Horse"]


def test_assets_of_one_stem_in_one_folder_are_named_after_their_suffixes(tmp_path):
    touch(tmp_path / "horse.fbx", tmp_path / "horse.glb", tmp_path / "cow.glb")
    assert names(find_assets([tmp_path])) == ["cow", "horse-fbx", "horse-glb"]


def test_names_stay_apart_whatever_is_asked_for_first(tmp_path):
    paths = [
        tmp_path / "a" / "pack" / "cat.glb",
        tmp_path / "b" / "pack" / "cat.glb",
        tmp_path / "c" / "Pack" / "CAT.glb",
        tmp_path / "pack-cat.glb",
    ]
    touch(*paths)
    expected = dict(zip(paths, ["pack-cat-2", "pack-cat-3", "Pack-CAT-4", "pack-cat"], strict=True))
    for order in (paths, paths[::-1]):
        assert {asset.path: asset.name for asset in find_assets(order)} == expected


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("a cat (1)", "a_cat__1_"),
        ("..hidden", "_.hidden"),
        ("x:y*z", "x_y_z"),
        ("Ba\u0308r.v2-b_c", "B\u00e4r.v2-b_c"),
        ("l" * 200, "l" * 120),
    ],
)
def test_names_are_safe_as_folders(tmp_path, stem, name):
    touch(tmp_path / f"{stem}.glb")
    (asset,) = find_assets([tmp_path / f"{stem}.glb"])
    assert asset.name == name


def test_a_table_in_the_searched_folder_tells_where_assets_came_from(tmp_path):
    touch(tmp_path / "pack" / "cat.glb", tmp_path / "dog.glb")
    (tmp_path / "assets.csv").write_text(
        "file,licence,author,source_repository,triangles\n"
        'pack/cat.glb,CC0-1.0,"Ann, Bob",example.org/cat,12\n'
    )
    dog, cat = find_assets([tmp_path])
    assert (cat.licence, cat.author, cat.source) == ("CC0-1.0", "Ann, Bob", "example.org/cat")
    assert (dog.licence, dog.author, dog.source) == (None, None, None)
    for path in (tmp_path / "pack" / "cat.glb", tmp_path / "pack"):
        assert find_assets([path]) == [cat]


def test_a_manifest_serves_as_a_table_and_takes_the_place_of_the_others(tmp_path):
    touch(tmp_path / "in" / "cat.glb")
    (tmp_path / "in" / "assets.csv").write_text("file,licence\ncat.glb,CC0\n")
    row = {"asset": "../in/cat.glb", "licence": "CC-BY-4.0", "source": "s", "author": None}
    table = tmp_path / "out" / "manifest.jsonl"
    touch(table)
    table.write_text(json.dumps(row) + "\n\n")
    (asset,) = find_assets([tmp_path / "in"], table)
    assert (asset.licence, asset.source, asset.author) == ("CC-BY-4.0", "s", None)


def test_objects_of_objaverse_bring_their_table(tmp_path):
    touch(tmp_path / "a1.glb")
    row = {"file": "a1.glb", "licence": "CC-BY-4.0", "source": "u", "author": "Ann"}
    (tmp_path / "objects.jsonl").write_text(json.dumps(row))
    (asset,) = find_assets([tmp_path])
    assert (asset.licence, asset.source, asset.author) == ("CC-BY-4.0", "u", "Ann")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "no column `file`"),
        ("t.csv", b"name,licence\na.glb,CC0\n", "no column `file`"),
        ("t.csv", b"file,licence\na.glb,CC0,extra\n", "line 2 has more cells"),
        ("t.csv", b"file,licence\n,CC0\n", "line 2 "),
        ("t.csv", b'file,licence\n"a.glb,CC0\n', "not a CSV table"),
        ("t.csv", b"file\n\xff\xfe\n", "not a CSV table in UTF-8"),
        ("t.csv", b"file,licence\na.glb,CC0\n./a.glb,MIT\n", "line 3 "),
        ("t.jsonl", b'{"file": "a.glb"}\n{"file": ', "line 2 is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("t.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("t.jsonl", b'{"file": "a.glb", "licence": 4}', "`licence`"),
        ("t.jsonl", b'{"file": "a\\u0000.glb"}', "`file`"),
        ("t.jsonl", b'{"licence": "CC0"}', "line 1 "),
        ("t.jsonl", b"\xff", "not JSON lines in UTF-8"),
        ("t.txt", b"", r"expected a \.csv or \.jsonl"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_origins(tmp_path / name)
    assert caught.value.path == tmp_path / name


def test_a_table_that_is_not_there_is_refused(tmp_path):
    touch(tmp_path / "a.glb")
    with pytest.raises(InputError, match="no such file"):
        find_assets([tmp_path], tmp_path / "absent.csv")


def test_a_link_keeps_its_own_name_and_links_to_folders_end_the_search(tmp_path):
    touch(tmp_path / "store" / "9f86d0", tmp_path / "in" / "x.txt")
    (tmp_path / "in" / "cat.glb").symlink_to(tmp_path / "store" / "9f86d0")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert names(find_assets([tmp_path / "in"])) == ["cat"]
