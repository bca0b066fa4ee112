"""Gaussians of one frame, from which a fit of a generated grid starts; in memory and on disk.

They are stored as safetensors with the names and conventions of `recon.gaussians`. No torch here.
Letters: N Gaussians.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recon.errors import GridError

FILE = "initial_gaussians.safetensors"
_SHAPES = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh0": (1, 3)}


class InitialGaussians(NamedTuple):
    """N Gaussians, float32.

    Attributes:
        frame: index of their time.
        means: see `recon.gaussians.Gaussians`, [N, 3].
        quats: see `recon.gaussians.Gaussians`, [N, 4].
        scales: see `recon.gaussians.Gaussians`, [N, 3].
        opacities: see `recon.gaussians.Gaussians`, [N].
        sh0: see `recon.gaussians.Gaussians`, [N, 1, 3].
    """

    frame: int
    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    sh0: np.ndarray

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in _SHAPES}


def write_initial_gaussians(gaussians: InitialGaussians, path: Path) -> None:
    """Write Gaussians to a file; equal content gives equal bytes."""
    arrays = {name: np.ascontiguousarray(x, np.float32) for name, x in gaussians.arrays.items()}
    save_file(arrays, path)


def read_initial_gaussians(path: Path, frame: int) -> InitialGaussians:
    """Read Gaussians of a frame.

    Raises:
        GridError: the file is missing or damaged, or its tensors have other names or shapes.
    """
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise GridError(f"expected initial Gaussians ({error})", path) from error
    found = {name: x.shape for name, x in arrays.items()}
    count = len(arrays["means"]) if found.get("means") else 0
    if count == 0 or found != {name: (count, *shape) for name, shape in _SHAPES.items()}:
        raise GridError(f"expected N initial Gaussians with {_SHAPES}, found {found}", path)
    if not all(x.dtype == np.float32 and np.isfinite(x).all() for x in arrays.values()):
        raise GridError("expected finite numbers of type float32", path)
    return InitialGaussians(frame, **arrays)
