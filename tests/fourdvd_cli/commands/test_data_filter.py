"""`fourdvd data filter` as a command; the filters themselves are tested beside their library."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from fourdvd_cli.commands.data.filter import filter_grids
from recon.errors import OutputExistsError, WeightsError
from recon.grid import grid_from_views, orbit_camera, write_grid

app = typer.Typer()
app.command("filter")(filter_grids)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A disc that moves, and one that does not."""
    folder = tmp_path_factory.mktemp("original") / "data"
    cameras = [orbit_camera(90 * view, 0, 3.2, 33.8, 48, 48) for view in range(4)]
    rows, columns = np.mgrid[:48, :48]
    texture = np.random.default_rng(0).integers(60, 200, (6, 6)).repeat(8, 0).repeat(8, 1)
    for name, step in (("mover", 2), ("statue", 0)):
        images = np.zeros((4, 5, 48, 48, 4), np.uint8)
        for frame in range(5):
            inside = (rows - 24) ** 2 + (columns - 20 - step * frame) ** 2 < 81
            shifted = np.roll(texture, step * frame, axis=1)
            images[:, frame, ..., :3] = (shifted * inside)[..., None]
            images[:, frame, ..., 3] = 255 * inside
        write_grid(grid_from_views(cameras, images), folder / name)
    return folder


@pytest.fixture
def data(original, tmp_path):
    return shutil.copytree(original, tmp_path / "data")


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--workers", "1", "--quiet"])


def test_the_report_lists_the_kept_grids_and_leaves_them_unchanged(data):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    outcome = run(data, "--json")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["kept"] == 1
    report = data / "filter"
    assert (report / "kept.txt").read_text() == "mover\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_report_with_other_limits_needs_overwrite(data):
    assert run(data, "-o", data / "a").exit_code == 0
    assert isinstance(run(data, "-o", data / "a").exception, OutputExistsError)
    assert run(data, "-o", data / "a", "--min-motion", "0", "--overwrite").exit_code == 0
    settings = json.loads((data / "a" / "filter.json").read_text())
    assert settings["thresholds"]["min_motion"] == 0
    assert settings["kept"] == 2


def test_a_missing_language_model_is_not_downloaded_by_default(data):
    missing = run(data, "--llm", data / "no-such-model", "--device", "cpu")
    assert isinstance(missing.exception, WeightsError)
    assert not (data / "filter").exists()


@pytest.mark.parametrize("option", [("--llm-url", "http://localhost:1/v1"), ("--max-lpips", "1")])
def test_options_that_need_another_one_are_refused_alone(data, option):
    assert run(data, *option).exit_code == 2


def test_help_loads_neither_torch_nor_opencv():
    code = (
        "import sys, typer; from fourdvd_cli.commands.data.filter import filter_grids; "
        "print({'torch', 'cv2', 'numpy'} & sys.modules.keys())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
