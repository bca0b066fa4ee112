import numpy as np
import torch

from recon.gaussians import gaussians_from_points
from recon.mesh.animated_mesh import surrounding_cameras
from recon.spherical_harmonics import fibonacci_sphere


def test_every_camera_has_the_whole_object_in_its_image():
    points = fibonacci_sphere(200) * (2.0, 1.0, 0.5) + (3.0, -1.0, 7.0)
    gaussians = gaussians_from_points(torch.tensor(points), torch.zeros(200, 3), 0.01)
    for camera in surrounding_cameras(gaussians, 10, 64):
        pixels, depth = camera.project(points)
        assert (depth > 0).all()
        assert ((pixels > 0) & (pixels < 64)).all()
        assert np.ptp(pixels, axis=0).max() > 16


def test_cameras_surround_the_object():
    gaussians = gaussians_from_points(torch.rand(50, 3), torch.zeros(50, 3), 0.01)
    places = np.stack([camera.position for camera in surrounding_cameras(gaussians, 40, 8)])
    directions = places - gaussians.means.median(dim=0).values.numpy()
    assert np.linalg.norm(directions.mean(axis=0)) < 0.05 * np.linalg.norm(directions[0])
