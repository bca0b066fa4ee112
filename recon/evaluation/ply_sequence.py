"""A sequence of 3DGS PLY files, one per frame, as L4GM, STAG4D, 4DGaussians and SuperSplat have it.

The files are ordered by the numbers in their names. Their world is turned to ours (+Z up, front
towards −Y) by the name of its axes, scaled, and rendered from the cameras of the truth.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from recon.errors import InputError
from recon.evaluation.sequences import FrameFiles
from recon.exporters.conventions import rotate_gaussians, rotation_to
from recon.exporters.ply import gaussians_from_ply
from recon.gaussians import Gaussians
from recon.grid import Camera
from recon.media import by_numbers
from recon.rendering import render_gaussians
from recon.rotations import quats_to_matrices
from recon.similarity import Similarity


def ply_files_of(folder: Path) -> list[Path]:
    """Return the PLY files of a folder in the order of their numbers; empty if there are none."""
    return sorted(folder.glob("*.ply"), key=by_numbers) if folder.is_dir() else []


def read_ply_frame(path: Path, axes: str, scale: float) -> Gaussians:
    """Read the Gaussians of one file into our world.

    Args:
        path: a PLY file.
        axes: axes of the file, "y-down", "y-up" or "z-up", see `recon.exporters.conventions`.
        scale: size of our world relative to the file's, positive.

    Raises:
        InputError: the file is not a PLY of Gaussians, or holds values that are not finite.
    """
    try:
        gaussians = gaussians_from_ply(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not all(torch.isfinite(tensor).all() for tensor in gaussians):
        raise InputError(f"{path}: the Gaussians have values that are not finite")
    turned = rotate_gaussians(gaussians, rotation_to(axes).T)
    return Similarity(scale, np.zeros(3)).gaussians(turned)


class PlyFrame(NamedTuple):
    """The Gaussians of a file as a frame of a sequence; see `recon.evaluation.sequences.Frame`.

    Attributes:
        gaussians: the Gaussians, on the device on which they are rendered.
    """

    gaussians: Gaussians

    def samples(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw points within one standard deviation, more from large and opaque Gaussians."""
        cpu = self.gaussians.map(lambda tensor: tensor.detach().double().cpu())
        scales = cpu.scales.exp().numpy()
        areas = np.sort(scales, axis=1)[:, 1:].prod(axis=1)
        weights = torch.sigmoid(cpu.opacities).numpy() * areas
        chosen = rng.choice(len(weights), count, p=weights / weights.sum())
        turns = quats_to_matrices(cpu.quats[chosen]).numpy()
        steps = scales[chosen] * rng.standard_normal((count, 3)).clip(-1, 1)
        return cpu.means.numpy()[chosen] + np.einsum("nij,nj->ni", turns, steps)

    def draw(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Render rgb over white [H, W, 3] and alpha [H, W], in [0, 1]."""
        with torch.no_grad():
            drawn = render_gaussians(self.gaussians, [camera])
        return drawn.rgb[0].clamp(0, 1).cpu().numpy(), drawn.alpha[0].cpu().numpy()


def ply_sequence(
    files: list[Path],
    axes: str = "y-down",
    scale: float = 1.0,
    device: str | torch.device = "cpu",
) -> FrameFiles:
    """Describe a sequence of PLY files; for the arguments see `read_ply_frame`."""

    def read(path: Path) -> PlyFrame:
        return PlyFrame(read_ply_frame(path, axes, scale).map(lambda tensor: tensor.to(device)))

    return FrameFiles(files, "PLY", read, low_pass=True)
