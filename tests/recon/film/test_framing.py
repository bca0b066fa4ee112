import numpy as np
import torch

from recon.film.framing import ball_around
from recon.gaussians import gaussians_from_points
from recon.spherical_harmonics import fibonacci_sphere


def test_the_camera_of_a_ball_sees_all_but_the_outliers():
    points = np.array([*fibonacci_sphere(98), (30, 0, 0), (0, 0, 50)])
    points += np.array([3, -1, 7])
    gaussians = gaussians_from_points(torch.tensor(points), torch.zeros(100, 3), 0.01)
    ball = ball_around(gaussians, outliers=0.03)
    np.testing.assert_allclose(ball.center, (3, -1, 7), atol=0.05)
    for azimuth_deg, elevation_deg in ((0, 0), (70, -30), (200, 60)):
        pixels, depth = ball.camera(azimuth_deg, elevation_deg, 64).project(points[:98])
        assert (depth > 0).all()
        assert ((pixels > 0) & (pixels < 64)).all()
        assert np.ptp(pixels, axis=0).min() > 45


def test_the_ball_of_no_gaussians_is_the_unit_ball():
    one = gaussians_from_points(torch.zeros(1, 3), torch.zeros(1, 3), 0.1)
    ball = ball_around(one.map(lambda tensor: tensor[:0]), outliers=0.02)
    assert (ball.center.tolist(), ball.radius) == ([0, 0, 0], 1)
