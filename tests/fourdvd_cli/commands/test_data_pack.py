"""`fourdvd data pack`: shards, counts as JSON, and the selection of the grids."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from fourdvd_cli.commands.data.pack import pack, parse_bytes
from fourdvd_cli.errors import failure_of
from generation.curation.shards.shard_files import read_shards
from tests.generation.curation.shards.tiny_packs import write_data, write_grid

SMALL = ("--low", 8, "--high", 16, "--min-views", 2, "--min-frames", 2, "--quiet")


@pytest.fixture
def command(monkeypatch, caplog) -> Callable[..., Result]:
    # The console's own handlers outlive a test and write to a stream that is closed by then.
    monkeypatch.setattr("fourdvd_cli.console.configure", lambda quiet, verbose: None)
    app = typer.Typer()
    app.command()(pack)

    def call(*arguments: object) -> Result:
        caplog.clear()
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def data(tmp_path) -> Path:
    return write_data(tmp_path / "data")


def packed(folder: Path) -> list[str]:
    return sorted(sample.name for sample in read_shards(folder).index.samples)


def exit_code(result: Result) -> int:
    assert result.exception is not None
    failure = failure_of(result.exception)
    assert failure is not None
    return failure.exit_code


def test_json_prints_the_result_alone(command, data, tmp_path, caplog):
    write_grid(data, "small", size=12)
    result = command(data, "-o", tmp_path / "out", *SMALL, "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["samples"] == 3
    assert printed["images"] == 3 * 12 * 2
    assert printed["shards"] == 1
    assert printed["bytes"] == (tmp_path / "out" / "shard-000000.tar").stat().st_size
    assert list(printed["skipped"]) == ["small"]
    assert "small" in caplog.text


def test_the_filter_report_a_list_or_all_selects_the_grids(command, data, tmp_path):
    (data / "filter").mkdir()
    (data / "filter" / "kept.txt").write_text("grid1\n")
    (tmp_path / "mine.txt").write_text("grid0\ngrid2\n")
    command(data, "-o", tmp_path / "kept", *SMALL)
    command(data, "-o", tmp_path / "mine", "--kept", tmp_path / "mine.txt", *SMALL)
    command(data, "-o", tmp_path / "all", "--all", *SMALL)
    assert packed(tmp_path / "kept") == ["grid1"]
    assert packed(tmp_path / "mine") == ["grid0", "grid2"]
    assert packed(tmp_path / "all") == ["grid0", "grid1", "grid2"]


def test_codec_image_sizes_and_shard_size_are_applied(command, data, tmp_path):
    result = command(
        data, "-o", tmp_path / "out", "--low", 12, "--low-only", "--codec", "webp",
        "--webp-quality", 50, "--shard-size", "1KB", "--min-frames", 2, "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0
    index = read_shards(tmp_path / "out").index
    assert index.sizes == {"low": 12}
    assert (index.codec, index.quality) == ("webp", 50)
    assert len(index.shards) == 3


def test_existing_shards_are_replaced_only_with_overwrite(command, data, tmp_path):
    assert command(data, "-o", tmp_path / "out", *SMALL).exit_code == 0
    assert exit_code(command(data, "-o", tmp_path / "out", *SMALL)) == 1
    assert command(data, "-o", tmp_path / "out", *SMALL, "--overwrite").exit_code == 0


def test_a_folder_without_grids_is_an_input_error(command, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "absent"):
        assert exit_code(command(tmp_path / folder, "-o", tmp_path / "out", *SMALL)) == 3


def test_enlarging_images_is_an_input_error(command, data, tmp_path):
    result = command(data, "-o", tmp_path / "out", "--min-frames", 2)
    assert exit_code(result) == 3
    assert "at least 576² pixels" in str(result.exception)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--codec", "png", "--webp-quality", 3),
        ("--all", "--kept", "names.txt"),
        ("--shard-size", "many"),
        ("--codec", "jpeg"),
    ],
)
def test_wrong_usage_writes_nothing(command, data, tmp_path, wrong):
    assert command(data, "-o", tmp_path / "out", *wrong).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_shard_sizes_are_parsed_with_their_units():
    assert [parse_bytes(text).number for text in ("7", "1KB", "1.5 mb", "2G", "1TB")] == [
        7, 1000, 1_500_000, 2 * 10**9, 10**12,
    ]  # fmt: skip
    for text in ("", "MB", "-1MB", "1XB", "1e3"):
        with pytest.raises(typer.BadParameter, match="256MB"):
            parse_bytes(text)
