"""The mesh kernel, its reference in NumPy, and their agreement."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import Delaunay

from recon.grid.cameras import orbit_camera
from recon.native.library import built
from recon.rasterizers import mesh as kernel_backend
from recon.rasterizers import mesh_reference
from recon.rasterizers.mesh import camera_points, plane_points, rasterize_mesh
from recon.rasterizers.mesh_reference import rasterize_mesh_reference

CAMERA = orbit_camera(30, 20, 3.2, 33.8, 60, 72)
FLAT = np.array([[0, 1, 2]])


@pytest.fixture(params=["kernel", "reference"])
def rasterize(request):
    if request.param == "kernel" and not built():
        pytest.skip("the kernels were not compiled")
    return rasterize_mesh if request.param == "kernel" else rasterize_mesh_reference


def soup(seed: int, count: int = 40, size: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centers = rng.uniform(-0.8, 0.8, (count, 1, 3))
    points = centers + rng.uniform(-size, size, (count, 3, 3))
    return points.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


def solid(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "sphere":
        mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.8)
    else:
        mesh = trimesh.creation.box(extents=(1.2, 0.7, 0.9))
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


MESHES = {
    "sphere": solid("sphere"),
    "box": solid("box"),
    "soup": soup(0),
    "large triangles across the camera plane": soup(1, 60, 6.0),
    "all behind the camera": (soup(2)[0] + 20 * CAMERA.position, soup(2)[1]),
}


@pytest.mark.skipif(not built(), reason="the kernels were not compiled")
@pytest.mark.parametrize("name", MESHES)
def test_kernel_and_reference_agree(name):
    vertices, faces = MESHES[name]
    points = camera_points(vertices, CAMERA)
    found = rasterize_mesh(points, faces, 60, 72)
    expected = rasterize_mesh_reference(points, faces, 60, 72)
    assert np.mean((found.face >= 0) == (expected.face >= 0)) > 0.998  # centers on an edge
    assert np.mean(found.face == expected.face) > 0.998
    same = (found.face == expected.face) & (expected.face >= 0)
    np.testing.assert_allclose(found.depth[same], expected.depth[same], rtol=2e-5)
    attributes = np.random.default_rng(3).normal(size=(len(vertices), 4))
    np.testing.assert_allclose(
        found.interpolate(faces, attributes)[same],
        expected.interpolate(faces, attributes)[same],
        atol=5e-3,
    )
    assert same.any() == (name != "all behind the camera")
    empty = found.face < 0
    assert np.isinf(found.depth[empty]).all() and not found.barycentric[empty].any()


@pytest.mark.skipif(not built(), reason="the kernels were not compiled")
def test_kernel_and_reference_agree_in_texture_space():
    uv = np.random.default_rng(0).random((60, 2)) * 50
    faces = Delaunay(uv).simplices  # charts do not overlap
    found = rasterize_mesh(plane_points(uv), faces, 50, 50)
    expected = rasterize_mesh_reference(plane_points(uv), faces, 50, 50)
    assert np.mean(found.face == expected.face) > 0.998
    same = (found.face == expected.face) & (expected.face >= 0)
    np.testing.assert_allclose(found.barycentric[same], expected.barycentric[same], atol=1e-4)
    np.testing.assert_allclose(found.depth[same], 1, rtol=1e-5)


def test_a_square_of_two_triangles_covers_its_pixels_without_gaps(rasterize):
    points = plane_points(np.array([[2.0, 3], [10, 3], [10, 9], [2, 9]]))
    drawn = rasterize(points, np.array([[0, 1, 2], [0, 2, 3]]), 12, 14)
    expected = np.zeros((12, 14), bool)
    expected[3:9, 2:10] = True
    np.testing.assert_array_equal(drawn.face >= 0, expected)


def test_both_sides_are_drawn(rasterize):
    points = plane_points(np.array([[0.0, 0], [8, 0], [0, 8]]))
    one, other = rasterize(points, FLAT, 8, 8), rasterize(points, FLAT[:, ::-1], 8, 8)
    np.testing.assert_array_equal(one.face, other.face)
    assert (one.face == 0).any()


def test_interpolated_positions_are_the_pixel_centers(rasterize):
    points = np.array([[-3.0, -2], [20, 1], [4, 17]])
    drawn = rasterize(plane_points(points), FLAT, 9, 9)
    rows, columns = np.nonzero(drawn.face >= 0)
    at = drawn.interpolate(FLAT, points)[rows, columns]
    np.testing.assert_allclose(at, np.stack([columns, rows], axis=1) + 0.5, atol=1e-4)


def test_interpolation_is_perspective_correct(rasterize):
    """Positions interpolated at the pixels of a slanted triangle project back onto those pixels."""
    vertices = np.array([[-0.6, -0.9, -0.5], [0.7, 1.2, -0.4], [0.0, 0.3, 0.8]])
    seen = rasterize(camera_points(vertices, CAMERA), FLAT, 60, 72)
    rows, columns = np.nonzero(seen.face >= 0)
    assert len(rows) > 50
    pixels, depth = CAMERA.project(seen.interpolate(FLAT, vertices)[rows, columns])
    np.testing.assert_allclose(pixels, np.stack([columns, rows], axis=1) + 0.5, atol=1e-3)
    np.testing.assert_allclose(seen.depth[rows, columns], depth, rtol=1e-5)


def test_a_plane_that_crosses_the_camera_plane_ends_at_the_horizon(rasterize):
    floor = np.array([[-50.0, -50, -0.5], [50, -50, -0.5], [50, 50, -0.5], [-50, 50, -0.5]])
    camera = orbit_camera(0, 10, 3.2, 33.8, 24, 24)
    seen = rasterize(camera_points(floor, camera), np.array([[0, 1, 2], [0, 2, 3]]), 24, 24)
    rows, columns = np.mgrid[:24, :24] + 0.5
    rays = np.stack(
        [(columns - 12) / camera.fl_x, (12 - rows) / camera.fl_y, -np.ones((24, 24))], -1
    )
    rays = rays @ camera.T_world_camera[:3, :3].T
    depth = (-0.5 - camera.position[2]) / rays[..., 2]
    landing = camera.position + depth[..., None] * rays
    expected = (depth > 0) & (np.abs(landing[..., :2]) < 50).all(axis=-1)
    np.testing.assert_array_equal(seen.face >= 0, expected)
    np.testing.assert_allclose(seen.depth[expected], depth[expected], rtol=1e-4)


def test_points_at_the_same_depth_show_the_first_triangle(rasterize):
    points = plane_points(np.array([[0.0, 0], [8, 0], [0, 8]]))
    seen = rasterize(points, np.repeat(FLAT, 3, axis=0), 8, 8)
    assert set(np.unique(seen.face)) == {-1, 0}


def test_degenerate_triangles_and_nan_are_not_drawn(rasterize):
    points = plane_points(np.array([[0, 0], [4, 4], [8, 8], [np.nan, 0], [0, 8]]))
    seen = rasterize(points, np.array([[0, 1, 2], [0, 3, 4]]), 8, 8)
    assert (seen.face < 0).all()


def test_the_result_depends_neither_on_the_order_nor_on_the_batches(monkeypatch):
    points, faces = soup(4)
    points = camera_points(points, CAMERA)
    whole = rasterize_mesh_reference(points, faces, 30, 30)
    monkeypatch.setattr(mesh_reference, "CANDIDATES_AT_ONCE", 50)
    order = np.random.default_rng(5).permutation(len(faces))
    parts = rasterize_mesh_reference(points, faces[order], 30, 30)
    np.testing.assert_array_equal(np.append(order, -1)[parts.face], whole.face)
    np.testing.assert_allclose(parts.depth, whole.depth)


def test_the_reference_is_used_where_the_kernels_were_not_compiled(monkeypatch):
    monkeypatch.setattr(kernel_backend, "built", lambda: False)
    vertices, faces = MESHES["box"]
    points = camera_points(vertices, CAMERA)
    found = rasterize_mesh(points, faces, 60, 72)
    expected = rasterize_mesh_reference(points, faces, 60, 72)
    np.testing.assert_array_equal(found.depth, expected.depth)
