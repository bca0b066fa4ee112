"""The .splat format: 32 bytes per Gaussian, one static file per frame.

Mean (3 × float32), linear scale (3 × float32), sRGB and opacity (4 × uint8), quaternion wxyz as
round(128 q + 128) (4 × uint8). Spherical harmonics above degree 0 are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.exporters.conventions import gaussian_files
from recon.exporters.options import ExportOptions
from recon.gaussians import Gaussians, rgb_to_sh0, sh0_to_rgb
from recon.scene import Scene

RECORD = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)]
)  # 32 bytes


def splat_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield one .splat file per frame."""
    return gaussian_files(scene, times, options, "splat", splat_from_gaussians)


def drawing_order(gaussians: Gaussians) -> torch.Tensor:
    """Return the indices of Gaussians, the most visible (volume times opacity) first, [N]."""
    g = gaussians.map(lambda tensor: tensor.detach().float().cpu())
    visibility = g.scales.sum(dim=1).exp() * g.opacities.sigmoid()
    return torch.argsort(visibility, descending=True, stable=True)


def splat_from_gaussians(gaussians: Gaussians, order: torch.Tensor | None = None) -> bytes:
    """Encode Gaussians.

    Args:
        gaussians: N Gaussians.
        order: their indices in the order of the file, [N]; None: the most visible come first,
            because viewers draw them while the file is still loading.
    """
    g = gaussians.map(lambda tensor: tensor.detach().float().cpu())
    order = drawing_order(g) if order is None else order
    opacities = g.opacities.sigmoid()
    rgba = torch.cat([sh0_to_rgb(g.sh0[:, 0]), opacities[:, None]], dim=1)
    quats = F.normalize(g.quats, dim=-1)
    records = np.empty(len(order), RECORD)
    records["mean"] = g.means[order].numpy()
    records["scale"] = g.scales.exp()[order].numpy()
    records["rgba"] = (255 * rgba[order]).round().clamp(0, 255).numpy()
    records["quat"] = (128 * quats[order] + 128).round().clamp(0, 255).numpy()
    return records.tobytes()


def gaussians_from_splat(data: bytes) -> Gaussians:
    """Decode the Gaussians of a .splat file, in the order of the file.

    Raises:
        InputError: The length is not a multiple of 32 bytes.
    """
    if len(data) % RECORD.itemsize:
        raise InputError(
            f"expected a .splat of 32 bytes per Gaussian, found {len(data)} bytes; is it truncated?"
        )
    records = np.frombuffer(data, RECORD)
    rgba = torch.from_numpy(records["rgba"].astype(np.float32)) / 255
    return Gaussians(
        means=torch.from_numpy(records["mean"].copy()),
        quats=(torch.from_numpy(records["quat"].astype(np.float32)) - 128) / 128,
        scales=torch.from_numpy(records["scale"].copy()).log(),
        opacities=torch.logit(rgba[:, 3], eps=1e-4),
        sh0=rgb_to_sh0(rgba[:, None, :3]),
        shN=torch.zeros(len(records), 0, 3),
    )
