"""A sequence of 3DGS PLY files, one per frame, as L4GM, STAG4D, 4DGaussians and SuperSplat have it.

The files are ordered by the numbers in their names. Their world is turned to ours (+Z up, front
towards −Y) by the name of its axes, scaled, and rendered from the cameras of the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from recon.errors import InputError
from recon.evaluation.matching import matching_files
from recon.exporters.conventions import rotate_gaussians, rotation_to
from recon.exporters.ply import gaussians_from_ply
from recon.gaussians import Gaussians
from recon.grid import Grid
from recon.media import by_numbers
from recon.rendering import render_gaussians
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


def ply_renderings(
    files: list[Path],
    truth: Grid,
    axes: str = "y-down",
    scale: float = 1.0,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield index, rgb over white and alpha of the renderings for all images of the truth.

    Args:
        files: one file per frame of the truth, or fewer, for its first frames.
        truth: the ground truth.
        axes: see `read_ply_frame`.
        scale: see `read_ply_frame`.
        device: device on which they are rendered.

    Raises:
        InputError: there are more files than frames, or one cannot be read.
    """
    for path, indices in matching_files(files, truth, "PLY"):
        gaussians = read_ply_frame(path, axes, scale).map(lambda tensor: tensor.to(device))
        for index in indices:
            with torch.no_grad():
                drawn = render_gaussians(gaussians, [truth.camera_of(index)])
            yield int(index), drawn.rgb[0].clamp(0, 1).cpu().numpy(), drawn.alpha[0].cpu().numpy()
