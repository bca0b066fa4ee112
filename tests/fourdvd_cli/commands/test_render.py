import errno
import json
import os
import signal

import pytest
import torch
from PIL import Image

from recon.grid import orbit_camera
from recon.media import read_video


@pytest.mark.parametrize("camera", ["orbit", "swing", "fixed", "fixed:2"])
def test_the_video_has_the_requested_frames_frame_rate_and_size(
    fourdvd, scene_folder, tmp_path, camera
):
    options = ["--camera", camera, "--frames", 5, "--fps", 12, "--size", 32, "--device", "cpu"]
    outcome = fourdvd("render", scene_folder, "-o", tmp_path / "video.mp4", *options)
    assert outcome.exit_code == 0
    assert outcome.stdout == ""
    assert "5 frames" in outcome.stderr
    video = read_video(tmp_path / "video.mp4")
    assert video.frames.shape == (5, 32, 32, 3)
    assert video.fps == pytest.approx(12)
    assert video.frames[0, 0, 0].min() > 245  # white behind the ball
    assert video.frames[0, 16, 16].min() < 200


def test_with_json_the_video_is_described(fourdvd, scene_folder, tmp_path):
    video = tmp_path / "video.mp4"
    options = ["--frames", 5, "--fps", 12, "--size", 32, "--device", "cpu", "--json"]
    found = json.loads(fourdvd("render", scene_folder, "-o", video, *options).stdout)
    size = {"width": 32, "height": 32}
    assert found == {"output": str(video), "frames": 5, "fps": 12, **size}


def test_the_cameras_of_a_file_are_rendered(fourdvd, scene_folder, tmp_path):
    camera = orbit_camera(30, 10, 3.2, 33.8, 24, 40)
    entry = {"camera_to_world": camera.T_world_camera.ravel().tolist(), "fov": 33.8}
    path = tmp_path / "path.json"
    path.write_text(
        json.dumps(
            {"render_height": 24, "render_width": 40, "fps": 8,
             "camera_path": [entry | {"render_time": time} for time in (0.0, 0.5, 1.0)]}
        )
    )  # fmt: skip
    outcome = fourdvd("render", scene_folder, "-o", tmp_path / "video", "--camera", path)
    assert outcome.exit_code == 0
    names = sorted(file.name for file in (tmp_path / "video").iterdir())
    assert names == ["frame_0000.png", "frame_0001.png", "frame_0002.png"]
    with Image.open(tmp_path / "video" / names[0]) as image:
        assert image.size == (40, 24)


def test_quiet_prints_nothing(fourdvd, scene_folder, tmp_path):
    video = tmp_path / "video.gif"
    assert fourdvd("render", scene_folder, "-o", video, "--frames", 2, "--quiet") == (0, "", "")


@pytest.mark.parametrize("name", ["video.mp4", "video.gif", "video"])
def test_an_existing_video_is_replaced_only_with_overwrite(fourdvd, scene_folder, tmp_path, name):
    arguments = ["render", scene_folder, "-o", tmp_path / name, "--frames", 2]
    assert fourdvd(*arguments).exit_code == 0
    refused = fourdvd(*arguments)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert fourdvd(*arguments, "--overwrite").exit_code == 0


def test_a_folder_without_a_scene_is_reported_on_one_line(fourdvd, tmp_path):
    outcome = fourdvd("render", tmp_path, "-o", tmp_path / "video.mp4")
    assert outcome.exit_code == 3
    assert "scene.json" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_a_broken_scene_is_reported_on_one_line(fourdvd, scene_folder, tmp_path):
    (scene_folder / "scene.json").write_text("{")
    outcome = fourdvd("render", scene_folder, "-o", tmp_path / "video.mp4")
    assert outcome.exit_code == 3
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize(("camera", "code"), [("missing.json", 3), ("fixed:7", 2)])
def test_a_camera_that_does_not_exist_is_reported(fourdvd, scene_folder, tmp_path, camera, code):
    outcome = fourdvd("render", scene_folder, "-o", tmp_path / "video.mp4", "--camera", camera)
    assert outcome.exit_code == code
    assert camera.removeprefix("fixed:") in outcome.stderr


def test_a_view_that_does_not_exist_is_said_before_the_tensors_are_read(
    fourdvd, scene_folder, tmp_path
):
    (scene_folder / "scene.safetensors").write_bytes(b"never read")
    (tmp_path / "x.mp4").touch()
    options = ["-o", tmp_path / "x.mp4", "--camera", "fixed:7"]
    outcome = fourdvd("render", scene_folder, *options)
    assert outcome.exit_code == 2 and "--camera" in outcome.stderr
    (scene_folder / "scene.json").write_text('{"format": "fourdvd-scene", "version": 1}')
    outcome = fourdvd("render", scene_folder, *options)
    assert outcome.exit_code == 3 and "cameras" in outcome.stderr


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("x.avi", [], ".mp4"),
        ("x.mp4", ["--camera", "spiral"], "spiral"),
        ("x.mp4", ["--camera", "fixed:x"], "fixed:2"),
        ("x.mp4", ["--camera", "path.json", "--frames", 3], "frames"),
        ("x.mp4", ["--over", "film.mp4"], "--over: needs the camera 'source'"),
        ("x.mp4", ["--over", "film.mp4", "--camera", "source", "--fps", 3], "rate"),
        ("x", ["--over", "film.mp4", "--camera", "source", "--transparent"], "opaque"),
        ("x.mp4", ["--transparent"], "--transparent: expected an output without suffix"),
    ],
)
def test_wrong_usage_is_said_before_the_scene_is_loaded(
    fourdvd, tmp_path, output, options, message
):
    outcome = fourdvd("render", tmp_path / "no scene", "-o", tmp_path / output, *options)
    assert outcome.exit_code == 2
    assert message in outcome.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_unavailable_cuda_exits_with_5_and_says_what_to_do(fourdvd, scene_folder, tmp_path):
    outcome = fourdvd(
        "render", scene_folder, "-o", tmp_path / "video.mp4", "--device", "cuda", "--quiet"
    )
    assert outcome.exit_code == 5
    assert "cpu" in outcome.stderr
    assert not (tmp_path / "video.mp4").exists()


def test_a_full_disk_leaves_nothing(fourdvd, scene_folder, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(os, "replace", full)
    outcome = fourdvd("render", scene_folder, "-o", tmp_path / "video.mp4", "--frames", 2)
    assert outcome.exit_code == 1
    assert outcome.stderr.splitlines()[-1].endswith("video.mp4: No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


@pytest.mark.parametrize("place", ["/proc/video.mp4", "{tmp}/scene/scene.json/video.mp4"])
def test_an_unwritable_output_is_reported_on_one_line(fourdvd, scene_folder, tmp_path, place):
    output = place.format(tmp=tmp_path)
    outcome = fourdvd("render", scene_folder, "-o", output, "--frames", 2, "--quiet")
    assert outcome.exit_code == 1
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "number"), [("video.mp4", signal.SIGINT), ("video", signal.SIGTERM)]
)
def test_a_signal_while_rendering_leaves_nothing(start, scene_folder, tmp_path, name, number):
    process = start("render", scene_folder, "-o", tmp_path / name, "--frames", 20_000)
    process.wait_until(lambda: list(tmp_path.glob(".video.partial-*")))
    process.send_signal(number)
    outcome = process.ending()
    assert outcome.exit_code == 130
    assert "Traceback" not in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


@pytest.mark.parametrize("over", [False, True])
def test_a_scene_that_knows_no_source_camera_is_reported_on_one_line(
    fourdvd, scene_folder, tmp_path, over
):
    output, film = tmp_path / "video.mp4", tmp_path / "film.mp4"
    film.touch()
    options = ["--over", film] if over else []
    outcome = fourdvd("render", scene_folder, "-o", output, "--camera", "source", "-q", *options)
    assert outcome.exit_code == 3
    assert "source camera" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not output.exists()


def test_images_with_alpha_are_written_on_request(fourdvd, scene_folder, tmp_path):
    options = ["--camera", "fixed", "--frames", 1, "--transparent", "--quiet"]
    assert fourdvd("render", scene_folder, "-o", tmp_path / "images", *options).exit_code == 0
    with Image.open(tmp_path / "images" / "frame_0000.png") as image:
        assert image.mode == "RGBA"
