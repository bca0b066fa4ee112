"""Axes of other programs, and the one place where Gaussians are turned into them.

Our world is right-handed with +Z up and the object's front towards −Y. `y-down` is what 3DGS
readers expect of a PLY (x right, y down, z forward), `y-up` is glTF's (front towards +Z), `z-up`
our own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recon.errors import InputError
from recon.gaussians import Gaussians
from recon.rotations import matrices_to_quats, multiply_quats
from recon.spherical_harmonics import rotate_sh

AXES = {
    "y-down": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "y-up": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "z-up": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}


def rotation_to(axes: str) -> Tensor:
    """The rotation from our world to the named axes, float64, [3, 3].

    Raises:
        InputError: the name is not in `AXES`.
    """
    if axes not in AXES:
        raise InputError(f"unknown axes {axes!r}; expected one of {', '.join(AXES)}")
    return torch.tensor(AXES[axes], dtype=torch.float64)


def rotate_gaussians(gaussians: Gaussians, rotation: Tensor) -> Gaussians:
    """Gaussians turned about the origin: centres, own axes and view-dependent colour.

    Args:
        gaussians: as stored.
        rotation: a rotation matrix, [3, 3].

    Returns:
        Gaussians with quaternions multiplied, not normalised.
    """
    turn = rotation.to(gaussians.means)
    sh = rotate_sh(gaussians.sh, rotation) if gaussians.sh_degree > 0 else gaussians.sh
    return gaussians._replace(
        means=gaussians.means @ turn.T,
        quats=multiply_quats(matrices_to_quats(turn), gaussians.quats),
        sh0=sh[:, :1],
        shN=sh[:, 1:],
    )
