"""One table of methods × objects, from a file: values, intervals, published rows, faults."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from recon.errors import InputError
from recon.evaluation.table import evaluate_table, mean_over_objects, read_runs
from recon.grid.mosaic import Mosaic
from recon.grid.writing import write_posed_images
from recon.media import write_png
from tests.conftest import make_tiny_grid

RUNS = """
metrics = ["psnr", "sharpness"]
published = "consistent4d-4d"
[objects]
a = "truth/a"
b = "truth/b"
[methods.noisy]
path = "runs/{object}"
seed = 3
[methods.equal]
path = "truth/{object}"
"""


@pytest.fixture
def file(tmp_path):
    for k, name in enumerate("ab"):
        grid = make_tiny_grid(2, 2)
        images = grid.images.copy()
        noise = np.random.default_rng(k).integers(0, 30 * (k + 1), images[..., :3].shape)
        images[..., :3] = (images[..., :3] + noise).clip(0, 255)
        for folder, each in (("truth", grid), ("runs", dataclasses.replace(grid, images=images))):
            (tmp_path / folder / name).mkdir(parents=True)
            write_posed_images(each, tmp_path / folder / name)
    (tmp_path / "runs.toml").write_text(RUNS)
    return tmp_path / "runs.toml"


def test_a_table_has_means_per_object_values_and_published_rows(file):
    steps = []
    table = evaluate_table(read_runs(file), on_step=steps.append)
    assert [each.step for each in steps] == [1, 2, 3, 4]
    values = [found.mean("psnr") for found in table.evaluations["noisy"].values()]
    mean = table.mean("noisy", "psnr")
    assert mean is not None and mean.value == pytest.approx(np.mean(np.array(values, float)))
    lines = table.to_markdown().splitlines()
    assert lines[0] == "| method | objects | frames | PSNR ↑ | sharpness ↑ |"
    assert lines[2].startswith("| noisy | 2 | 2 | ") and "±" in lines[2]
    assert lines[3].startswith("| equal | 2 | 2 | 100.00 ± 0.00 | 1.000")
    assert any("STAG4D †" in line and "| 30 |" in line for line in lines)
    assert "Seeds: noisy 3." in lines
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert float(rows[1]["psnr"]) == values[1] and rows[0]["seed"] == "3"
    assert [row["published"] != "" for row in rows[:5]] == [False] * 4 + [True]
    written = json.loads(json.dumps(table.to_json()))
    assert written["methods"][0]["objects"]["b"]["psnr"] == values[1]
    assert written["published"][0]["source"]


def test_a_table_of_one_object_speaks_of_no_interval(file):
    assert "interval" in evaluate_table(read_runs(file)).to_markdown()
    one = [line for line in RUNS.splitlines() if not line.startswith(("b =", "published", "seed"))]
    file.write_text("\n".join(one))
    lines = evaluate_table(read_runs(file)).to_markdown().splitlines()
    assert lines[-1].startswith("| equal | 1 |")
    assert not any("±" in line for line in lines)


def test_the_interval_is_that_of_student():
    values = [1.0, 2.0, 4.0, 8.0]
    found = mean_over_objects(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found is not None and found.half_width == pytest.approx((high - low) / 2)
    assert mean_over_objects([]) is None and mean_over_objects([1.0]) == (1.0, None, 1, None)


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ('"psnr", ', '"beauty", ', "beauty"),
        ("[objects]", "[truths]", "truths"),
        ("consistent4d-4d", "elsewhere", "published"),
        ('"consistent4d-4d"', '["consistent4d-4d"]', "published"),
        ("[objects]", 'resize = "nearest"\n[objects]', "resize.*nearest"),
        ("[objects]", "resize = 2\n[objects]", "resize"),
        ("seed = 3", 'seed = "x"', "noisy.seed"),
        ("seed = 3", "scale = 0", "noisy.scale"),
        ("seed = 3", "align = 1", "noisy.align"),
        ("seed = 3", 'mosaic = "2 by 2"', "2 by 2"),
        ('path = "runs/{object}"', "", "methods.noisy"),
        ("metrics = [", "metrics = [[", "TOML"),
    ],
)
def test_faults_of_the_file_are_named(file, old, new, fact):
    file.write_text(RUNS.replace(old, new))
    with pytest.raises(InputError, match=fact):
        read_runs(file)


def test_a_method_says_how_its_files_are_read(file):
    method = 'axes = "z-up"\nscale = 2\nalign = true\nmosaic = "2x3"'
    file.write_text(RUNS.replace("seed = 3", method))
    noisy, equal = read_runs(file).methods
    assert noisy == ("noisy", "runs/{object}", None, "z-up", 2, True, Mosaic(2, 3))
    assert equal.axes is None and equal.mosaic is None and not equal.align
    failures = evaluate_table(read_runs(file)).failures
    assert "can be aligned" in failures["noisy"]["a"] and failures["equal"] == {}


def test_what_cannot_be_evaluated_does_not_stop_the_others(file):
    complete = evaluate_table(read_runs(file))
    complete.require_complete()
    shutil.rmtree(file.parent / "runs/a")
    steps = []
    table = evaluate_table(read_runs(file), on_step=steps.append)
    assert [each.step for each in steps] == [1, 2, 3, 4]
    assert table.mean("equal", "psnr") == complete.mean("equal", "psnr")
    (found,) = table.evaluations["noisy"].values()
    assert found.psnr == complete.evaluations["noisy"]["b"].psnr
    lines = table.to_markdown().splitlines()
    assert lines[2].startswith("| noisy | 1 of 2 | 2 | ")
    assert "Not evaluated: noisy, a." in lines
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["object"] for row in rows if row["method"] == "noisy" and not row["psnr"]] == ["a"]
    failures = table.to_json()["methods"][0]["failures"]
    assert failures.keys() == {"a"} and str(file.parent / "runs/a") in failures["a"]
    with pytest.raises(InputError, match=r"1 of 4 .*: noisy, a$"):
        table.require_complete()


def test_a_method_without_any_evaluation_has_no_values(file):
    file.write_text(RUNS.replace("runs/", "elsewhere/"))
    table = evaluate_table(read_runs(file))
    assert table.to_markdown().splitlines()[2] == "| noisy | 0 of 2 | – | – | – |"
    assert table.mean("noisy", "psnr") is None


def test_consistent4d_is_a_truth_whose_frames_are_matched_by_number(file):
    folder = file.parent
    for side, T in (("gt", 3), ("pred", 2)):
        for view in range(4):
            (folder / side / f"eval_{view}").mkdir(parents=True)
            for frame in range(T):
                image = np.full((16, 16, 3), 255, np.uint8)
                image[4:12, 4 : 8 + frame] = 40 * view
                write_png(folder / side / f"eval_{view}" / f"{frame}.png", image)
    text = '[objects]\na = "consistent4d:gt"\n[methods.m]\npath = "pred"\n'
    file.write_text('metrics = ["psnr"]\n' + text)
    table = evaluate_table(read_runs(file))
    (found,) = table.evaluations["m"].values()
    assert found.psnr == 100 and found.missing == 4 and table.frames("m") == [2]
    assert any("first 2 of the 3 frames" in note for note in found.notes)
