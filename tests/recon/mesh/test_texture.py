import numpy as np
import pytest
import torch

from recon.gaussians import gaussians_from_points
from recon.grid.cameras import orbit_camera
from recon.mesh.extraction import Mesh, extract_mesh
from recon.mesh.texture import (
    RenderedView,
    bake_texture,
    render_view,
    sample_texture,
    surface_colors,
    unwrap,
)
from recon.spherical_harmonics import fibonacci_sphere


@pytest.fixture(scope="module")
def ball() -> tuple[Mesh, list[RenderedView]]:
    """A ball whose color is its position, seen from six sides."""
    points = torch.tensor(0.5 * fibonacci_sphere(500), dtype=torch.float32)
    gaussians = gaussians_from_points(points, points + 0.5, 0.04, 0.95)
    mesh = extract_mesh(gaussians, 1000, resolution=40)
    cameras = [orbit_camera(azimuth, 0, 3.2, 33.8, 64, 64) for azimuth in (0, 90, 180, 270)]
    cameras += [orbit_camera(0, elevation, 3.2, 33.8, 64, 64) for elevation in (-89, 89)]
    return mesh, [render_view(gaussians, mesh, camera) for camera in cameras]


def test_points_have_the_color_of_the_gaussians_there(ball: tuple[Mesh, list[RenderedView]]):
    mesh, views = ball
    colors = surface_colors(mesh.vertices, mesh.normals(), views)
    place = 0.5 * mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert np.abs(colors - (place + 0.5)).mean() < 0.03


def test_points_that_no_view_sees_have_the_nearest_color(ball: tuple[Mesh, list[RenderedView]]):
    mesh, views = ball
    colors = surface_colors(mesh.vertices, mesh.normals(), views[:1])
    assert (colors[:, 1] < 0.6).all()  # only the front, y < 0, was seen
    assert (surface_colors(mesh.vertices, mesh.normals(), []) == 0.5).all()


def test_hidden_points_do_not_get_the_color_in_front_of_them():
    camera = orbit_camera(0, 0, 3.2, 33.8, 32, 32)
    depth = np.full((32, 32), 3.0)  # a wall before the points at 3.2
    wall = RenderedView(camera, np.ones((32, 32, 3)), np.ones((32, 32)), depth, 1.0)
    open_view = wall._replace(rgb=np.zeros((32, 32, 3)), depth=depth + 0.2, weight=1e-3)
    point, normal = np.zeros((1, 3)), np.array([[0.0, -1, 0]])
    np.testing.assert_array_equal(surface_colors(point, normal, [wall, open_view]), [[0, 0, 0]])


def test_the_texture_holds_the_surface_colors_at_the_vertices(
    ball: tuple[Mesh, list[RenderedView]],
):
    mesh, views = ball
    unwrapped = unwrap(mesh, 128)
    np.testing.assert_array_equal(unwrapped.origin[unwrapped.faces], mesh.faces)
    assert unwrapped.uv.min() >= 0
    assert unwrapped.uv.max() <= 1
    texture = bake_texture(mesh, unwrapped, views, 128)
    colors = surface_colors(mesh.vertices, mesh.normals(), views)[unwrapped.origin]
    assert np.abs(sample_texture(texture, unwrapped.uv) / 255 - colors).mean() < 0.02


def test_sampling_at_texel_centers_gives_the_texels():
    texture = np.random.default_rng(0).integers(0, 255, (8, 8, 3))
    centers = (np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1) + 0.5) / 8
    np.testing.assert_allclose(sample_texture(texture, centers), texture)
