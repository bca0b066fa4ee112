import json
import signal

import pytest

from recon.scene import load_scene


@pytest.mark.usefixtures("short_fits")
def test_a_grid_becomes_a_scene_with_its_metrics(fourdvd, tiny_grid_folder, tmp_path):
    outcome = fourdvd("reconstruct", tiny_grid_folder, "-o", tmp_path / "scene", "--json")
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout)["iterations"] == 12
    assert "fitting: 12/12" in outcome.stderr
    assert "Gaussians" in outcome.stderr
    names = {path.name for path in (tmp_path / "scene").iterdir()}
    assert names >= {"scene.json", "scene.safetensors", "metrics.json", "preview.mp4"}
    assert len(load_scene(tmp_path / "scene").times) == 3


@pytest.mark.usefixtures("short_fits")
def test_a_finished_scene_is_replaced_only_with_overwrite(fourdvd, tiny_grid_folder, tmp_path):
    arguments = ["reconstruct", tiny_grid_folder, "-o", tmp_path / "scene", "--quiet"]
    outcome = fourdvd(*arguments)
    assert outcome[:2] == (0, "")
    assert outcome.stderr.startswith(
        "warning: the scene reproduces its own images"
    )  # 20 iterations
    refused = fourdvd(*arguments)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert fourdvd(*arguments, "--overwrite").exit_code == 0


@pytest.mark.usefixtures("short_fits")
def test_the_requested_motion_model_is_fitted(fourdvd, tiny_grid_folder, tmp_path):
    options = ["-o", tmp_path / "scene", "--motion", "keyframes", "--quiet"]
    assert fourdvd("reconstruct", tiny_grid_folder, *options).exit_code == 0
    assert load_scene(tmp_path / "scene").deformation.name == "keyframes"


@pytest.mark.usefixtures("short_fits")
def test_missing_images_are_left_out_and_the_axis_is_taken(fourdvd, tiny_grid_folder, tmp_path):
    path = tiny_grid_folder / "transforms.json"
    path.write_text(path.read_text().replace('"version": 1', '"owner": 1'))
    (tiny_grid_folder / "images/v01/t001.png").unlink()
    arguments = ["reconstruct", tiny_grid_folder, "-o", tmp_path / "scene", "--quiet", "--up", "-x"]
    refused = fourdvd(*arguments)
    assert refused.exit_code == 3 and "--skip-missing" in refused.stderr
    outcome = fourdvd(*arguments, "--skip-missing")
    assert outcome.exit_code == 0 and "left out 1 of 12" in outcome.stderr
    found = load_scene(tmp_path / "scene").R_world_source
    assert (found @ [-1, 0, 0] == [0, 0, 1]).all()


def test_a_broken_grid_is_reported_on_one_line_and_leaves_nothing(
    fourdvd, tiny_grid_folder, tmp_path
):
    (tiny_grid_folder / "transforms.json").write_text('{"frames": "none"}')
    outcome = fourdvd("reconstruct", tiny_grid_folder, "-o", tmp_path / "scene")
    assert outcome.exit_code == 3
    assert outcome.stderr.startswith("error: ")
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "scene").exists()


def test_an_unwritable_output_is_reported_on_one_line(fourdvd, tiny_grid_folder):
    outcome = fourdvd("reconstruct", tiny_grid_folder, "-o", "/proc/scene")
    assert outcome.exit_code == 1
    assert len(outcome.stderr.splitlines()) == 1


def test_a_stopped_fit_is_resumed(start, tiny_grid_folder, tmp_path):
    train = tmp_path / "scene" / "train"

    def lines() -> int:
        log = train / "log.jsonl"
        return len(log.read_text().splitlines()) if log.exists() else 0

    arguments = ["reconstruct", tiny_grid_folder, "-o", tmp_path / "scene", "--device", "cpu"]
    iterations = []
    for number in (signal.SIGINT, signal.SIGTERM):
        before = lines()
        process = start(*arguments)
        process.wait_until(lambda before=before: lines() > before)
        process.send_signal(number)
        outcome = process.ending()
        assert outcome.exit_code == 130
        assert "Traceback" not in outcome.stderr
        assert ("resuming the fit" in outcome.stderr) == bool(iterations)
        iterations.append(int(outcome.stderr.split("stopped at iteration ")[1].split()[0]))
        assert [path.name for path in train.parent.iterdir()] == ["train"]
        assert (train / "checkpoint.safetensors").is_file()
    assert iterations[1] > iterations[0] > 0


@pytest.mark.usefixtures("short_fits")
def test_the_degree_of_spherical_harmonics_reaches_the_scene(fourdvd, tiny_grid_folder, tmp_path):
    arguments = ["reconstruct", tiny_grid_folder, "-o", tmp_path / "scene", "--quiet"]
    assert fourdvd(*arguments, "--sh-degree", "2").exit_code == 0
    assert load_scene(tmp_path / "scene").gaussians.sh_degree == 2


@pytest.mark.usefixtures("short_fits")
def test_a_fit_without_kernels_warns_and_says_what_to_do(
    fourdvd, tiny_grid_folder, tmp_path, monkeypatch
):
    for module in ("fitting.reconstruction", "rasterizers.dispatch", "native.tensors"):
        monkeypatch.setattr(f"recon.{module}.built", lambda: False)
    outcome = fourdvd("reconstruct", tiny_grid_folder, "-o", tmp_path / "scene")
    assert outcome.exit_code == 0
    assert "python -m recon.native.build" in outcome.stderr


@pytest.mark.usefixtures("short_fits")
def test_a_disk_that_fills_while_fitting_ends_with_exit_code_1(
    fourdvd, tiny_grid_folder, tmp_path, full_disk
):
    full_disk(2000)
    outcome = fourdvd("reconstruct", tiny_grid_folder, "-o", tmp_path / "scene", "--quiet")
    assert outcome.exit_code == 1
    assert str(tmp_path / "scene") in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "scene" / "scene.json").exists()
