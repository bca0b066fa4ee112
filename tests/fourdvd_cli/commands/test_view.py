import json
import signal
import socket
import urllib.request
import webbrowser

import pytest

from fourdvd_cli import console
from fourdvd_cli.playing import playing
from recon.errors import InputError
from recon.scene import load_scene
from recon.viewer.server import PlayerServer
from recon.viewer.sources import SceneSource


def test_the_page_is_served_until_ctrl_c(start, scene_folder):
    process = start("view", scene_folder, "--no-browser")
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{url}state.json") as answer:
        assert json.load(answer)["revision"]
    process.send_signal(signal.SIGINT)
    ended = process.ending()
    assert ended.exit_code == 0
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_ends_with_exit_code_1(fourdvd, scene_folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = fourdvd("view", scene_folder, "--port", port, "--no-browser")
    assert outcome.exit_code == 1
    assert f"port {port} is in use" in outcome.stderr


def test_a_folder_without_a_scene_ends_with_exit_code_3(fourdvd, tmp_path):
    outcome = fourdvd("view", tmp_path, "--no-browser")
    assert outcome.exit_code == 3
    assert str(tmp_path) in outcome.stderr.replace("\n", "")


def test_a_scene_that_is_cut_off_ends_with_exit_code_3(fourdvd, scene_folder):
    tensors = scene_folder / "scene.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    outcome = fourdvd("view", scene_folder, "--no-browser")
    assert outcome.exit_code == 3
    assert "scene.safetensors" in outcome.stderr


def test_a_missing_browser_is_a_sentence_with_the_address(scene_folder, monkeypatch):
    said = []
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    monkeypatch.setattr(console, "say", said.append)
    with PlayerServer(SceneSource(scene_folder), "scene") as server, playing(server):
        assert said[-1] == f"no browser was found; open {server.url} in one"


@pytest.mark.usefixtures("short_fits")
def test_reconstruct_view_shows_the_scene_folder_and_waits_for_ctrl_c(
    fourdvd, tiny_grid_folder, tmp_path, monkeypatch
):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) is None)

    def wait() -> None:
        with urllib.request.urlopen(f"{opened[0]}state.json") as answer:
            assert json.load(answer)["live"] is False

    monkeypatch.setattr("fourdvd_cli.commands.reconstruct.wait_for_interrupt", wait)
    out = tmp_path / "scene"
    assert fourdvd("reconstruct", tiny_grid_folder, "-o", out, "--view").exit_code == 0
    assert len(load_scene(out).gaussians.means) > 0


def test_a_scene_with_nan_is_refused(fourdvd, scene_folder):
    scene = load_scene(scene_folder)
    scene.gaussians.means[0] = float("nan")
    scene.save(scene_folder, overwrite=True)
    with pytest.raises(InputError, match="NaN"):
        SceneSource(scene_folder).packed()
    assert fourdvd("export", scene_folder, "-o", "out", "-f", "html").exit_code == 3
