"""GLB with splats (KHR_gaussian_splatting): one static file of Gaussians per frame.

Values are activated (linear scales, opacity in [0, 1]), quaternions are xyzw, and each spherical
harmonics coefficient is an attribute. Readers without the extension show points with `COLOR_0`,
which glTF defines as linear. Axes: glTF's (+Y up), unless others are asked for.
Source: github.com/KhronosGroup/glTF, extensions/2.0/Khronos/KHR_gaussian_splatting.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.exporters.conventions import gaussian_files
from recon.exporters.gltf import ARRAY_BUFFER, WXYZ, XYZW, Glb, GlbWriter, read_glb
from recon.exporters.options import ExportOptions
from recon.gaussians import Gaussians, sh0_to_rgb
from recon.scene import Scene
from recon.srgb import linear_from_srgb

EXTENSION = "KHR_gaussian_splatting"
POINTS = 0  # primitive mode of glTF


def glb_splat_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield one GLB per frame; no standard animates splats within one glTF."""
    return gaussian_files(scene, times, options, "glb-splats", glb_from_gaussians, ".glb")


def glb_from_gaussians(gaussians: Gaussians) -> bytes:
    """Encode Gaussians as GLB; inverse of `gaussians_from_glb`."""
    writer = GlbWriter()
    attributes = {
        name: writer.accessor(values, ARRAY_BUFFER, bounds=name == "POSITION", name=name)
        for name, values in _attributes(gaussians).items()
    }
    extension = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    primitive = {"attributes": attributes, "mode": POINTS, "extensions": {EXTENSION: extension}}
    writer.json |= {
        "extensionsUsed": [EXTENSION],
        "meshes": [{"name": "splats", "primitives": [primitive]}],
        "nodes": [{"name": "splats", "mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    return writer.glb()


def gaussians_from_glb(data: bytes) -> Gaussians:
    """Decode the Gaussians of a GLB's first primitive, in the axes of the file.

    Raises:
        InputError: The data is not a GLB, or has no primitive with the extension.
    """
    glb = read_glb(data)
    try:
        primitive = glb.json["meshes"][0]["primitives"][0]
        attributes = primitive["attributes"]
        if EXTENSION not in primitive["extensions"]:
            raise InputError(f"expected a GLB whose primitive has the extension {EXTENSION}")
        return _gaussians(glb, attributes)
    except (KeyError, IndexError) as error:
        raise InputError(f"expected a GLB with a primitive of Gaussians ({error!r})") from error


def _attributes(gaussians: Gaussians) -> dict[str, np.ndarray]:
    g = gaussians.map(lambda tensor: tensor.detach().float().cpu())
    opacities = g.opacities.sigmoid()
    rgb = linear_from_srgb(sh0_to_rgb(g.sh0[:, 0]).clamp(0, 1).numpy())
    attributes = {
        "POSITION": g.means.numpy(),
        "COLOR_0": np.concatenate([rgb, opacities[:, None].numpy()], axis=1, dtype=np.float32),
        f"{EXTENSION}:ROTATION": F.normalize(g.quats, dim=-1)[:, XYZW].numpy(),
        f"{EXTENSION}:SCALE": g.scales.exp().numpy(),
        f"{EXTENSION}:OPACITY": opacities.numpy(),
    }
    for name, coefficient in zip(_sh_names(g.sh_degree), g.sh.unbind(1), strict=True):
        attributes[name] = coefficient.numpy()
    return attributes


def _gaussians(glb: Glb, attributes: dict[str, int]) -> Gaussians:
    degree = max(degree for degree in range(4) if _sh_names(degree)[-1] in attributes)
    read = {
        name: torch.from_numpy(glb.array(index).astype(np.float32))
        for name, index in attributes.items()
    }
    sh = torch.stack([read[name] for name in _sh_names(degree)], dim=1)
    return Gaussians(
        means=read["POSITION"],
        quats=read[f"{EXTENSION}:ROTATION"][:, WXYZ],
        scales=read[f"{EXTENSION}:SCALE"].log(),
        opacities=torch.logit(read[f"{EXTENSION}:OPACITY"], eps=1e-7),
        sh0=sh[:, :1],
        shN=sh[:, 1:],
    )


def _sh_names(degree: int) -> list[str]:
    return [
        f"{EXTENSION}:SH_DEGREE_{order}_COEF_{coefficient}"
        for order in range(degree + 1)
        for coefficient in range(2 * order + 1)
    ]
