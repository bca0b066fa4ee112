import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generation import grid_sampler as sampler
from generation.weights import store as weights
from generation.weights.catalogue import expected_shapes
from generation.weights.verify import file_sha256
from recon.errors import InputError
from recon.grid import read_grid
from recon.media import write_video
from tests.generation.lift.tiny_lift import write_lift
from tests.generation.tiny_cascade import write_trained
from tests.generation.weights.published_files import write_hollow

SMALL = ["--model", "sv4d2", "--size", "64", "--steps", "2", "--views", "2", "--quiet"]
"""All with clips of 7 frames, because a process estimates the cost of one size only once."""


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    """Hide the weights of this machine."""
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("FOURDVD_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr(weights, "find_in_cache", lambda model: None)


def test_a_video_becomes_a_grid_that_reconstruct_reads(
    fourdvd, clip_video, tiny_networks, tmp_path
):
    out = tmp_path / "grid"
    outcome = fourdvd(
        "generate", clip_video, "-o", out, "--weights", tiny_networks, *SMALL, "--json"
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads(outcome.stdout) == json.loads((out / "generate.json").read_text())
    grid = read_grid(out)
    assert (grid.V, grid.T, grid.height) == (3, 7, 64)
    assert grid.fps == pytest.approx(7)


def test_options_reach_the_cameras(fourdvd, clip_video, tiny_networks, tmp_path):
    out = tmp_path / "grid"
    options = ["--azimuths", "90,200", "--elevation", "15", "--fov", "40", "--distance", "3"]
    common = ["--model", "sv4d2", "--size", "64", "--steps", "1", "--quiet", "--frames", "5"]
    arguments = ["generate", clip_video, "-o", out, "--weights", tiny_networks, *options, *common]
    assert fourdvd(*arguments).exit_code == 0
    listed = json.loads((out / "transforms.json").read_text())
    found = {(f["view"], round(f["azimuth_deg"]), round(f["elevation_deg"]))
             for f in listed["frames"]}  # fmt: skip
    assert found == {(0, 0, 15), (1, 90, 15), (2, 200, 15)}
    assert listed["camera_angle_x"] == pytest.approx(np.radians(40))
    assert np.linalg.norm(np.array(listed["frames"][0]["transform_matrix"])[:3, 3]) == (
        pytest.approx(3)
    )


def test_a_dry_run_prints_the_cost_and_writes_a_preview(fourdvd, clip_video, tmp_path):
    out = tmp_path / "grid"
    outcome = fourdvd("generate", clip_video, "-o", out, *SMALL[:-1], "--dry-run")
    assert outcome.exit_code == 4
    for shown in ("frames     7", "crop", "GiB", "disk", "weights    sv4d2: missing"):
        assert shown in outcome.stdout
    assert "fourdvd models fetch sv4d2" in outcome.stderr
    preview = out / "unfinished" / "input" / "preview.png"
    assert str(preview) in outcome.stdout
    with Image.open(preview) as picture:
        assert picture.width > 64


def test_a_dry_run_without_an_output_writes_nothing(fourdvd, clip_video, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    outcome = fourdvd("generate", clip_video, *SMALL[:-1], "--dry-run")
    assert outcome.exit_code == 4  # the weights are missing
    assert "frames     7" in outcome.stdout and "-o GRID" in outcome.stdout
    found = json.loads(fourdvd("generate", clip_video, *SMALL[:-1], "--dry-run", "--json").stdout)
    assert (found["frames"], found["preview"]) == (7, None)
    assert sorted(tmp_path.rglob("*")) == before
    refused = fourdvd("generate", clip_video, *SMALL)
    assert refused.exit_code == 2 and "-o" in refused.stderr


@pytest.mark.slow
def test_a_dry_run_with_weights_succeeds(fourdvd, clip_video, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    write_hollow(folder / "sv4d2_8views.safetensors", expected_shapes("sv4d2_8views"))
    arguments = ["--model", "sv4d2-8views", "--weights", folder, "--dry-run", "--json"]
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", "--size", "64", *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert found["missing_weights"] == []
    assert (found["frames"], found["views"]) == (7, 9)
    for cost in found["estimate"].values():
        assert cost["memory_bytes"] > 4e9  # two thousand million parameters, two bytes each
        assert cost["flops"] > 1e12
    assert found["estimate"]["cpu"]["seconds"] > 0


def test_a_generation_continues_in_the_folder_of_a_dry_run(
    fourdvd, clip_video, tiny_networks, tmp_path
):
    out = tmp_path / "grid"
    arguments = ["generate", clip_video, "-o", out, "--weights", tiny_networks, *SMALL]
    assert fourdvd(*arguments, "--dry-run").exit_code == 0
    assert fourdvd(*arguments).exit_code == 0
    assert not (out / "unfinished").exists()
    again = fourdvd(*arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr


def test_recentering_a_single_frame_is_said_to_have_no_effect(fourdvd, clip_video):
    arguments = ["generate", clip_video, "--model", "lift", "--device", "cpu", "--dry-run"]
    for frames, recenter, is_said in ((1, True, True), (1, False, False), (3, True, False)):
        options = ["--frames", frames, *(["--recenter"] if recenter else [])]
        outcome = fourdvd(*arguments, *options)
        assert outcome.exit_code == 0, outcome.stderr
        assert ("--recenter" in outcome.stderr) is is_said


def test_missing_weights_leave_nothing(fourdvd, clip_video, tmp_path):
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", *SMALL, "--model", "sv4d")
    assert outcome.exit_code == 4
    assert "models fetch sv3d_u" in outcome.stderr
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize("command", ["generate", "run"])
@pytest.mark.parametrize("model", ["lift", "mini"])
def test_a_folder_without_the_weights_is_no_reason_to_take_others(
    fourdvd, clip_video, tmp_path, command, model
):
    (tmp_path / "weights").mkdir()
    options = ["--model", model, "--weights", tmp_path / "weights", "--device", "cpu"]
    outcome = fourdvd(command, clip_video, "-o", tmp_path / "out", *options)
    assert outcome.exit_code == 4
    assert f" in {tmp_path / 'weights'}" in outcome.stderr
    assert "leave out --weights" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_weights_of_another_model_are_refused(fourdvd, clip_video, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    write_hollow(folder / "sv4d2.safetensors", expected_shapes("sv4d"))
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", "--weights", folder, *SMALL)
    assert outcome.exit_code == 4
    assert "sv4d2" in outcome.stderr


def test_a_missing_gpu_is_reported(fourdvd, clip_video, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", "--device", "cuda", *SMALL)
    assert outcome.exit_code == 5
    assert not (tmp_path / "grid").exists()


def test_out_of_memory_has_its_own_exit_code(
    fourdvd, clip_video, tiny_networks, tmp_path, monkeypatch
):
    import torch

    def spent(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sampler, "euler", spent)
    arguments = [
        "generate",
        clip_video,
        "-o",
        tmp_path / "grid",
        "--weights",
        tiny_networks,
        *SMALL,
    ]
    outcome = fourdvd(*arguments)
    assert outcome.exit_code == 6
    assert "--low-memory" in outcome.stderr
    assert "--quality" not in outcome.stderr


CASCADE = ["--model", "4dvd", "--size", "64", "--steps", "1", "--views", "2", "--frames", "5"]


def test_the_cascade_generates_a_grid_and_records_its_weights(
    fourdvd, clip_video, tiny_networks, tmp_path
):
    write_trained(tiny_networks)
    out = tmp_path / "grid"
    arguments = ["generate", clip_video, "-o", out, "--weights", tiny_networks, *CASCADE, "--quiet"]
    outcome = fourdvd(*arguments, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    assert set(json.loads(outcome.stdout)["weights"]) == {
        "sv3d_p", "sv4d", "4dvd_lora.safetensors", "4dvd_branch.safetensors",
    }  # fmt: skip
    assert read_grid(out).V == 3


def test_the_coarse_stage_alone_needs_no_branch(fourdvd, clip_video, tiny_networks, tmp_path):
    write_trained(tiny_networks)
    (tiny_networks / "4dvd_branch.safetensors").unlink()
    out = tmp_path / "grid"
    arguments = ["generate", clip_video, "-o", out, "--weights", tiny_networks, *CASCADE, "--quiet"]
    missing = fourdvd(*arguments)
    assert missing.exit_code == 4
    assert not out.exists()
    assert fourdvd(*arguments, "--coarse-only").exit_code == 0
    assert read_grid(out).height == 64


def test_missing_weights_of_the_cascade_are_reported_on_one_line(
    fourdvd, clip_video, tiny_networks, tmp_path
):
    out = tmp_path / "grid"
    outcome = fourdvd("generate", clip_video, "-o", out, "--weights", tiny_networks, *CASCADE)
    assert outcome.exit_code == 4
    shown = " ".join(outcome.stderr.split())
    assert "the authors of 4DVD have published none" in shown
    assert "`fourdvd train`" in shown
    assert not out.exists()


def test_weights_for_another_base_have_the_same_exit_code(
    fourdvd, clip_video, tiny_networks, tmp_path
):
    write_trained(tiny_networks, base_sha256=64 * "0")
    out = tmp_path / "grid"
    outcome = fourdvd("generate", clip_video, "-o", out, "--weights", tiny_networks, *CASCADE)
    assert outcome.exit_code == 4
    assert "base of sha256" in outcome.stderr


@pytest.mark.slow
def test_a_dry_run_of_the_cascade_lists_both_grids_and_all_files(
    fourdvd, clip_video, tiny_networks, tmp_path
):
    arguments = ["--weights", tiny_networks, "--model", "4dvd", "--size", "320", "--dry-run"]
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", *arguments)
    assert outcome.exit_code == 4
    for shown in ("model      4dvd: 16 views", "256² and of 320²",
                 "4dvd_lora.safetensors: missing", "4dvd_branch.safetensors: missing"):  # fmt: skip
        assert shown in outcome.stdout


MINI = ["--model", "mini", "--steps", "1", "--views", "2", "--frames", "5"]


def test_mini_generates_a_grid_of_128_pixels(fourdvd, clip_video, trained_cascade, tmp_path):
    out = tmp_path / "grid"
    arguments = ["generate", clip_video, "-o", out, "--weights", trained_cascade, *MINI, "--quiet"]
    outcome = fourdvd(*arguments, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert found["model"] == "mini"
    assert set(found["weights"]) == {
        "mini_sv3d", "mini", "4dvd_lora.safetensors", "4dvd_branch.safetensors",
    }  # fmt: skip
    grid = read_grid(out)
    assert (grid.V, grid.T, grid.height, grid.width) == (3, 5, 128, 128)


@pytest.mark.slow
def test_the_estimated_cost_of_a_small_cascade_is_not_rounded_to_0(
    fourdvd, clip_video, trained_cascade, tmp_path
):
    arguments = ["generate", clip_video, "-o", tmp_path / "grid", "--weights", trained_cascade]
    outcome = fourdvd(*arguments, *MINI, "--size", "64")
    assert outcome.exit_code == 0, outcome.stderr
    assert "about " in outcome.stderr
    assert " 0 GiB" not in outcome.stderr
    assert "wrote " in outcome.stderr


@pytest.mark.slow
def test_a_dry_run_of_a_trained_cascade_lists_its_files_and_cost(
    fourdvd, clip_video, trained_cascade, tmp_path
):
    arguments = ["generate", clip_video, "-o", tmp_path / "grid", "--weights", trained_cascade]
    arguments += ["--model", "mini"]
    outcome = fourdvd(*arguments, "--dry-run", "--json")
    assert outcome.exit_code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert (found["model"], found["size"], found["grids"]) == ("mini", 128, [64, 128])
    assert found["azimuths_deg"] == [22.5 * k for k in range(16)]
    assert found["weights"] == {
        name: str(trained_cascade / file)
        for name, file in (
            ("mini_sv3d", "sv3d.safetensors"),
            ("mini", "sv4d.safetensors"),
            ("4dvd_lora.safetensors", "4dvd_lora.safetensors"),
            ("4dvd_branch.safetensors", "4dvd_branch.safetensors"),
        )
    }
    assert found["missing_weights"] == []
    assert 0 < found["estimate"]["cuda"]["memory_bytes"] < 1e9
    for cost in found["estimate"].values():
        assert 0 < cost["flops"] < 1e13
    lines = fourdvd(*arguments, "--dry-run").stdout
    for shown in ("model      mini: 16 views", "64² and of 128²", " TFLOP"):
        assert shown in lines


@pytest.mark.parametrize("file", ["4dvd_branch.safetensors", "sv4d_tower.safetensors"])
def test_an_incomplete_trained_cascade_is_reported_and_leaves_nothing(
    fourdvd, clip_video, trained_cascade, tmp_path, file
):
    (trained_cascade / file).unlink()
    out = tmp_path / "grid"
    outcome = fourdvd("generate", clip_video, "-o", out, "--weights", trained_cascade, *MINI)
    assert outcome.exit_code == 4
    shown = " ".join(outcome.stderr.split())
    assert f"no {file} in" in shown
    assert "`fourdvd train assemble`" in shown
    assert not out.exists()


def test_a_trained_cascade_has_no_choice_of_orbit_models(
    fourdvd, clip_video, trained_cascade, tmp_path
):
    arguments = ["--weights", trained_cascade, *MINI, "--orbit-model", "sv3d_p"]
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", *arguments)
    assert outcome.exit_code == 2
    assert "sv3d_p" in outcome.stderr
    assert not (tmp_path / "grid").exists()


LIFT = ["--model", "lift", "--size", "64", "--views", "2", "--quiet"]


@pytest.fixture
def lift_weights(tmp_path) -> Path:
    (tmp_path / "lift").mkdir()
    return write_lift(tmp_path / "lift")


def test_auto_is_lift_without_a_gpu_and_says_so(fourdvd, clip_video, lift_weights, tmp_path):
    out = tmp_path / "grid"
    options = ["--weights", lift_weights, "--device", "cpu", "--size", "64", "--views", "2"]
    outcome = fourdvd("generate", clip_video, "-o", out, *options)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout == ""
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("model ")]
    assert "lift" in line and "CUDA" in line
    assert json.loads((out / "generate.json").read_text())["model"] == "lift"
    clip_video.write_bytes(b"damaged")
    for place in (out, tmp_path / "new"):  # an existing output, then a damaged input
        for command in ("generate", "run"):
            refused = fourdvd(command, clip_video, "-o", place, "--device", "cpu")
            assert refused.exit_code != 0
            assert len(refused.stderr.splitlines()) == 1  # no word about the model


def test_lift_generates_a_grid_of_any_number_of_frames(fourdvd, clip_video, lift_weights, tmp_path):
    for frames in (1, 7):
        out = tmp_path / f"grid{frames}"
        arguments = ["generate", clip_video, "-o", out, "--weights", lift_weights, *LIFT]
        outcome = fourdvd(*arguments, "--frames", frames, "--json")
        assert outcome.exit_code == 0, outcome.stderr
        report = json.loads(outcome.stdout)
        assert report == json.loads((out / "generate.json").read_text())
        assert report["model"] == "lift"
        grid = read_grid(out)
        assert (grid.V, grid.T, grid.height, grid.input_view) == (3, frames, 64, 0)


def test_a_dry_run_of_lift_reports_its_size_and_cost(fourdvd, clip_video, lift_weights, tmp_path):
    arguments = ["generate", clip_video, "-o", tmp_path / "grid", "--weights", lift_weights]
    outcome = fourdvd(*arguments, "--model", "lift", "--dry-run", "--json")
    assert outcome.exit_code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert (found["model"], found["size"], found["grids"]) == ("lift", 256, [256])
    assert found["azimuths_deg"] == [22.5 * k for k in range(16)]
    assert found["weights"] == {"lift": str(lift_weights / "lift.safetensors")}
    assert found["estimate"]["cpu"]["seconds"] > 0
    memory = {name: cost["memory_bytes"] for name, cost in found["estimate"].items()}
    assert memory["cpu"] > memory["cuda"] + 1e8  # of the libraries
    lines = fourdvd(*arguments, "--model", "lift", "--dry-run").stdout
    assert "model      lift: 16 views" in lines and "elevation 10°" in lines
    assert "steps" not in lines


def test_lift_without_weights_is_reported_and_leaves_nothing(
    fourdvd, clip_video, tmp_path, monkeypatch
):
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", *LIFT)
    assert outcome.exit_code == 4
    assert "fourdvd train lift" in outcome.stderr
    assert not (tmp_path / "grid").exists()
    dry = fourdvd("generate", clip_video, "-o", tmp_path / "grid", *LIFT, "--dry-run")
    assert dry.exit_code == 4
    assert "weights    lift: missing" in dry.stdout


def test_steps_are_refused_with_lift(fourdvd, clip_video, lift_weights, tmp_path):
    arguments = ["generate", clip_video, "-o", tmp_path / "grid", "--weights", lift_weights]
    outcome = fourdvd(*arguments, *LIFT, "--steps", "10")
    assert outcome.exit_code == 2
    assert "no steps for lift" in outcome.stderr
    assert not (tmp_path / "grid").exists()


def not_a_video(folder: Path) -> Path:
    (folder / "text.mp4").write_text("once upon a time")
    return folder / "text.mp4"


def nothing(folder: Path) -> Path:
    return folder / "missing.mp4"


def four_frames(folder: Path) -> Path:
    write_video(folder / "short.mp4", np.full((4, 64, 64, 3), 99, np.uint8), 10)
    return folder / "short.mp4"


def tiny_frames(folder: Path) -> Path:
    write_video(folder / "tiny.mp4", np.full((9, 8, 8, 3), 99, np.uint8), 10)
    return folder / "tiny.mp4"


def empty_alpha(folder: Path) -> Path:
    (folder / "frames").mkdir()
    for index in range(6):
        Image.new("RGBA", (64, 64), (200, 0, 0, 0)).save(folder / "frames" / f"{index}.png")
    return folder / "frames"


def busy_background(folder: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)
    write_video(folder / "busy.mp4", noise, 10)
    return folder / "busy.mp4"


def cut_off_gif(folder: Path) -> Path:
    frames = [Image.new("RGB", (64, 64), (20 * k, 0, 0)) for k in range(8)]
    frames[0].save(folder / "whole.gif", save_all=True, append_images=frames[1:])
    data = (folder / "whole.gif").read_bytes()
    (folder / "cut.gif").write_bytes(data[: len(data) // 2])
    return folder / "cut.gif"


@pytest.mark.parametrize(
    "bad",
    [
        not_a_video, nothing, four_frames, tiny_frames, empty_alpha, busy_background, cut_off_gif,
    ],
)  # fmt: skip
def test_each_invalid_input_is_reported_on_one_line_and_leaves_nothing(
    fourdvd, tmp_path, tiny_networks, bad
):
    source = bad(tmp_path)
    out = tmp_path / "grid"
    outcome = fourdvd("generate", source, "-o", out, "--weights", tiny_networks, *SMALL)
    assert outcome.exit_code == 3
    assert outcome.stderr.count("error:") == 1
    assert "Traceback" not in outcome.stderr
    assert not out.exists()


def test_an_unreadable_path_is_reported(fourdvd, clip_video, tmp_path, tiny_networks, monkeypatch):
    def refused(path, selection):
        raise InputError("may not be read (Permission denied)", path)

    monkeypatch.setattr("generation.clip.preparing.read_clip", refused)
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", *SMALL)
    assert outcome.exit_code == 3
    assert "Permission denied" in outcome.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--azimuths", "200,100"],
        ["--azimuths", "0,100"],
        ["--views", "3", "--azimuths", "10,20"],
        ["--coarse-only"],
        ["--model", "mini", "--views", "16"],
        ["--model", "mini", "--orbit-model", "sv3d_u"],
        ["--size", "100"],
        ["--fov", "180"],
        ["--distance", "0"],
        ["--frames", "4"],
        ["--stop", "-1"],
        ["--fps", "nan"],
    ],
)
def test_numbers_out_of_range_are_refused(fourdvd, clip_video, tmp_path, tiny_networks, options):
    usual = ["--model", "sv4d2", "--steps", "1", "--quiet", "--dry-run"]
    arguments = ["--weights", tiny_networks, *usual, *options]
    outcome = fourdvd("generate", clip_video, "-o", tmp_path / "grid", *arguments)
    assert outcome.exit_code in (2, 3)
    assert not (tmp_path / "grid").exists()


def test_an_object_at_the_border_causes_a_warning(fourdvd, tmp_path, tiny_networks):
    frames = np.full((7, 64, 64, 3), 255, np.uint8)
    frames[:, 20:44, 50:] = (200, 20, 20)
    write_video(tmp_path / "cut.mp4", frames, 10)
    arguments = ["--weights", tiny_networks, *SMALL[:-1]]
    outcome = fourdvd("generate", tmp_path / "cut.mp4", "-o", tmp_path / "grid", *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    assert "touches the border" in outcome.stderr
    assert "right" in outcome.stderr


def test_the_tiny_weights_are_recorded_by_their_hash(fourdvd, clip_video, tiny_networks, tmp_path):
    out = tmp_path / "grid"
    fourdvd("generate", clip_video, "-o", out, "--weights", tiny_networks, *SMALL)
    report = json.loads((out / "generate.json").read_text())
    path = tiny_networks / "sv4d2.safetensors"
    assert report["weights"]["sv4d2"] == {"file": path.name, "sha256": file_sha256(path)}
