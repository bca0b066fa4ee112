"""Segmentation of the object in a clip: masks and alpha, by kind of background.

    any background     remove_background     U²-Net through the package rembg
    uniform color      cut_from_uniform      `recon.grid.matte`; on white the look is kept
    soft silhouettes   cut_soft_silhouette   for images that a small network made over white

`object_mask` tells the object from what a matting leaves of the background.

Letters: T frames, H × W pixels.
"""

from __future__ import annotations

import importlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, binary_fill_holes, gaussian_filter, maximum_filter

from recon.errors import BackendError, WeightsError
from recon.grid.grid import WHITE
from recon.grid.matte import TOLERANCE, border_color, border_pixels, matte

# -- any background

# Apache-2.0; the license of rembg's default network excludes commercial use. U²-Net comes first
# if both files are there; the small U²-Net-p has 4.6 MB instead of 176.
MODELS = ("u2net", "u2netp")
INSTALL = "pip install 'fourdvd[background]'"
# What the network is sure of, from its mask in [0, 255]; alpha matting solves the rest. If eroded
# by 10 px, as by default, thin limbs are lost.
MATTING = {
    "alpha_matting": True,
    "alpha_matting_foreground_threshold": 200,
    "alpha_matting_background_threshold": 30,
    "alpha_matting_erode_size": 5,
}
MATTING_SIDE = 1024  # alpha matting of a larger image takes minutes and gigabytes


def remove_background(images: np.ndarray) -> np.ndarray:
    """Segment the object of each frame with U²-Net, or U²-Net-p; nothing is downloaded.

    Args:
        images: uint8, [T, H, W, 3].

    Returns:
        RGBA with straight alpha, uint8, [T, H, W, 4].

    Raises:
        BackendError: the package rembg is missing.
        WeightsError: the network's file is missing.
    """
    rembg = _package()
    session = rembg.new_session(check_model_file().stem)
    return np.stack([_cut_out(rembg, session, image) for image in images])


def check_model_file() -> Path:
    """Return the path of the weights of the first of `MODELS` that is there.

    Raises:
        WeightsError: none is in the folders that rembg searches.
    """
    for model in MODELS:
        for place in _places(model):
            if place.is_file():
                return place
    expected = " or ".join(str(_places(model)[0]) for model in MODELS)
    raise WeightsError(
        f"the network that removes the background is missing; expected {expected}",
        hint=f"rembg d {MODELS[0]}    (downloads it; U2NET_HOME sets the folder)",
    )


def _places(model: str) -> list[Path]:
    """List the paths that rembg searches: its present folder, and that of older versions."""
    u2net_home, data_home = os.environ.get("U2NET_HOME"), os.environ.get("XDG_DATA_HOME")
    old = Path(u2net_home or Path(data_home or "~", ".u2net"))
    new = Path(data_home, "rembg") if data_home else Path("~/.rembg")
    home = Path(u2net_home or os.environ.get("REMBG_HOME") or new)
    places = (home / "models" / model / f"{model}.onnx", old / f"{model}.onnx")
    return [place.expanduser() for place in places]


def _package() -> ModuleType:
    try:
        importlib.import_module("onnxruntime")  # without it, importing rembg ends the program
        return importlib.import_module("rembg")
    except ImportError as error:
        raise BackendError(
            f"removing the background needs the packages rembg and onnxruntime ({error})",
            hint=INSTALL,
        ) from error


def _cut_out(rembg: ModuleType, session: object, image: np.ndarray) -> np.ndarray:
    """Segment one frame, a large one at lower resolution; opaque pixels keep their colors."""
    height, width = image.shape[:2]
    scale = min(1.0, MATTING_SIDE / max(height, width))
    small = Image.fromarray(image)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = small.resize(size, Image.Resampling.LANCZOS)
    with redirect_stdout(io.StringIO()):  # pymatting prints warnings of its solver there
        cut = rembg.remove(small, session=session, **MATTING)
    if scale < 1:
        cut = cut.resize((width, height), Image.Resampling.BICUBIC)
    result = np.array(cut.convert("RGBA"))
    opaque = result[..., 3] == 255
    result[opaque, :3] = image[opaque]
    return result


# -- background of a uniform color

WHITE_LEVEL = 250  # least R, G and B of a background that is taken for white
NOISE_LEVELS = 1  # deviation from white that still counts as white, at least
FAINT_ALPHA = 12  # of 255; up to it, alpha may be noise, a veil or the end of a shadow
FAINT_EDGE_PX = 2  # an edge is as faint as a veil, so near the object it stays


def cut_from_uniform(images: np.ndarray) -> np.ndarray | None:
    """Cut an object out of a background of uniform color, the same in all frames.

    Over white, frames keep their look: see `cut_from_white`.

    Args:
        images: uint8, [T, H, W, 3].

    Returns:
        RGBA with straight alpha, uint8, [T, H, W, 4], or None if the background is not uniform.
    """
    background = border_color(images)
    if background is None:
        return None
    is_white = background.min() >= WHITE_LEVEL / 255
    noise = _noise_levels(images) if is_white else 0

    def cut(image: np.ndarray) -> np.ndarray:
        rgba = matte(image, np.array(WHITE) if is_white else background)
        return cut_from_white(image, rgba[..., 3], noise) if is_white else rgba

    with ThreadPoolExecutor() as pool:  # most of it is outside the GIL
        return np.stack(list(pool.map(cut, images)))


def _noise_levels(images: np.ndarray) -> int:
    """Return the deviation from white of nearly all background pixels at the border."""
    darkness = 255 - border_pixels(images).min(axis=-1)
    background = darkness[darkness <= 255 * TOLERANCE]
    return max(NOISE_LEVELS, int(np.quantile(background, 0.99)))


def cut_from_white(image: np.ndarray, alpha: np.ndarray, noise: int = NOISE_LEVELS) -> np.ndarray:
    """Add alpha to an image on white without changing its look on white.

    Alpha is raised where it is too small to explain the color, so that soft shadows, though almost
    white, are kept. Only specks that `matte` took for noise are lost.

    Args:
        image: uint8, [H, W, 3].
        alpha: estimated alpha, uint8, [H, W].
        noise: levels of deviation from white that count as white.

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]; on white it differs from `image` by at most
        `noise` levels.
    """
    darkness = 255 - image.astype(np.float32)  # of alpha F + (1 - alpha) white: alpha (255 - F)
    least = darkness.max(axis=-1)
    is_speck = (alpha == 0) & (least > 255 * TOLERANCE)
    enough = np.maximum(alpha, np.where((least > noise) & ~is_speck, least, 0))
    color = 255 - 255 * darkness / np.maximum(enough, 1)[..., None]
    color[enough == 0] = 255
    return np.rint(np.dstack([color.clip(0, 255), enough])).astype(np.uint8)


def object_mask(rgba: np.ndarray) -> np.ndarray:
    """Return the mask of an object, bool, [H, W], without what is faint in its alpha."""
    return rgba[..., 3] > FAINT_ALPHA


def without_veil(rgba: np.ndarray) -> np.ndarray:
    """Clear faint alpha away from the object, such as a matting leaves it, RGBA, [H, W, 4]."""
    near = binary_dilation(object_mask(rgba), iterations=FAINT_EDGE_PX)
    return rgba * near[..., None]


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
