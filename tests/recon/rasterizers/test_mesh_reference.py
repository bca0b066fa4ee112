import numpy as np

from recon.grid.cameras import orbit_camera
from recon.rasterizers import mesh_reference as triangles
from recon.rasterizers.mesh_reference import draw_triangles, look_at_mesh, project_points


def test_a_square_of_two_triangles_covers_its_pixels_without_gaps():
    points = np.array([[2.0, 3], [10, 3], [10, 9], [2, 9]])
    drawn = draw_triangles(points, np.array([[0, 1, 2], [0, 2, 3]]), 12, 14)
    expected = np.zeros((12, 14), bool)
    expected[3:9, 2:10] = True
    np.testing.assert_array_equal(drawn.face >= 0, expected)


def test_both_sides_are_drawn():
    points = np.array([[0.0, 0], [8, 0], [0, 8]])
    one = draw_triangles(points, np.array([[0, 1, 2]]), 8, 8)
    other = draw_triangles(points, np.array([[0, 2, 1]]), 8, 8)
    np.testing.assert_array_equal(one.face, other.face)


def test_interpolated_positions_are_the_pixel_centres():
    points = np.array([[-3.0, -2], [20, 1], [4, 17]])
    faces = np.array([[0, 1, 2]])
    drawn = draw_triangles(points, faces, 9, 9)
    rows, columns = np.nonzero(drawn.face >= 0)
    at = drawn.interpolate(faces, points)[rows, columns]
    np.testing.assert_allclose(at, np.stack([columns, rows], axis=1) + 0.5)


def test_the_nearer_triangle_wins_whatever_the_order_and_the_batches(monkeypatch):
    rng = np.random.default_rng(0)
    points, depth = rng.random((90, 2)) * 30, rng.random(90) + 1
    faces = np.arange(90).reshape(30, 3)
    whole = draw_triangles(points, faces, 30, 30, depth)
    monkeypatch.setattr(triangles, "CANDIDATES_AT_ONCE", 50)
    order = rng.permutation(30)
    parts = draw_triangles(points, faces[order], 30, 30, depth)
    np.testing.assert_array_equal(np.append(order, -1)[parts.face], whole.face)
    np.testing.assert_allclose(parts.depth, whole.depth)


def test_interpolation_through_a_camera_is_in_perspective():
    """A slanted triangle: positions found at the pixels must project back onto those pixels."""
    camera = orbit_camera(20, 10, 3.2, 33.8, 24, 24)
    vertices = np.array([[-0.6, -0.9, -0.5], [0.7, 1.2, -0.4], [0.0, 0.3, 0.8]])
    faces = np.array([[0, 1, 2]])
    seen = look_at_mesh(vertices, faces, camera)
    rows, columns = np.nonzero(seen.face >= 0)
    assert len(rows) > 50
    pixels, depth = project_points(seen.interpolate(faces, vertices)[rows, columns], camera)
    np.testing.assert_allclose(pixels, np.stack([columns, rows], axis=1) + 0.5, atol=1e-9)
    np.testing.assert_allclose(seen.depth[rows, columns], depth)


def test_triangles_behind_the_camera_are_not_seen():
    camera = orbit_camera(0, 0, 3.2, 33.8, 16, 16)
    behind = np.array([[-1.0, -5, -1], [1, -5, -1], [0, -5, 1]])
    ahead = np.array([[-0.2, 0, -0.2], [0.2, 0, -0.2], [0, 0, 0.2]])
    seen = look_at_mesh(np.concatenate([behind, ahead]), np.array([[0, 1, 2], [3, 4, 5]]), camera)
    assert set(np.unique(seen.face)) == {-1, 1}
    assert np.isinf(seen.depth[seen.face < 0]).all()
