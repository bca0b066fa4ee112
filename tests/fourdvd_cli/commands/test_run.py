import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest

from fourdvd_cli import generating
from fourdvd_cli.commands import run_chain
from generation import lift_pipeline
from generation.clip.reading import FrameSelection, read_clip
from generation.presets import presets
from recon.errors import Interrupted
from recon.grid import read_grid, write_grid
from recon.media import read_png, write_png
from recon.scene import load_scene
from tests.generation.lift.tiny_lift import CONFIG, write_lift

pytestmark = pytest.mark.usefixtures("short_fits")
SPLATS = ["--format", "ply", "--format", "splat", "--quiet"]


def record(folder) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_a_grid_becomes_grid_scene_export_and_record(fourdvd, tiny_grid_folder, tmp_path):
    out = tmp_path / "out"
    assert fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS)[:2] == (0, "")
    assert {path.name for path in out.iterdir()} == {"grid", "scene", "export", "run.json"}
    assert (read_grid(out / "grid").images == read_grid(tiny_grid_folder).images).all()
    assert len(list((out / "export" / "ply").iterdir())) == 3
    assert record(out)["stages"] == ["grid", "scene", "export"]
    assert record(out)["formats"] == ["ply", "splat"]


def test_json_has_what_the_commands_of_the_steps_print(fourdvd, tiny_grid_folder, tmp_path):
    out = tmp_path / "out"
    printed = fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS, "--json").stdout
    found = json.loads(printed)
    assert (found["input"], found["folder"]) == (str(tiny_grid_folder), str(out))
    assert found["steps"] == record(out)["seconds"]
    assert found["seconds"] == pytest.approx(sum(found["steps"].values()))
    assert found["grid"] is None  # none was generated
    assert found["scene"] == load_scene(out / "scene").metrics
    assert found["export"] == json.loads((out / "export" / "export.json").read_text())
    again = fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS, "--json")
    assert again.stdout == printed


def test_held_out_views_are_copied_and_evaluated(fourdvd, tiny_grid_folder, tmp_path):
    (tiny_grid_folder / "transforms_test.json").write_bytes(
        (tiny_grid_folder / "transforms.json").read_bytes()
    )
    out = tmp_path / "out"
    assert fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS).exit_code == 0
    assert len(read_grid(out / "grid", "test")) == 12
    assert "test" in load_scene(out / "scene").metrics


def test_a_second_run_repeats_no_step(fourdvd, tiny_grid_folder, tmp_path):
    out = tmp_path / "out"
    arguments = ["run", tiny_grid_folder, "-o", out, *SPLATS]
    fourdvd(*arguments)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert fourdvd(*arguments).exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_another_format_is_added_without_another_fit(fourdvd, tiny_grid_folder, tmp_path):
    out = tmp_path / "out"
    fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS)
    scene = (out / "scene" / "scene.json").stat().st_mtime_ns
    more = ["--format", "glb-splats", "--quiet"]
    assert fourdvd("run", tiny_grid_folder, "-o", out, *more).exit_code == 0
    assert record(out)["formats"] == ["ply", "splat", "glb-splats"]
    assert (out / "scene" / "scene.json").stat().st_mtime_ns == scene


def test_a_stopped_run_is_resumed(fourdvd, tiny_grid_folder, tmp_path, monkeypatch):
    def stopped(*arguments, **named):
        raise Interrupted("stopped at iteration 3")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(run_chain, "reconstruct_with_progress", stopped)
        assert fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS).exit_code == 130
    assert record(out)["stages"] == ["grid"]
    shutil.rmtree(tiny_grid_folder)  # what is done is not looked at again
    assert fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS).exit_code == 0


def test_other_settings_or_another_input_are_refused_unless_overwriting(
    fourdvd, tiny_grid, tiny_grid_folder, tmp_path
):
    out, other = tmp_path / "out", tmp_path / "other"
    write_grid(tiny_grid, other)
    fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS)
    for arguments, change in (
        ([tiny_grid_folder, "--seed", 1], f"{tiny_grid_folder} with seed 0, not 1; "),
        ([other], f"{tiny_grid_folder}; "),
    ):
        refused = fourdvd("run", *arguments, "-o", out, *SPLATS)
        assert refused.exit_code == 1
        assert f"contains a run of {change}" in refused.stderr
        # It is not advised where it would replace the run of another input.
        assert ("--overwrite" in refused.stderr) is (arguments[0] == tiny_grid_folder)
    assert fourdvd("run", other, "-o", out, *SPLATS, "--overwrite").exit_code == 0
    assert record(out)["input"] == str(other)


def test_an_input_that_was_replaced_is_refused_unless_overwriting(
    fourdvd, tiny_grid_folder, tmp_path
):
    out, image = tmp_path / "out", next(tiny_grid_folder.rglob("*.png"))
    arguments = ["run", tiny_grid_folder, "-o", out, *SPLATS]
    fourdvd(*arguments)
    os.utime(image)
    assert fourdvd(*arguments).exit_code == 0  # the same content
    shutil.copy(sorted(tiny_grid_folder.rglob("*.png"))[-1], image)
    before = record(out)
    refused = fourdvd(*arguments)
    assert refused.exit_code == 1
    assert str(tiny_grid_folder) in refused.stderr
    assert "--overwrite" in refused.stderr
    assert record(out) == before
    assert fourdvd(*arguments, "--overwrite").exit_code == 0
    assert record(out)["input_sha256"] != before["input_sha256"]


def test_a_folder_with_other_files_is_refused_and_kept(fourdvd, tiny_grid_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    outcome = fourdvd("run", tiny_grid_folder, "-o", out, *SPLATS)
    assert outcome.exit_code == 1
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


@pytest.fixture
def small_clips(monkeypatch):
    """Clips are prepared at 64²."""
    for name in ("sv4d2", "mini"):
        monkeypatch.setitem(presets, name, replace(presets[name], size=64))


def test_a_video_becomes_grid_scene_and_export(
    fourdvd, clip_video, tiny_networks, small_clips, tmp_path
):
    out = tmp_path / "out"
    options = ["--model", "sv4d2", "--weights", tiny_networks, "--steps", "1", *SPLATS]
    assert fourdvd("run", clip_video, "-o", out, *options)[:2] == (0, "")
    assert {path.name for path in out.iterdir()} == {"grid", "scene", "export", "run.json"}
    assert read_grid(out / "grid").V == 5
    assert record(out)["generation"] == {"model": "sv4d2", "steps": 1}
    for other in (["--steps", "2"], ["--model", "mini"]):
        assert fourdvd("run", clip_video, "-o", out, *options, *other).exit_code == 1


@pytest.fixture
def small_lift(monkeypatch):
    """Lift makes three views of 64²."""
    monkeypatch.setattr(lift_pipeline, "SIZE", 64)
    monkeypatch.setattr(lift_pipeline, "AZIMUTHS_DEG", (90.0, 180.0, 270.0))


@pytest.mark.parametrize("frames", [7, 1])
def test_a_video_becomes_a_scene_with_the_default_model(
    fourdvd, clip_video, small_lift, tmp_path, frames
):
    weights, out = tmp_path / "weights", tmp_path / "out"
    weights.mkdir()
    write_lift(weights)
    if frames == 1:
        write_png(tmp_path / "image.png", read_clip(clip_video, FrameSelection(1)).images[0])
        clip_video = tmp_path / "image.png"
    options = ["--weights", weights, "--device", "cpu", *SPLATS]
    rate = ["--source-fps", 14, "--recenter"] if frames > 1 else []
    assert fourdvd("run", clip_video, "-o", out, *options, *rate)[:2] == (0, "")
    for fewer in (rate[:2], rate[2:]) if rate else ():
        assert fourdvd("run", clip_video, "-o", out, *options, *fewer).exit_code == 1
    assert record(out)["reading"] == ({"source_fps": 14, "recenter": True} if rate else {})
    grid = read_grid(out / "grid")
    assert (grid.V, grid.T, grid.height) == (4, frames, 64)
    assert grid.fps == pytest.approx(14 if rate else grid.fps)
    assert record(out)["generation"] == {"model": "lift", "steps": None}
    assert record(out)["stages"] == ["grid", "scene", "export"]
    assert len(list((out / "export" / "ply").glob("*.ply"))) == frames
    source = load_scene(out / "scene").source_camera
    assert source is not None
    assert len(source.times) == frames
    assert source.thumbnails is not None
    video = ["--camera", "source", "--over", clip_video, "-o", out / "over", "--quiet"]
    assert fourdvd("render", out / "scene", *video) == (0, "", "")
    drawn = [read_png(path) for path in sorted((out / "over").iterdir())]
    assert np.shape(drawn) == (frames, *read_clip(clip_video, FrameSelection(1)).images.shape[1:])


def test_other_weights_are_refused_unless_overwriting(fourdvd, clip_video, small_lift, tmp_path):
    out, first, other = tmp_path / "out", tmp_path / "first", tmp_path / "other"
    for folder, config in ((first, CONFIG), (other, replace(CONFIG, middle_blocks=2))):
        folder.mkdir()
        write_lift(folder, config)
    arguments = ["run", clip_video, "-o", out, "--device", "cpu", *SPLATS, "--weights"]
    assert fourdvd(*arguments, first).exit_code == 0
    before = record(out)
    refused = fourdvd(*arguments, other)
    assert refused.exit_code == 1
    assert f"weights of lift {before['weights']['lift'][:12]}" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert record(out) == before
    shutil.move(first, tmp_path / "moved")
    assert fourdvd(*arguments, tmp_path / "moved").exit_code == 0
    older = {name: value for name, value in before.items() if name != "weights"}
    (out / "run.json").write_text(json.dumps(older))
    assert fourdvd(*arguments, other).exit_code == 0  # nobody knows
    assert fourdvd(*arguments, other, "--overwrite").exit_code == 0
    assert record(out)["weights"] != before["weights"]


def test_a_finished_run_does_not_miss_its_weights(fourdvd, clip_video, small_lift, tmp_path):
    out, weights = tmp_path / "out", tmp_path / "weights"
    weights.mkdir()
    write_lift(weights)
    arguments = ["run", clip_video, "-o", out, "--device", "cpu", *SPLATS, "--weights", weights]
    assert fourdvd(*arguments).exit_code == 0
    shutil.rmtree(weights)
    assert fourdvd(*arguments).exit_code == 0


def test_a_grid_needs_no_model(fourdvd, tiny_grid_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("generation.pipelines.choose_model", None)
    assert fourdvd("run", tiny_grid_folder, "-o", tmp_path / "out", *SPLATS).exit_code == 0


@pytest.mark.parametrize(
    ("step", "place", "function"),
    [("grid", generating, "generate"), ("scene", run_chain, "reconstruct_with_progress")],
)
def test_a_signal_that_is_too_late_for_a_step_keeps_its_result(
    fourdvd, clip_video, small_lift, tmp_path, monkeypatch, step, place, function
):
    usual = getattr(place, function)

    def signalled(*arguments, **named):
        result = usual(*arguments, **named)
        os.kill(os.getpid(), signal.SIGINT)
        return result

    def files() -> dict:
        return {path: path.stat().st_mtime_ns for path in (out / step).rglob("*")}

    out = tmp_path / "out"
    arguments = ["run", clip_video, "-o", out, "--device", "cpu", *SPLATS]
    arguments += ["--weights", write_lift(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(place, function, signalled)
        stopped = fourdvd(*arguments)
    assert stopped.exit_code == 130
    assert f"finished steps are in {out}" in stopped.stderr
    assert "to resume: fourdvd run" in stopped.stderr
    assert record(out)["stages"][-1] == step
    before = files()
    assert fourdvd(*arguments).exit_code == 0
    assert files() == before


@pytest.mark.parametrize("file", ["sv4d.safetensors", "sv4d_tower.safetensors", "vae.safetensors"])
def test_an_incomplete_cascade_leaves_nothing(
    fourdvd, clip_video, trained_cascade, small_clips, tmp_path, file
):
    (trained_cascade / file).unlink()
    options = ["--model", "mini", "--weights", trained_cascade]
    outcome = fourdvd("run", clip_video, "-o", tmp_path / "out", *options)
    assert outcome.exit_code == 4
    assert "train assemble" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_a_stopped_run_from_a_video_is_resumed(
    fourdvd, clip_video, tiny_networks, small_clips, tmp_path, monkeypatch
):
    def stopped(*arguments, **named):
        raise Interrupted("stopped")

    out = tmp_path / "out"
    options = ["--model", "sv4d2", "--weights", tiny_networks, "--steps", "1", *SPLATS]
    with monkeypatch.context() as patch:
        patch.setattr("generation.grid_sampler.euler", stopped)
        assert fourdvd("run", clip_video, "-o", out, *options).exit_code == 130
    assert record(out)["stages"] == []
    assert fourdvd("run", clip_video, "-o", out, *options).exit_code == 0


def test_a_video_without_weights_says_what_to_fetch_and_leaves_nothing(
    fourdvd, clip_video, tmp_path, monkeypatch
):
    monkeypatch.setattr("generation.weights.store.find_in_cache", lambda model: None)
    monkeypatch.delenv("FOURDVD_WEIGHTS", raising=False)
    outcome = fourdvd("run", clip_video, "-o", tmp_path / "out", "--model", "sv4d2")
    assert outcome.exit_code == 4
    assert "models fetch sv4d2" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_frames_is_a_video(fourdvd, tiny_grid_folder, tmp_path):
    frames = tiny_grid_folder / "images" / "v00"
    outcome = fourdvd("run", frames, "-o", tmp_path / "out", "--model", "mini")
    assert outcome.exit_code == 3  # three frames
    assert "at least 5" in outcome.stderr


@pytest.mark.parametrize("name", ["none", "empty", "none.mp4"])
def test_a_missing_or_empty_input_is_an_input_error(fourdvd, tmp_path, name):
    (tmp_path / "empty").mkdir()
    outcome = fourdvd("run", tmp_path / name, "-o", tmp_path / "out")
    assert outcome.exit_code == 3
    assert len(outcome.stderr.splitlines()) == 1
    assert ("no such file" in outcome.stderr) is (name != "empty")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["/proc/out", "/proc/more/out"])
def test_an_output_that_cannot_be_created_is_said_to_be_so(fourdvd, tiny_grid_folder, place):
    outcome = fourdvd("run", tiny_grid_folder, "-o", place)
    assert outcome.exit_code == 1
    assert f"{place} cannot be created" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_the_folder_of_a_run_is_neither_scene_nor_grid_but_names_both(
    fourdvd, tiny_grid_folder, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(tiny_grid_folder, run / "grid")
    (run / "scene").mkdir()
    (run / "scene" / "scene.json").write_text("{}")
    for command in (
        ["export", run, "--format", "ply"], ["render", run], ["view", run, "--no-browser"],
        ["reconstruct", run], ["evaluate", run, "--against", tiny_grid_folder],
    ):  # fmt: skip
        output = [] if command[0] in ("evaluate", "view") else ["-o", tmp_path / "new"]
        outcome = fourdvd(*command, *output)
        assert outcome.exit_code == 3
        wanted = "grid" if command[0] == "reconstruct" else "scene"
        assert f"is {run / wanted}" in outcome.stderr
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", ["{", "{}", '{"format": "fourdvd-run", "version": 9}'])
def test_a_broken_record_is_reported_on_one_line(fourdvd, tiny_grid_folder, tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(content)
    outcome = fourdvd("run", tiny_grid_folder, "-o", out)
    assert outcome.exit_code == 3
    assert "run.json" in outcome.stderr


@pytest.mark.parametrize(
    "option",
    [["--source-fps", 30], ["--recenter"], ["--model", "mini"], ["--steps", 5], ["--weights", "."]],
)
def test_an_option_of_videos_is_wrong_usage_for_a_grid(fourdvd, tiny_grid_folder, tmp_path, option):
    outcome = fourdvd("run", tiny_grid_folder, "-o", tmp_path / "out", *option)
    assert outcome.exit_code == 2
    assert option[0] in outcome.stderr
