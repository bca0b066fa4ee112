"""Cuts the object of a clip out of any background with a network of the package rembg.

Both the package and the network's file are optional; nothing is ever downloaded here. What it does
not know: which object is meant.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from recon.errors import WeightsError

MODEL = "u2net"  # Apache-2.0; the default of rembg may not be used commercially
INSTALL = "pip install 'fourdvd[background]'"
MATTING_SIDE = 1024  # the matting of a larger image takes minutes and gigabytes


def remove_background(images: np.ndarray) -> np.ndarray:
    """Separates the object in each frame.

    Args:
        images: uint8, [T, H, W, 3].

    Returns:
        RGBA with straight alpha, uint8, [T, H, W, 4].

    Raises:
        WeightsError: the package or the network's file is missing.
    """
    rembg = _package()
    check_model_file()
    session = rembg.new_session(MODEL)
    return np.stack([_cut_out(rembg, session, image) for image in images])


def check_model_file() -> Path:
    """Where the network's file is.

    Raises:
        WeightsError: it is nowhere where rembg would look for it.
    """
    places = _places()
    for place in places:
        if place.is_file():
            return place
    raise WeightsError(
        f"the network {MODEL} that removes the background is not here; expected {places[0]}",
        hint=f"rembg d {MODEL}    (downloads it; U2NET_HOME says where to)",
    )


def _places() -> list[Path]:
    """Where rembg looks for its file: a folder for each network, or the one of older versions."""
    u2net_home, data_home = os.environ.get("U2NET_HOME"), os.environ.get("XDG_DATA_HOME")
    old = Path(u2net_home or Path(data_home or "~", ".u2net"))
    new = Path(data_home, "rembg") if data_home else Path("~/.rembg")
    home = Path(u2net_home or os.environ.get("REMBG_HOME") or new)
    places = (home / "models" / MODEL / f"{MODEL}.onnx", old / f"{MODEL}.onnx")
    return [place.expanduser() for place in places]


def _package() -> ModuleType:
    try:
        importlib.import_module("onnxruntime")  # without it, rembg ends the program on import
        return importlib.import_module("rembg")
    except ImportError as error:
        raise WeightsError(
            f"removing the background needs the package rembg ({error})", hint=INSTALL
        ) from error


def _cut_out(rembg: ModuleType, session: object, image: np.ndarray) -> np.ndarray:
    """RGBA of one frame; a large one is matted small and keeps its own colours where opaque."""
    height, width = image.shape[:2]
    scale = min(1.0, MATTING_SIDE / max(height, width))
    small = Image.fromarray(image)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = small.resize(size, Image.Resampling.LANCZOS)
    cut = rembg.remove(small, session=session, alpha_matting=True)
    if scale < 1:
        cut = cut.resize((width, height), Image.Resampling.BICUBIC)
    result = np.array(cut.convert("RGBA"))
    opaque = result[..., 3] == 255
    result[opaque, :3] = image[opaque]
    return result
