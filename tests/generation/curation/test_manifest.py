"""The manifest keeps the result of each asset, through crashes and repeated runs."""

import json

import pytest

from generation.curation.manifest import Row, Status, append_row, is_final, read_rows
from recon.errors import InputError, OutputError

SETTINGS = {"size_px": 576, "background": [1.0, 1.0, 1.0], "engine": "cycles"}
FOX = Row(
    name="fox",
    status=Status.RENDERED,
    asset="/data/fox.glb",
    source="https://example.org/fox",
    licence="by",
    author="Ana Łęcka",
    clip="Run",
    clip_seconds=1.25,
    seconds=42.5,
    settings=SETTINGS,
    facts={"triangles": 1024, "filter": {"motion": 0.3}},
)
ROBOT = Row(name="robot", status=Status.FAILED, asset="robot.fbx", reason="Blender ran out of time")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "grids" / "manifest.jsonl"


def line_of(row: Row, path) -> bytes:
    append_row(path, row)
    line = path.read_bytes()
    path.unlink()
    return line


def test_rows_are_read_back_unchanged(path):
    append_row(path, FOX)
    append_row(path, ROBOT)
    assert read_rows(path) == {"fox": FOX, "robot": ROBOT}


def test_facts_are_keys_of_the_row(path):
    written = json.loads(line_of(FOX, path))
    assert written["triangles"] == 1024
    assert written["status"] == "rendered"
    assert "facts" not in written


def test_a_folder_without_a_manifest_has_no_rows(path):
    assert read_rows(path) == {}


def test_the_last_row_of_a_name_is_read(path):
    again = Row(name="robot", status=Status.RENDERED, asset="robot.fbx")
    for row in (ROBOT, FOX, again):
        append_row(path, row)
    assert read_rows(path) == {"fox": FOX, "robot": again}


def test_a_truncated_last_line_affects_no_other_row(path):
    first, second = line_of(FOX, path), line_of(ROBOT, path)
    for length in range(len(second) - 1):
        path.write_bytes(first + second[:length])
        assert read_rows(path) == {"fox": FOX}
        append_row(path, ROBOT)
        assert path.read_bytes() == first + second


def test_a_truncated_first_line_and_an_empty_file_have_no_rows(path):
    line = line_of(FOX, path)
    for torn in (b"", b"\0" * 50, line[:30]):
        path.write_bytes(torn)
        assert read_rows(path) == {}
        append_row(path, FOX)
        assert path.read_bytes() == line


def test_a_complete_last_line_without_line_feed_is_kept(path):
    path.write_bytes(line_of(FOX, path)[:-1])
    assert read_rows(path) == {"fox": FOX}
    append_row(path, ROBOT)
    assert read_rows(path) == {"fox": FOX, "robot": ROBOT}


@pytest.mark.parametrize(
    "damage",
    [
        {"name": "../../home"},
        {"name": ".."},
        {"name": ""},
        {"name": None},
        {"status": "done"},
        {"asset": 3},
        {"seconds": "long"},
        {"settings": []},
    ],
)
def test_a_damaged_row_is_refused_with_its_line(path, damage):
    good = line_of(FOX, path)
    damaged = json.dumps({**json.loads(good), **damage}).encode() + b"\n"
    path.write_bytes(good + damaged + good)
    with pytest.raises(InputError, match=r"manifest\.jsonl: line 2 "):
        read_rows(path)


@pytest.mark.parametrize("line", [b"\n", b"[1]\n", b'{"name": "fox"\n', b'{"name": "fox"}\n'])
def test_a_line_that_is_no_row_is_refused_with_its_line(path, line):
    path.write_bytes(line_of(FOX, path) + line)
    with pytest.raises(InputError, match="line 2 "):
        read_rows(path)


def test_settings_that_json_cannot_represent_write_nothing(path):
    append_row(path, FOX)
    before = path.read_bytes()
    for settings in ({"scale": float("nan")}, {"device": object()}):
        with pytest.raises(OutputError, match="fox"):
            append_row(path, Row("fox", Status.RENDERED, "fox.glb", settings=settings))
    assert path.read_bytes() == before


def test_a_path_with_invalid_utf8_is_kept(path):
    odd = Row("odd", Status.FAILED, b"caf\xe9.glb".decode("utf-8", "surrogateescape"))
    append_row(path, odd)
    assert read_rows(path) == {"odd": odd}


@pytest.mark.parametrize(
    ("status", "final"),
    [(Status.RENDERED, True), (Status.REJECTED, True), (Status.FAILED, False)],
)
def test_only_rows_rendered_or_rejected_with_the_same_settings_are_final(path, status, final):
    append_row(path, Row("fox", status, "fox.glb", settings=SETTINGS))
    row = read_rows(path)["fox"]
    assert is_final(row, {**SETTINGS, "background": (1.0, 1.0, 1.0)}) is final
    assert not is_final(row, {**SETTINGS, "size_px": 256})
    assert not is_final(None, SETTINGS)
