"""HTML: the player and the scene in one file, which opens in any browser without a network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recon.exporters.options import ExportOptions
from recon.film.camera_paths import resized
from recon.film.compositing import render_rgba
from recon.player.packing import PackedScene, pack_scene, unpack
from recon.player.page import page, scene_of_page
from recon.scene import Scene

FILE = "scene.html"
POSTER_SIZE = 512  # pixels
TITLE = "4D scene"


def html_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield the page; bones move at any time, other motions between the poses at `times`."""
    yield FILE, page(pack_scene(scene, times), TITLE, poster(scene)).encode()


def scene_from_html(data: bytes) -> PackedScene:
    """Decode the scene in a page.

    Raises:
        InputError: The data is not a page of the player, or it is damaged.
    """
    return unpack(scene_of_page(data.decode("utf-8", "replace")))


def poster(scene: Scene) -> np.ndarray:
    """Render the first frame from the input camera; sRGB, straight alpha, uint8, [H, W, 4]."""
    return render_rgba(scene, resized(scene.cameras[0], POSTER_SIZE), float(scene.times[0]))
