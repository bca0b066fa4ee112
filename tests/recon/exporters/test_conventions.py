import numpy as np
import pytest
import torch

from recon.errors import InputError
from recon.exporters.conventions import (
    AXES,
    rotate_gaussians,
    rotation_to,
)
from recon.gaussians import Gaussians
from recon.grid.cameras import orbit_camera
from recon.rendering import render_gaussians
from recon.rotations import quats_to_matrices

TURN = quats_to_matrices(torch.tensor([0.3, -0.5, 0.7, 0.4], dtype=torch.float64))


@pytest.mark.parametrize("axes", AXES)
def test_named_axes_are_rotations(axes: str):
    rotation = rotation_to(axes)
    assert torch.equal(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    assert torch.det(rotation) == 1


@pytest.mark.parametrize(
    ("axes", "up", "front"),
    [
        ("y-down", (0, -1, 0), (0, 0, -1)),
        ("y-up", (0, 1, 0), (0, 0, 1)),
        ("z-up", (0, 0, 1), (0, -1, 0)),
    ],
)
def test_up_and_front_are_mapped_as_the_name_of_the_axes_says(axes: str, up: tuple, front: tuple):
    rotation = rotation_to(axes).numpy()
    np.testing.assert_array_equal(rotation @ [0, 0, 1], up)
    np.testing.assert_array_equal(rotation @ [0, -1, 0], front)


def test_unknown_axes_are_refused_with_the_known_names():
    with pytest.raises(InputError, match="y-down, y-up, z-up"):
        rotation_to("x-up")


def test_a_rotated_camera_sees_rotated_gaussians_as_before(random_gaussians: Gaussians):
    """The image only stays the same if means, orientations and spherical harmonics all rotate."""
    camera = orbit_camera(25, 15, 3.2, 33.8, 32, 32)
    pose = camera.T_world_camera.copy()
    pose[:3] = TURN.numpy() @ pose[:3]
    turned_camera = type(camera)(
        pose, camera.fl_x, camera.fl_y, camera.cx, camera.cy, camera.width, camera.height
    )
    turned = rotate_gaussians(random_gaussians, TURN)
    before = render_gaussians(random_gaussians, [camera], backend="reference")
    after = render_gaussians(turned, [turned_camera], backend="reference")
    torch.testing.assert_close(after.rgb, before.rgb, atol=1e-5, rtol=0)


def test_rotating_back_restores_the_gaussians(random_gaussians: Gaussians):
    back = rotate_gaussians(rotate_gaussians(random_gaussians, TURN), TURN.T)
    for name, expected in random_gaussians._asdict().items():
        torch.testing.assert_close(getattr(back, name), expected, atol=1e-5, rtol=1e-5)
