"""Assemble the player's page: one HTML file with its style, scripts, poster and scene.

The page makes no request: its Content-Security-Policy forbids all of them, except those to its own
server when `fourdvd view` sends it.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import re
from functools import cache
from importlib import resources

import numpy as np

from recon.errors import InputError
from recon.media import encode_image

SCRIPTS = ("format.js", "motion.js", "renderer.js", "camera.js", "player.js", "controls.js")
POSTER_QUALITY = 80


def page(packed: bytes | None, title: str, poster: np.ndarray | None = None) -> str:
    """Assemble the page.

    Args:
        packed: the result of `recon.player.packing.pack_scene`; None: the page gets it from the
            server that sent it.
        title: title of the page.
        poster: image shown until the scene is drawn, before the color of the page; sRGB with
            straight alpha, uint8, [H, W, 4].
    """
    scripts = "\n".join(_source(name) for name in SCRIPTS)
    scene = "" if packed is None else base64.b64encode(compressed(packed)).decode()
    image = ""
    if poster is not None:
        encoded = base64.b64encode(encode_image(poster, ".webp", quality=POSTER_QUALITY)).decode()
        image = f"data:image/webp;base64,{encoded}"
    values = {
        "title": html.escape(title),
        "connect": "'self'" if packed is None else "'none'",
        "poster": image,
        "style": _source("style.css"),
        "scene": scene,
        "worker": _source("worker.js"),
        "vertex": _source("splats.vert"),
        "fragment": _source("splats.frag"),
        "script": scripts,
    }
    return re.sub(r"{{(\w+)}}", lambda found: values[found[1]], _source("index.html"))


def scene_of_page(text: str) -> bytes:
    """Return the packed scene of a page; inverse of `page`.

    Raises:
        InputError: the page has no scene, or a damaged one.
    """
    found = re.search(r'<script id="scene" type="text/plain">([^<]*)</script>', text)
    if found is None or not found[1]:
        raise InputError("expected a page of the player with a scene in it")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(base64.b64decode(found[1], validate=True))) as file:
            return file.read()
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"the scene in the page is damaged ({error}); export it again") from error


def compressed(packed: bytes) -> bytes:
    """Compress a packed scene as the page reads it; equal scenes give equal bytes."""
    return gzip.compress(packed, compresslevel=9, mtime=0)


@cache
def _source(name: str) -> str:
    return (resources.files("recon.player") / "web" / name).read_text(encoding="utf-8")
