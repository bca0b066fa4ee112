"""Exported files in other programs: gltf-validator, three.js and Blender read the same motion.

Skipped without the programs: `npm ci --prefix tests/recon/exporters/readers` fetches the first two.
With FOURDVD_SCENE=DIR the mesh of that scene folder is read instead of a tiny one, and with
FOURDVD_PICTURES=DIR pictures of it are kept there.
"""

import dataclasses
import functools
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from recon.deformation.bones import BoneDeformation
from recon.exporters.conventions import rotation_to
from recon.exporters.glb_mesh import glb_files, mesh_from_glb
from recon.exporters.gltf import read_glb
from recon.exporters.gltf_playback import frame_times_of
from recon.exporters.options import ExportOptions
from recon.scene import Scene, load_scene
from tests.recon.exporters.test_root_motion import make_source
from tests.recon.player.browser import Browser, find_browser
from tests.recon.player.conftest import make_scene

READERS = Path(__file__).parent / "readers"
OPTIONS = ExportOptions(faces=1500, texture_size=128, resolution=48)

pytestmark = pytest.mark.slow
needs_npm = pytest.mark.skipif(
    shutil.which("node") is None or not (READERS / "node_modules").is_dir(),
    reason=f"needs Node.js and `npm ci --prefix tests/recon/exporters/{READERS.name}`",
)
needs_bpy = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="Blender's module is not installed: [data]"
)


def moving_scene() -> Scene:
    """The scene to read: one that moves by bones."""
    given = os.environ.get("FOURDVD_SCENE")
    if given:
        return load_scene(given)
    scene = make_scene("bones", count=800)
    assert isinstance(scene.deformation, BoneDeformation)
    for rotation in scene.deformation.rotations:  # turns of some degrees per frame
        rotation.data.lerp_(torch.tensor([1.0, 0.0, 0.0, 0.0]), 0.8)
    source = make_source(2, T=len(scene.times))  # so that there is a camera, and the root moves
    return dataclasses.replace(scene, source_camera=dataclasses.replace(source, times=scene.times))


def picture_path(tmp_path: Path, name: str) -> Path:
    """Where a picture is written."""
    return Path(os.environ.get("FOURDVD_PICTURES", tmp_path)) / name


@pytest.fixture(scope="module", params=["auto", "morph"])
def glb_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene = moving_scene()
    options = ExportOptions(
        **(OPTIONS.__dict__ if "FOURDVD_SCENE" not in os.environ else {})
        | {"animation": request.param}
    )
    ((_, data),) = glb_files(scene, scene.times, options)
    path = tmp_path_factory.mktemp("glb") / f"{request.param}.glb"
    path.write_bytes(data)
    return path


def tried_seconds(data: bytes) -> np.ndarray:
    """The first and the last frame, and times in between frames."""
    frames = frame_times_of(read_glb(data))
    return np.array([frames[0], 0.4 * frames[1] + 0.6 * frames[2], frames[-1]])


@needs_npm
def test_gltf_validator_finds_neither_errors_nor_warnings(glb_file: Path):
    command = ["node", READERS / "validate.cjs", glb_file]
    issues = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"][:5]


@needs_bpy
def test_blender_moves_the_vertices_alike(glb_file: Path, tmp_path: Path):
    data = glb_file.read_bytes()
    seconds = tried_seconds(data)
    script = READERS / "blender_play.py"
    command = [sys.executable, script, glb_file, tmp_path / "played.npz", *map(str, seconds)]
    picture = picture_path(tmp_path, f"blender_{glb_file.stem}.png")
    environment = os.environ | {"PNG": str(picture)}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=300)
    played = np.load(tmp_path / "played.npz")
    expected = mesh_from_glb(data, seconds).positions @ rotation_to("y-up").numpy()
    errors = np.linalg.norm(played["positions"] - expected, axis=-1).max(axis=1) / np.ptp(expected)
    assert errors[[0, 2]].max() < 1e-4
    assert errors[1] < 0.02  # Blender blends components of quaternions instead of angles
    if glb_file.stem == "auto":
        assert played["names"][0] == "root"
        assert (played["parents"][1:] != "").all()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the readers' folder and, as `scene.glb`, of the file."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            if path.partition("?")[0] == "/scene.glb":
                return str(tmp_path / "scene.glb")
            return super().translate_path(path)

        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(READERS))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@needs_npm
@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome found")
def test_three_js_moves_the_vertices_alike(glb_file: Path, address: str, tmp_path: Path):
    """three.js reads one set of joints, so the weaker influences are missing there."""
    path = find_browser()
    assert path is not None
    data = glb_file.read_bytes()
    (tmp_path / "scene.glb").write_bytes(data)
    seconds = tried_seconds(data)
    browser = Browser(path)
    try:
        browser.open(f"{address}/three.html?file=scene.glb", width=500, height=500)
        browser.wait_until("window.ready")
        played = [browser.evaluate(f"at({time})") for time in seconds]
        bones = browser.evaluate("bones")
        expected = mesh_from_glb(data, seconds).positions
        browser.evaluate(f"draw({seconds[1]}, {3.2 * np.abs(expected).max()})")
        browser.screenshot(picture_path(tmp_path, f"three_{glb_file.stem}.png"))
    finally:
        browser.close()
    assert browser.problems == []
    found = np.array(played)
    size = np.linalg.norm(np.ptp(expected[0], axis=0))
    errors = np.linalg.norm(found - expected, axis=-1) / size
    assert errors.mean() < (5e-3 if glb_file.stem == "auto" else 1e-5), errors.max()
    assert (bones[:2] == ["root", "body"]) == (glb_file.stem == "auto")
