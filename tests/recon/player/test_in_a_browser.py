"""The exported page in a real browser: its picture, its controls, and that it asks for nothing."""

import base64
from pathlib import Path

import numpy as np
import pytest

from recon.exporters.folder import export
from recon.metrics import psnr
from recon.scene import Scene
from tests.recon.player.browser import Browser
from tests.recon.player.conftest import make_scene

SIZE = 128
POSITION = "player.position"


def opened(browser: Browser, scene: Scene, folder: Path, **metrics) -> None:
    """Export a scene, open the page and pause it."""
    export(scene, folder, ["html"])
    page = folder / "html" / "scene.html"
    browser.open(page.as_uri(), **({"width": SIZE, "height": SIZE} | metrics))
    browser.wait_until("!document.body.classList.contains('loading')")
    browser.evaluate("player.setPlaying(false); player.settled()")


def picture(browser: Browser, time: float) -> np.ndarray:
    """What the player draws at a time over white, in [0, 1], [H, W, 3]."""
    browser.evaluate(f"player.background = [1, 1, 1]; player.seekTime({time}); player.settled()")
    data = browser.evaluate("btoa(String.fromCharCode(...player.pixels()))")
    rgba = np.frombuffer(base64.b64decode(data), np.uint8).reshape(SIZE, SIZE, 4)
    return rgba[..., :3] / 255


@pytest.mark.parametrize(("motion", "degree"), [("bones", 0), ("bones", 3), ("keyframes", 1)])
def test_the_page_draws_the_picture_of_our_rasterizer(
    browser: Browser, tmp_path: Path, motion: str, degree: int
):
    scene = make_scene(motion, degree=degree, size=SIZE)
    opened(browser, scene, tmp_path)
    for time in (0, 0.37, 1):
        expected = scene.render(scene.cameras[0], time) / 255
        assert psnr(picture(browser, time), expected) > 38
    assert browser.problems == []
    outside = [url for url in browser.requests if not url.startswith(("blob:", "data:"))]
    assert outside == [(tmp_path / "html/scene.html").as_uri()]
