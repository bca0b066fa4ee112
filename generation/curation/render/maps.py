"""Ground truth beside the images of a grid: depth maps, normal maps and surface layers.

    depth/vVV/tTTT.png             16 bits, in units of 1e-4, 0 for background
    normals/vVV/tTTT.png           (n + 1) / 2 in the world frame, 8 bits, 0 for background
    layers/parts/vVV/tTTT.png      number of solid parts along the ray: 0, 1, or 2 for more, 8 bits
    layers/depth/vVV/tTTT.png      depths of the four layers
    layers/colors/vVV/tTTT.png     their colors, sRGB, 8 bits, 0 for background
    layers/normals/vVV/tTTT.png    their normals, which point out of the object

All are sampled at pixel centers. Images of layers are [4 · H, W]: front, exit of the first part,
entry of the last part and back, one below the other. Letters: H × W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from generation.curation.render.baked_asset import BakedAsset
from generation.curation.render.fast_renderer import FastRenderer
from generation.curation.render.settings import RenderSettings
from generation.surface_layers import SurfaceLayers, layer_normals, solid_layers
from recon.errors import GridError
from recon.media import read_png, write_png
from recon.native.mesh import Crossings

DEPTH_UNIT = 1e-4  # world units; 16 bits reach 6.5, twice the distance of the cameras
PLACE = "v{view:02d}/t{frame:03d}.png"


def write_maps(baked: BakedAsset, settings: RenderSettings, folder: Path) -> None:
    """Write the maps that the settings request.

    Args:
        baked: triangles of the asset.
        settings: settings of the render.
        folder: folder of the grid.

    Raises:
        BackendError: the kernels are not built.
        OSError: a file cannot be written.
    """
    renderer, cameras = FastRenderer(baked, settings.light, 1), settings.cameras()
    for frame in range(settings.frames):
        places = [PLACE.format(view=view, frame=frame) for view in range(settings.views)]
        if settings.depth or settings.normals:
            for place, camera in zip(places, cameras, strict=True):
                truth = renderer.surface_truth(frame, camera)
                if settings.depth:
                    _write(folder / "depth" / place, _depth_units(truth.depth))
                if settings.normals:
                    colors = _normal_colors(truth.normals, truth.depth > 0)
                    _write(folder / "normals" / place, colors)
        if settings.layers:
            found = renderer.crossings(frame, cameras)
            for place, crossings in zip(places, found, strict=True):
                write_layers(folder, place, crossings, settings.size, settings.size)


def write_layers(folder: Path, place: str, crossings: Crossings, height: int, width: int) -> None:
    """Write the surface layers of one image.

    Args:
        folder: folder of the grid.
        place: `PLACE` of the image.
        crossings: crossings of the image's rays.
        height: height H of the image in pixels.
        width: width W of the image in pixels.
    """
    layers = solid_layers(crossings, height, width)
    normals = _normal_colors(layer_normals(crossings, height, width), layers.mask)
    parts = layers.mask.astype(np.uint8) + layers.gap
    _write(folder / "layers/parts" / place, parts)
    _write(folder / "layers/depth" / place, _depth_units(layers.depth).reshape(-1, width))
    _write(folder / "layers/colors" / place, layers.color.reshape(-1, width, 3))
    _write(folder / "layers/normals" / place, normals.reshape(-1, width, 3))


def read_layers(folder: Path, view: int, frame: int) -> SurfaceLayers:
    """Read the surface layers of one image that `data render --layers` wrote.

    Depths are exact to `DEPTH_UNIT` / 2.

    Args:
        folder: folder of the grid.
        view: index of the view.
        frame: index of the frame.

    Raises:
        GridError: a file is missing, damaged, or of another shape than the others.
    """
    place = PLACE.format(view=view, frame=frame)
    parts = _read(folder / "layers/parts" / place, np.uint8, 2)
    depth = _read_layers(folder / "layers/depth" / place, np.uint16, parts.shape)
    color = _read_layers(folder / "layers/colors" / place, np.uint8, (*parts.shape, 3))
    return SurfaceLayers((depth * DEPTH_UNIT).astype(np.float32), color, parts > 0, parts > 1)


def read_layer_normals(folder: Path, view: int, frame: int) -> np.ndarray:
    """Read the normals of `read_layers`, 0 where there is no surface, float32, [4, H, W, 3].

    Args:
        folder: folder of the grid.
        view: index of the view.
        frame: index of the frame.

    Raises:
        GridError: a file is missing, damaged, or of another shape than the others.
    """
    place = PLACE.format(view=view, frame=frame)
    parts = _read(folder / "layers/parts" / place, np.uint8, 2)
    colors = _read_layers(folder / "layers/normals" / place, np.uint8, (*parts.shape, 3))
    normals = colors.astype(np.float32) / 255 * 2 - 1
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)  # never 0: 127.5 is no color
    return np.where((parts > 0)[..., None], normals, np.float32(0))


def _depth_units(depth: np.ndarray) -> np.ndarray:
    return np.rint(depth / DEPTH_UNIT).clip(0, 65535).astype(np.uint16)


def _normal_colors(normals: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.where(seen[..., None], np.rint((normals + 1) / 2 * 255), 0).astype(np.uint8)


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, image)


def _read(path: Path, dtype: type, dimensions: int) -> np.ndarray:
    image = read_png(path)
    if image.dtype != dtype or image.ndim != dimensions:
        raise GridError(
            f"expected {dimensions} dimensions of {np.dtype(dtype)}, found {image.ndim} of "
            f"{image.dtype}",
            path,
        )
    return image


def _read_layers(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    image = _read(path, dtype, len(shape))
    expected = 4 * shape[0], *shape[1:]
    if image.shape != expected:
        raise GridError(f"expected an image of shape {expected}, found {image.shape}", path)
    return image.reshape(4, *shape)
