import numpy as np
import torch

from recon.deformation.interface import StaticDeformation
from recon.deformation.keyframes import KeyframeDeformation
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.cameras import orbit_camera
from recon.mesh.surface import extract_surface, most_open_time
from recon.scene import Scene
from recon.spherical_harmonics import fibonacci_sphere

CAMERAS = tuple(orbit_camera(azimuth, 10, 3.2, 33.8, 48, 48) for azimuth in (0, 90))


def two_balls(gap: float) -> Gaussians:
    ball = torch.tensor(0.2 * fibonacci_sphere(200), dtype=torch.float32)
    shift = torch.tensor([0.2 + gap / 2, 0.0, 0.0])
    points = torch.cat([ball - shift, ball + shift])
    return gaussians_from_points(points, torch.rand_like(points), 0.03, opacity=0.9)


def parting_balls() -> Scene:
    """Two balls that overlap in the canonical pose and are apart from time 0.25 on."""
    gaussians, times = two_balls(-0.2), [0.0, 0.25, 0.5, 1.0]
    motion = KeyframeDeformation.for_fit(gaussians, times)
    step = torch.zeros(400, 3)
    step[:200, 0], step[200:, 0] = -0.3, 0.3
    for translation, share in zip(motion.translations, (0.0, 0.8, 1.0, 1.0), strict=True):
        translation.data.copy_(share * step)
    return Scene(gaussians, motion.requires_grad_(False), np.array(times), CAMERAS)


def test_the_surface_is_taken_from_a_pose_in_which_touching_parts_are_apart():
    scene = parting_balls()
    time = most_open_time(scene, 40)
    assert time is not None
    assert time >= 0.25
    surface = extract_surface(scene, time, 2000, 48)
    torch.testing.assert_close(surface.gaussians.means, scene.at(time).means)
    assert np.abs(surface.mesh.vertices[:, 0]).min() > 0.05  # nothing bridges the gap


def test_the_canonical_pose_is_kept_without_motion():
    gaussians = two_balls(0.1)
    scene = Scene(gaussians, StaticDeformation(), np.array([0.0, 0.5, 1.0]), CAMERAS)
    assert most_open_time(scene, 40) is None
