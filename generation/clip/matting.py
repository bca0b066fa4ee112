"""Segmentation of the object in a clip: masks and alpha, by kind of background.

    any background     remove_background          U²-Net through the package rembg
    white background   mask_on_white, alpha_on_white, cut_from_white
    soft silhouettes   cut_soft_silhouette        for images that a small network made over white

Letters: T frames, H × W pixels.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image
from scipy.ndimage import binary_fill_holes, gaussian_filter, maximum_filter

from recon.errors import WeightsError
from recon.grid.grid import WHITE
from recon.grid.matte import TOLERANCE, matte

# -- any background

MODEL = "u2net"  # Apache-2.0; the license of rembg's default network excludes commercial use
INSTALL = "pip install 'fourdvd[background]'"
MATTING_SIDE = 1024  # alpha matting of a larger image takes minutes and gigabytes


def remove_background(images: np.ndarray) -> np.ndarray:
    """Segment the object of each frame with U²-Net; nothing is downloaded.

    Args:
        images: uint8, [T, H, W, 3].

    Returns:
        RGBA with straight alpha, uint8, [T, H, W, 4].

    Raises:
        WeightsError: the package rembg or the network's file is missing.
    """
    rembg = _package()
    check_model_file()
    session = rembg.new_session(MODEL)
    return np.stack([_cut_out(rembg, session, image) for image in images])


def check_model_file() -> Path:
    """Return the path of U²-Net's weights.

    Raises:
        WeightsError: it is in none of the folders that rembg searches.
    """
    places = _places()
    for place in places:
        if place.is_file():
            return place
    raise WeightsError(
        f"the network {MODEL}, which removes the background, is missing; expected {places[0]}",
        hint=f"rembg d {MODEL}    (downloads it; U2NET_HOME sets the folder)",
    )


def _places() -> list[Path]:
    """List the paths that rembg searches: its present folder, and that of older versions."""
    u2net_home, data_home = os.environ.get("U2NET_HOME"), os.environ.get("XDG_DATA_HOME")
    old = Path(u2net_home or Path(data_home or "~", ".u2net"))
    new = Path(data_home, "rembg") if data_home else Path("~/.rembg")
    home = Path(u2net_home or os.environ.get("REMBG_HOME") or new)
    places = (home / "models" / MODEL / f"{MODEL}.onnx", old / f"{MODEL}.onnx")
    return [place.expanduser() for place in places]


def _package() -> ModuleType:
    try:
        importlib.import_module("onnxruntime")  # without it, importing rembg ends the program
        return importlib.import_module("rembg")
    except ImportError as error:
        raise WeightsError(
            f"removing the background needs the package rembg ({error})", hint=INSTALL
        ) from error


def _cut_out(rembg: ModuleType, session: object, image: np.ndarray) -> np.ndarray:
    """Segment one frame, a large one at lower resolution; opaque pixels keep their colors."""
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


# -- white background

WHITE_LEVEL = 250  # mean of R, G and B above which SV4D takes a pixel for background
NOISE_LEVELS = 1  # deviation from white that still counts as white


def mask_on_white(image: np.ndarray) -> np.ndarray:
    """Return the object's mask: bool [H, W] of uint8 [H, W, 3]."""
    return image.sum(axis=-1, dtype=np.uint16) <= 3 * WHITE_LEVEL


def alpha_on_white(image: np.ndarray) -> np.ndarray:
    """Estimate the alpha of an object on white, with soft edges of a few pixels; uint8, [H, W].

    Args:
        image: uint8, [H, W, 3]; not enlarged, which would widen the edges.
    """
    return matte(image, np.array(WHITE))[..., 3]


def cut_from_white(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Add alpha to an image on white without changing its look on white.

    Alpha is raised where it is too small to explain the color, so that shadows and compression
    noise, though almost white, are kept.

    Args:
        image: uint8, [H, W, 3].
        alpha: estimated alpha, uint8, [H, W].

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]; on white it differs from `image` by at most one
        level.
    """
    darkness = 255 - image.astype(np.float32)  # of alpha F + (1 - alpha) white: alpha (255 - F)
    least = darkness.max(axis=-1)
    enough = np.maximum(alpha, np.where(least > NOISE_LEVELS, least, 0))
    color = 255 - 255 * darkness / np.maximum(enough, 1)[..., None]
    color[enough == 0] = 255
    return np.rint(np.dstack([color.clip(0, 255), enough])).astype(np.uint8)


# -- soft silhouettes

EDGE = (0.2, 0.4)  # coverages between which alpha rises from 0 to 1
NEIGHBORHOOD = 1 / 2  # side of the neighborhood over the side of the image
SMOOTHING_PX = 1.0
FAINT = 0.35  # lower bound of the darkness nearby, as a fraction of the image's maximum


def cut_soft_silhouette(image: np.ndarray) -> np.ndarray:
    """Estimate the alpha of an object on white whose silhouette fades out over many pixels.

    A small network draws the mean of all plausible objects, so silhouettes fade out as far as any
    of them reaches. The darkness of a pixel divided by the maximum darkness nearby estimates its
    coverage, the fraction of these objects that cover it. Alpha rises from 0 to 1 between the two
    coverages in `EDGE`. Both are below one half, because missing parts deviate more from the truth
    than faint extra ones. Colors stay unchanged.

    Args:
        image: uint8, [H, W, 3].

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]; holes enclosed by the object are filled.
    """
    colors = image.astype(np.float32) / 255
    coverage = _coverage(1 - colors.min(axis=-1))
    low, high = EDGE
    alpha = ((coverage - low) / (high - low)).clip(0, 1)
    alpha[np.asarray(binary_fill_holes(coverage >= high))] = 1
    colors[alpha == 0] = 1
    return np.rint(255 * np.dstack([colors, alpha])).astype(np.uint8)


def _coverage(darkness: np.ndarray) -> np.ndarray:
    """Estimate the fraction of plausible objects that cover each pixel, [H, W] in [0, 1]."""
    smooth = gaussian_filter(darkness, SMOOTHING_PX)
    nearby = maximum_filter(smooth, size=[round(NEIGHBORHOOD * side) | 1 for side in smooth.shape])
    return smooth / np.maximum(nearby, max(FAINT * float(smooth.max()), 2 * TOLERANCE))
