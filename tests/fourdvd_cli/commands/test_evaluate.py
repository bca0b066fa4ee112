import json
import sys

import numpy as np
import pytest
import torch

from fourdvd_cli.commands.evaluate import FILTERS, Fvd, _opened
from fourdvd_cli.options import Device
from generation.metrics.fvd import FORMULAS
from recon.evaluation import evaluating
from recon.grid import Grid, grid_from_views, read_grid, write_grid
from recon.media import write_png
from recon.rendering import render_gaussians
from recon.scene import load_scene

KEYS = {"psnr", "ssim", "iou", "psnr_foreground", "worst_psnr", "images"}


@pytest.fixture
def views_of_the_scene(scene_folder, tmp_path):
    """A grid folder with what the scene itself shows, with its alpha."""
    scene = load_scene(scene_folder)
    drawn = render_gaussians(scene.at(0.0), scene.cameras, (0.0, 0.0, 0.0))
    alpha = drawn.alpha[..., None]
    straight = drawn.rgb / alpha.clamp_min(1e-6)
    rgba = np.concatenate([straight.clamp(0, 1), alpha], axis=-1)
    images = np.repeat((255 * rgba).round().astype(np.uint8)[:, None], 3, axis=1)
    grid = grid_from_views(scene.cameras, images, fps=5.0)
    write_grid(grid, tmp_path / "views")
    return tmp_path / "views"


def test_a_scene_agrees_with_its_own_views(fourdvd, scene_folder, views_of_the_scene):
    outcome = fourdvd("evaluate", scene_folder, "--against", views_of_the_scene, "--json")
    assert outcome.exit_code == 0
    found = json.loads(outcome.stdout)
    assert set(found) >= KEYS
    assert found["worst_psnr"] > 40
    assert found["iou"] > 0.99
    assert len(found["images"]) == 12
    assert {"view", "frame", "psnr", "ssim", "iou"} <= set(found["images"][0])


@pytest.mark.parametrize("device", [Device.auto, Device.cuda])
def test_the_networks_of_metrics_need_no_gsplat(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "gsplat", None)
    devices = []
    monkeypatch.setattr(
        "generation.metrics.load_metrics",
        lambda names, weights, device, fvd: devices.append(device),
    )
    _opened(["lpips"], None, device, Fvd.pair)
    assert devices == ["cuda"]


def test_a_transforms_file_is_a_grid_too(fourdvd, scene_folder, views_of_the_scene):
    against = views_of_the_scene / "transforms.json"
    assert fourdvd("evaluate", scene_folder, "--against", against, "--json").exit_code == 0


def test_a_grid_agrees_with_itself(fourdvd, tiny_grid_folder):
    outcome = fourdvd("evaluate", tiny_grid_folder, "--against", tiny_grid_folder, "--json")
    assert json.loads(outcome.stdout)["worst_psnr"] == 100


def test_the_videos_of_a_grid_agree_with_it_up_to_compression(fourdvd, videos, tiny_grid_folder):
    outcome = fourdvd("evaluate", *videos, "--against", tiny_grid_folder, "--json")
    assert outcome.exit_code == 0
    found = json.loads(outcome.stdout)
    assert len(found["images"]) == 12
    assert found["psnr"] > 20


def test_the_table_has_a_row_for_each_view_and_one_for_all(fourdvd, tiny_grid_folder):
    outcome = fourdvd("evaluate", tiny_grid_folder, "--against", tiny_grid_folder)
    rows = [line.split() for line in outcome.stdout.splitlines() if line.strip()]
    assert rows[0][:3] == ["view", "images", "PSNR"]
    assert [row[0] for row in rows[2:]] == ["0", "1", "2", "3", "all"]
    assert rows[-1][1] == "12"


def test_too_few_videos_are_reported_on_one_line(fourdvd, videos, tiny_grid_folder):
    outcome = fourdvd("evaluate", *videos[:2], "--against", tiny_grid_folder)
    assert outcome.exit_code == 3
    assert "4 views" in outcome.stderr


def test_two_scenes_at_once_are_refused(fourdvd, scene_folder, tiny_grid_folder):
    outcome = fourdvd("evaluate", scene_folder, scene_folder, "--against", tiny_grid_folder)
    assert outcome.exit_code == 3


def test_a_broken_grid_is_reported_without_a_traceback(fourdvd, scene_folder, tiny_grid_folder):
    (tiny_grid_folder / "images" / "v01" / "t001.png").write_bytes(b"\x89PNG broken")
    outcome = fourdvd("evaluate", scene_folder, "--against", tiny_grid_folder, "--json")
    assert outcome.exit_code == 3
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("error: ")
    assert "t001.png" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_a_grid_of_other_cameras_is_refused(fourdvd, tiny_grid: Grid, tiny_grid_folder, tmp_path):
    half = grid_from_views(tiny_grid.cameras[:1], tiny_grid.images[None, :3], fps=tiny_grid.fps)
    write_grid(half, tmp_path / "half")
    outcome = fourdvd("evaluate", tmp_path / "half", "--against", tiny_grid_folder, "--json")
    assert json.loads(outcome.stdout)["missing"] == 9


def test_the_chosen_metrics_are_columns(fourdvd, tiny_grid_folder):
    outcome = fourdvd(
        "evaluate", tiny_grid_folder, "--against", tiny_grid_folder, "--metrics", "iou,sharpness"
    )
    header = next(line.split() for line in outcome.stdout.splitlines() if line.strip())
    assert header == ["view", "images", "IoU", "sharpness"]


def test_unknown_metrics_and_filters_are_wrong_usage(fourdvd, tiny_grid_folder):
    here = ("evaluate", tiny_grid_folder, "--against", tiny_grid_folder)
    assert fourdvd(*here, "--metrics", "psnr,beauty").exit_code == 2
    assert fourdvd(*here, "--resize", "nearest").exit_code == 2


def test_a_folder_needs_a_table_and_a_table_names_its_metrics(fourdvd, tiny_grid_folder, tmp_path):
    arguments = [tiny_grid_folder, "--against", tiny_grid_folder, "-o", tmp_path / "out"]
    assert fourdvd("evaluate", *arguments).exit_code == 2
    table = ["--table", tmp_path / "runs.toml", "--metrics", "psnr"]
    assert fourdvd("evaluate", *table).exit_code == 2


def test_the_filters_are_those_of_the_library():
    assert set(FILTERS) == set(evaluating.FILTERS)


def test_a_nerfstudio_run_is_evaluated(fourdvd, scene_folder, views_of_the_scene, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yml").write_text("")
    scene_folder.rename(run / "scene")
    for path in (run, run / "config.yml"):
        outcome = fourdvd("evaluate", path, "--against", views_of_the_scene, "--json")
        assert outcome.exit_code == 0
        assert json.loads(outcome.stdout)["worst_psnr"] > 40


def test_missing_weights_exit_with_4_and_the_command(fourdvd, tiny_grid_folder, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tiny_grid_folder))
    monkeypatch.delenv("FOURDVD_WEIGHTS", raising=False)
    outcome = fourdvd(
        "evaluate", tiny_grid_folder, "--against", tiny_grid_folder, "--metrics", "psnr,fvd-f"
    )
    assert outcome.exit_code == 4 and outcome.stdout == ""
    assert "i3d_pretrained_400.pt" in outcome.stderr
    assert "fourdvd models fetch fvd" in outcome.stderr


def test_the_formulas_are_those_of_the_library():
    assert tuple(Fvd) == FORMULAS


def test_a_table_is_printed_and_written(fourdvd, tiny_grid_folder, tmp_path):
    runs = tmp_path / "runs.toml"
    runs.write_text(
        'metrics = ["psnr"]\n[objects]\ndisc = "tiny_grid"\n[methods.copy]\npath = "tiny_grid"\n'
    )
    outcome = fourdvd("evaluate", "--table", runs, "-o", tmp_path / "table")
    assert outcome.exit_code == 0
    assert "| copy | 1 | 3 | 100.00 |" in outcome.stdout
    assert {path.name for path in (tmp_path / "table").iterdir()} == {
        "table.md", "table.csv", "table.json"
    }  # fmt: skip
    assert fourdvd("evaluate", "--table", runs, "-o", tmp_path / "table").exit_code == 1
    assert fourdvd("evaluate").exit_code == 2
    assert fourdvd("evaluate", tiny_grid_folder, "--table", runs).exit_code == 2
    for option in (["--align"], ["--mosaic", "1x2"], ["--scale", "2"], ["--axes", "z-up"]):
        assert fourdvd("evaluate", "--table", runs, *option).exit_code == 2


def test_a_table_with_failures_is_written_and_exits_with_3(fourdvd, tiny_grid_folder, tmp_path):
    runs, out = tiny_grid_folder.parent / "runs.toml", tmp_path / "table"
    head = f'metrics = ["psnr"]\n[objects]\ndisc = "{tiny_grid_folder.name}"\n'
    gone = '[methods.gone]\npath = "nothing"\n'
    runs.write_text(f'{head}{gone}[methods.copy]\npath = "{tiny_grid_folder.name}"\n')
    outcome = fourdvd("evaluate", "--table", runs, "-o", out, "--quiet")
    assert outcome.exit_code == 3
    assert "| copy | 1 | 3 | 100.00 |" in outcome.stdout
    assert "failed: gone, disc: " in outcome.stderr
    assert "1 of 2 could not be evaluated: gone, disc" in outcome.stderr
    assert (out / "table.md").read_text() == outcome.stdout
    runs.write_text(head + gone)
    outcome = fourdvd("evaluate", "--table", runs, "-o", tmp_path / "empty")
    assert (outcome.exit_code, outcome.stdout) == (3, "")
    assert not (tmp_path / "empty").exists()


def test_a_mosaic_of_all_views_is_compared_view_by_view(fourdvd, tiny_grid_folder, tmp_path):
    grid = read_grid(tiny_grid_folder)
    (tmp_path / "all").mkdir()
    for frame in range(grid.T):
        views = [grid.image(view, frame) for view in range(grid.V)]
        write_png(tmp_path / "all" / f"{frame}.png", np.concatenate(views))
    command = ("evaluate", tmp_path / "all", "--against", tiny_grid_folder, "--json")
    outcome = fourdvd(*command, "--mosaic", f"{grid.V}x1")
    assert outcome.exit_code == 0 and json.loads(outcome.stdout)["worst_psnr"] == 100
    assert fourdvd(*command, "--mosaic", f"{grid.V}x5").exit_code == 3
    outcome = fourdvd(*command, "--mosaic", f"{2 * grid.V}x1")
    assert outcome.exit_code == 3 and str(2 * grid.V) in outcome.stderr
    command = ("evaluate", tiny_grid_folder, "--against", tiny_grid_folder)
    assert fourdvd(*command, "--mosaic", "2x2").exit_code == 3
    assert fourdvd(*command, "--mosaic", "2").exit_code == 2
    assert fourdvd(*command, "--align").exit_code == 3
