"""The exported page in a real browser: its picture, its controls, and that it asks for nothing."""

import base64
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from recon.exporters.folder import export
from recon.grid.source_camera import SourceCamera
from recon.metrics.image import psnr
from recon.scene import Scene
from recon.similarity import Similarity
from tests.recon.player.browser import Browser
from tests.recon.player.conftest import make_scene

SIZE = 128
POSITION = "player.position"


# Draws, and reads the canvas back, the first row on top: RGBA in base64.
PIXELS = """(() => {
  player.draw();
  const { gl, canvas } = player.renderer;
  const [width, height] = [canvas.width, canvas.height];
  const rows = Array.from({ length: height }, (_, y) => {
    const row = new Uint8Array(4 * width);
    gl.readPixels(0, height - 1 - y, width, 1, gl.RGBA, gl.UNSIGNED_BYTE, row);
    return String.fromCharCode(...row);
  });
  return btoa(rows.join(""));
})()"""


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
    data = browser.evaluate(PIXELS)
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


@pytest.mark.parametrize("scale", [1e-6, 500.0])
def test_the_unit_of_the_world_does_not_matter(browser: Browser, tmp_path: Path, scale: float):
    scene = make_scene("bones", size=SIZE).mapped(Similarity(scale, np.zeros(3)))
    opened(browser, scene, tmp_path)
    assert psnr(picture(browser, 0.37), scene.render(scene.cameras[0], 0.37) / 255) > 38
    zoomed = "player.camera.zoom(0.5), player.camera.step(0.01, false), player.camera.now.distance"
    assert 0.5 < browser.evaluate(f"({zoomed}) / player.camera.home.distance") < 1


def test_keys_slider_and_buttons_move_time_and_camera(browser: Browser, tmp_path: Path):
    opened(browser, make_scene("bones"), tmp_path, width=1280, height=800)
    browser.key("ArrowRight")
    assert browser.evaluate(POSITION) == 1
    browser.key("End")
    assert browser.evaluate("player.time") == 1
    browser.evaluate(
        "controls.slider.value = 0.5; controls.slider.dispatchEvent(new Event('input'))"
    )
    assert browser.evaluate("[player.time, controls.clock.textContent]") == [0.5, "0.2 s"]
    browser.key(" ")
    browser.wait_until(f"player.playing && {POSITION} != 2")
    browser.evaluate("document.getElementById('play').click()")
    assert browser.evaluate("player.playing") is False
    browser.key(">", modifiers=8)
    browser.key("l")
    browser.key("b")
    assert browser.evaluate("[player.speed, player.pingPong, player.background]") == [
        2,
        True,
        [1, 1, 1],
    ]
    browser.key("ArrowLeft", modifiers=8)
    browser.key("+")
    moved = "[player.camera.goal.yaw, player.camera.goal.distance]"
    yaw, distance = browser.evaluate(moved)
    assert yaw < np.radians(30)
    assert distance < 3.1
    browser.key("i")
    assert browser.evaluate(moved) == pytest.approx([np.radians(30), 3.2])
    browser.key("?")
    assert browser.evaluate("document.getElementById('keys').open") is True
    browser.evaluate("document.getElementById('keys').close()")
    assert browser.problems == []


def test_the_input_camera_shows_the_object_where_it_was_in_the_video(
    browser: Browser, tmp_path: Path
):
    scene = make_scene("bones", size=SIZE)
    square = scene.cameras[0]
    points = np.linspace((40.0, 100.0), (150.0, 60.0), len(scene.times))
    camera = dataclasses.replace(square, fl_x=80.0, fl_y=80.0, cx=40.0, cy=100.0)
    camera = dataclasses.replace(camera, width=200, height=200)
    source = SourceCamera(camera, scene.times, points, tuple(range(len(points))))
    scene = dataclasses.replace(scene, source_camera=source)
    opened(browser, scene, tmp_path)
    browser.evaluate("player.stillness = true")  # no easing
    for time in (0, 0.37, 1):
        assert psnr(picture(browser, time), scene.render(square, time) / 255) > 38
    browser.key("i")
    for time in (0, 0.37, 1):
        expected = scene.render(source.at(time).resized(SIZE, SIZE), time) / 255
        assert psnr(picture(browser, time), expected) > 38
    lens = "player.camera.goal.lens"
    browser.key("i")
    assert browser.evaluate(lens) == 0
    browser.key("ArrowLeft", modifiers=8)
    browser.key("i")
    assert browser.evaluate(lens) == 1
    browser.key("ArrowLeft", modifiers=8)
    browser.key("i")
    assert browser.evaluate(lens) == 1
    centers = "[0, 1].map((time) => player.camera.view(200, 200, time).center)"
    browser.evaluate("player.settled()")
    first, last = browser.evaluate(centers)
    assert first != last
    browser.key("ArrowLeft", modifiers=8)
    first, last = browser.evaluate(centers)
    assert first == last  # from another side, the object would seem to slide
    browser.evaluate("player.canvas.dispatchEvent(new MouseEvent('dblclick'))")
    assert browser.evaluate(lens) == 0
    assert browser.problems == []


def test_mouse_and_touch_orbit_move_and_zoom(browser: Browser, tmp_path: Path):
    opened(browser, make_scene("bones"), tmp_path, width=390, height=844, mobile=True)
    goal = "((p) => [p.yaw, p.pitch, p.distance, ...p.target])(player.camera.goal)"
    home = browser.evaluate(goal)
    browser.touch("touchStart", (200, 300))
    browser.touch("touchMove", (240, 330))
    browser.touch("touchEnd")
    turned = browser.evaluate(goal)
    assert turned[0] != home[0]
    assert turned[1] > home[1]
    assert turned[2:] == home[2:]
    browser.touch("touchStart", (150, 300), (250, 300))
    browser.touch("touchMove", (100, 320), (300, 320))
    browser.touch("touchEnd")
    pinched = browser.evaluate(goal)
    assert pinched[:2] == turned[:2]
    assert pinched[2] == pytest.approx(home[2] / 2, rel=0.02)
    assert pinched[3:] != turned[3:]
    browser.resize(390, 844)
    browser.mouse("mouseWheel", 200, 300, deltaX=0, deltaY=50)
    browser.mouse("mousePressed", 200, 300, button="left", buttons=1)
    browser.mouse("mouseMoved", 230, 300, button="left", buttons=1)
    browser.mouse("mouseReleased", 230, 300, button="left")
    after = browser.evaluate(goal)
    assert after[2] > pinched[2]
    assert after[0] < pinched[0]
    browser.evaluate("player.settled()")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    assert browser.problems == []


@pytest.mark.slow
def test_memory_does_not_grow_over_200_loops_while_it_loops(browser: Browser, tmp_path: Path):
    opened(browser, make_scene("keyframes"), tmp_path)
    # Steps of playback without waiting for real time: each one sorts and draws.
    loops = """(async (loops) => {
      for (let i = 0; i < 2 * loops; i++) {
        player.seek(2 * (i % 2) + 0.3);
        await player.settled();
      }
    })"""
    used = []
    browser.evaluate(f"{loops}(10)")  # buffers and caches reach their size
    for _ in range(2):
        browser.call("HeapProfiler.collectGarbage")
        used.append(browser.call("Runtime.getHeapUsage")["usedSize"])
        browser.evaluate(f"{loops}(100)")
    browser.call("HeapProfiler.collectGarbage")
    used.append(browser.call("Runtime.getHeapUsage")["usedSize"])
    assert used[-1] - used[0] < 300_000
    assert browser.problems == []


def test_a_browser_without_webgl_shows_a_sentence(browser: Browser, tmp_path: Path):
    export(make_scene("bones"), tmp_path, ["html"])
    script = "HTMLCanvasElement.prototype.getContext = () => null"
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    browser.open((tmp_path / "html/scene.html").as_uri(), 390, 844)
    assert "WebGL 2" in browser.evaluate("document.getElementById('failure').textContent")
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


def test_a_page_that_is_cut_off_shows_a_sentence(browser: Browser, tmp_path: Path):
    export(make_scene("bones"), tmp_path, ["html"])
    page = tmp_path / "html/scene.html"
    head, tail = page.read_text().split('<script id="scene" type="text/plain">')
    scene, rest = tail.split("</script>", 1)
    page.write_text(f'{head}<script id="scene" type="text/plain">{scene[:4000]}</script>{rest}')
    browser.open(page.as_uri(), 390, 844)
    browser.wait_until("document.body.classList.contains('failed')")
    assert "damaged" in browser.evaluate("document.getElementById('failure').textContent")


def test_the_scene_comes_back_after_the_graphics_unit_was_taken_away(
    browser: Browser, tmp_path: Path
):
    scene = make_scene("bones", size=SIZE)
    opened(browser, scene, tmp_path)
    browser.evaluate("""new Promise((resolve) => {
      const extension = player.renderer.gl.getExtension('WEBGL_lose_context');
      player.canvas.addEventListener('webglcontextrestored', () => resolve());
      extension.loseContext();
      setTimeout(() => extension.restoreContext(), 100);
    })""")
    expected = scene.render(scene.cameras[0], 0.37) / 255
    assert psnr(picture(browser, 0.37), expected) > 38
