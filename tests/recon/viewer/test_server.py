import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
import torch

from recon.errors import InputError, OutputError
from recon.exporters.folder import export
from recon.fitting.checkpoint import TrainFolder, load_unfinished_scene
from recon.fitting.config import FitConfig
from recon.fitting.fit import Fit
from recon.player import packing
from recon.player.packing import unpack
from recon.player.page import compressed
from recon.scene import Scene, write_scene
from recon.similarity import Similarity
from recon.viewer.server import PlayerServer
from recon.viewer.sources import SceneSource, open_source
from tests.recon.player.browser import Browser
from tests.recon.player.conftest import make_scene


@pytest.fixture
def scene() -> Scene:
    return make_scene("keyframes", count=100)


@pytest.fixture
def served(scene: Scene, tmp_path: Path) -> Iterator[PlayerServer]:
    scene.save(tmp_path / "scene")
    with PlayerServer(open_source(tmp_path / "scene"), "scene") as server:
        server.start()
        yield server
        server.shutdown()


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.read()


def test_the_server_sends_page_state_and_scene(served: PlayerServer, scene: Scene):
    assert b"<canvas" in get(served.url)
    assert json.loads(get(f"{served.url}state.json"))["live"] is False
    assert get(f"{served.url}scene.bin") == compressed(served.source.packed())


def test_other_paths_and_other_hosts_are_refused(served: PlayerServer):
    with pytest.raises(HTTPError, match="404"):
        get(f"{served.url}../scene.json")
    with pytest.raises(HTTPError, match="403"):
        get(served.url, Host="example.org:80")


def test_the_page_of_the_server_plays_the_scene(served: PlayerServer, browser: Browser):
    browser.open(served.url, 64, 64)
    browser.wait_until("!document.body.classList.contains('loading')")
    assert browser.evaluate("player.scene.sets[0].count") == 100
    assert browser.problems == []


def test_a_port_in_use_is_a_sentence(served: PlayerServer):
    port = served.server_address[1]
    with pytest.raises(OutputError, match=f"{port} is in use"):
        PlayerServer(served.source, "scene", port)


def test_exported_ply_files_are_played_as_keyframes(scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["ply"])
    packed = unpack(open_source(tmp_path / "ply").packed())
    assert packed.kind == "keyframes"
    assert len(packed.poses) == 5
    low, high = (f(scene.at(0).means.numpy(), axis=0) for f in (np.min, np.max))
    shown = packed.at(0).means.numpy()
    assert np.allclose([shown.min(0), shown.max(0)], [low, high], atol=1e-3)


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_path_without_a_scene_is_refused(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        open_source(tmp_path / name)


def test_a_damaged_ply_file_is_named(tmp_path: Path):
    (tmp_path / "frame_0.ply").write_bytes(b"ply\nend_header\n")
    with pytest.raises(InputError, match=r"frame_0\.ply"):
        open_source(tmp_path).packed()


def test_a_running_fit_is_shown_in_the_units_of_its_world(tiny_grid, tmp_path: Path):
    grid = Similarity(100.0, np.array([500.0, 0.0, -200.0])).grid(tiny_grid)
    fit = Fit(grid, FitConfig(iterations=40, initial_gaussians=50, max_gaussians=50, threads=1))
    train = TrainFolder(tmp_path, {})
    train.resume(fit)
    while not fit.joined or fit.deformation.name == "static":
        fit.step()
    train.save(fit)
    shown = load_unfinished_scene(tmp_path)
    gaussians, deformation = fit.result()
    for time in grid.times:
        expected = deformation(gaussians, float(time))
        torch.testing.assert_close(shown.at(float(time)).means, expected.means)
    assert np.allclose(shown.cameras[0].T_world_camera, grid.cameras[0].T_world_camera)


def begun_fit(grid, folder: Path) -> tuple[Fit, TrainFolder]:
    """Begin a fit in the folder of a scene, and save it after its first iteration."""
    config = FitConfig(iterations=40, initial_gaussians=50, max_gaussians=50, threads=1)
    fit, train = Fit(grid, config), TrainFolder(folder, {})
    train.resume(fit)
    fit.step()
    train.save(fit)
    return fit, train


def test_a_running_fit_is_shown_from_its_checkpoints(tiny_grid, tmp_path: Path, scene: Scene):
    folder = tmp_path / "scene"
    source = SceneSource(folder)
    assert source.state() == ("", "fitting · waiting for the first checkpoint", True)
    fit, train = begun_fit(tiny_grid, folder)
    first = source.state()
    assert first.live
    assert first.revision
    packed = unpack(open_source(folder).packed())
    assert len(packed.poses[0].means) == 50
    assert np.allclose(packed.setting.times, tiny_grid.times)
    fit.step()
    train.save(fit)
    assert source.state().revision != first.revision
    write_scene(scene, folder)
    assert not source.state().live
    assert len(unpack(source.packed()).poses[0].means) == 100


def test_the_fit_that_replaces_a_scene_is_shown_instead_of_it(
    tiny_grid, tmp_path: Path, scene: Scene
):
    folder = tmp_path / "scene"
    scene.save(folder)
    source = SceneSource(folder, refit=True)
    assert source.state() == ("", "fitting · waiting for the first checkpoint", True)
    begun_fit(tiny_grid, folder)
    assert source.state().live
    assert len(unpack(source.packed()).poses[0].means) == 50
    assert len(unpack(open_source(folder).packed()).poses[0].means) == 100
    replacing = make_scene("keyframes", count=70)
    replacing.save(folder, overwrite=True)
    assert not source.state().live
    assert len(unpack(source.packed()).poses[0].means) == 70


def test_the_ply_file_with_nan_or_too_many_gaussians_is_named(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    export(scene, tmp_path, ["ply"])
    file = tmp_path / "ply" / "frame_0002.ply"
    data = bytearray(file.read_bytes())
    data[-4:] = b"\xff\xff\xff\x7f"  # NaN
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"frame_0002\.ply.*NaN"):
        open_source(tmp_path / "ply").packed()
    monkeypatch.setattr(packing, "MAX_GAUSSIANS", 99)
    with pytest.raises(InputError, match=r"frame_0000\.ply.*100"):
        open_source(tmp_path / "ply").packed()
