"""`fourdvd data objaverse`: counts, draws and downloads, with results alone on stdout."""

import json
from collections.abc import Callable, Iterator

import pytest
import typer
from typer.testing import CliRunner, Result

from fourdvd_cli.commands.data.objaverse import objaverse
from fourdvd_cli.errors import failure_of
from tests.generation.curation.tiny_objaverse import (
    Hub,
    go_offline,
    make_annotation,
    serve_objaverse,
    uid_of,
)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    with serve_objaverse(tmp_path, monkeypatch) as served:
        served.publish(
            [
                *(make_annotation(number) for number in range(4)),
                make_annotation(4, license="cc0"),
                make_annotation(5, license="by-nc"),
                make_annotation(6, animationCount=0),
            ]
        )
        yield served


@pytest.fixture
def command(monkeypatch, caplog) -> Callable[..., Result]:
    # The console's own handlers outlive a test and write to a stream that is closed by then.
    monkeypatch.setattr("fourdvd_cli.console.configure", lambda quiet, verbose: None)
    app = typer.Typer()
    app.command()(objaverse)

    def call(*arguments: object) -> Result:
        caplog.clear()
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def exit_code(result: Result) -> int:
    assert result.exception is not None
    failure = failure_of(result.exception)
    assert failure is not None
    return failure.exit_code


def test_a_dry_run_counts_by_license_and_downloads_only_metadata(hub, command):
    result = command("--dry-run", "--count", 2, "--json")
    assert result.exit_code == 0
    counted = json.loads(result.stdout)
    assert {slug: total["objects"] for slug, total in counted["matching"].items()} == {
        "cc0": 1,
        "by": 4,
    }
    assert counted["matching"]["by"]["faces"] == 1000 + 1001 + 1002 + 1003
    assert counted["left_out"]["licence"] == 1
    assert counted["left_out"]["animations"] == 1
    assert len(counted["drawn"]) == 2
    assert not any(path.startswith("glbs") for path in hub.requests)


def test_a_dry_run_without_json_prints_a_table(hub, command):
    result = command("--dry-run")
    assert [line.split() for line in result.stdout.splitlines() if line.strip(" ─")] == [
        ["license", "objects", "faces", "GB"],
        ["cc0", "1", "1,004", "0.00"],
        ["by", "4", "4,006", "0.00"],
        ["all", "5", "5,010", "0.00"],
    ]


def test_json_prints_the_result_of_a_download_alone(hub, command, tmp_path):
    hub.refused[hub.glb_path(1)] = 404
    result = command("-o", tmp_path / "out", "--json", "--quiet")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["downloaded"] == 4
    assert list(printed["failed"]) == [uid_of(1)]
    assert sorted(printed["drawn"]) == [uid_of(number) for number in range(5)]
    assert len(list((tmp_path / "out").glob("*.glb"))) == 4


def test_other_licenses_are_included_only_on_request(hub, command, tmp_path):
    command("-o", tmp_path / "out", "--license", "by-nc", "--quiet")
    assert [path.stem for path in (tmp_path / "out").glob("*.glb")] == [uid_of(5)]
    assert "CC-BY-NC-4.0" in (tmp_path / "out" / "ATTRIBUTION.md").read_text()


def test_a_list_of_uids_is_downloaded_whole_and_unknown_ones_are_reported(
    hub, command, tmp_path, caplog
):
    (tmp_path / "uids.txt").write_text(f"{uid_of(0)}\n{uid_of(3)}\n{uid_of(77)}\n")
    result = command("-o", tmp_path / "out", "--uids", tmp_path / "uids.txt", "--json")
    assert sorted(json.loads(result.stdout)["drawn"]) == [uid_of(0), uid_of(3)]
    assert json.loads(result.stdout)["unknown"] == [uid_of(77)]
    assert uid_of(77) in caplog.text


def test_the_same_seed_draws_the_same_objects(hub, command):
    def drawn(seed: int) -> list[str]:
        return json.loads(command("--dry-run", "--json", "--count", 3, "--seed", seed).stdout)[
            "drawn"
        ]

    assert drawn(7) == drawn(7)
    assert len({tuple(drawn(seed)) for seed in range(5)}) > 1


def test_an_output_folder_is_required_without_dry_run(hub, command):
    result = command("--count", 1)
    assert result.exit_code == 2
    assert "-o" in result.stderr
    assert hub.requests == []


def test_criteria_that_nothing_matches_are_an_input_error(hub, command, tmp_path):
    result = command("-o", tmp_path / "out", "--min-faces", 10**5)
    assert exit_code(result) == 3
    assert "face count 5" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_an_unknown_license_is_an_input_error(hub, command):
    assert exit_code(command("--dry-run", "--license", "gpl")) == 3
    assert hub.requests == []


def test_offline_nothing_is_written(hub, command, tmp_path, monkeypatch):
    go_offline(monkeypatch)
    result = command("-o", tmp_path / "out")
    assert exit_code(result) == 1
    assert "cannot be reached" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_the_command_fails_if_every_download_fails(hub, command, tmp_path):
    hub.refused = {hub.glb_path(number): 410 for number in range(7)}
    result = command("-o", tmp_path / "out")
    assert exit_code(result) == 1
    assert "failures.jsonl" in str(result.exception)
