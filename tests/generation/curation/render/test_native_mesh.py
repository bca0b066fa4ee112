from dataclasses import replace

import numpy as np
import pytest

from generation.curation.render.baked_asset import Surface
from generation.curation.render.fast_renderer import native_mesh
from recon.errors import InputError
from recon.grid import orbit_camera
from recon.native.mesh import image_from_world
from tests.generation.curation.tiny_meshes import CHECKER, asset, ball, joined, mesh, quad

CAMERA = orbit_camera(30, 20, 3.2, 33.8, 40, 48)


def see(frame, camera=CAMERA, *surfaces, textures=()):
    mesh = native_mesh(asset(frame, *surfaces, textures=textures), frame)
    return mesh.visible(image_from_world(camera), camera.height, camera.width)


def test_pixels_without_a_triangle_are_background():
    seen = see(quad(0.2))
    empty = seen.triangle < 0
    assert empty.any()
    assert not seen.depth[empty].any() and not seen.weights[empty].any()
    assert not seen.back[empty].any()


def test_texture_coordinates_are_interpolated_with_perspective_correction():
    frame = quad(1.2, normal=(0.9, -0.5, 0.3))
    seen = see(frame)
    hit = seen.triangle >= 0
    position = np.einsum(
        "pk,pkc->pc", seen.weights[hit], frame.vertices[frame.triangles][seen.triangle[hit]]
    )
    pixels, depth = CAMERA.project(position.astype(np.float64))
    row, column = np.nonzero(hit)
    np.testing.assert_allclose(pixels, np.stack([column, row], 1) + 0.5, atol=1e-3)
    np.testing.assert_allclose(depth, seen.depth[hit], rtol=1e-5)


def test_shared_edges_leave_no_gap():
    camera = orbit_camera(13, 7, 3.2, 33.8, 300, 300)
    seen = see(ball(0.7, rings=24), camera)
    rows, columns = np.mgrid[:300, :300] + 0.5
    inside = np.hypot(rows - 150, columns - 150) < 0.68 / 3.2 * camera.fl_x
    assert (seen.triangle[inside] >= 0).all()


def test_the_nearest_triangle_is_visible_in_any_order_of_triangles():
    near, far = quad(0.5, (0, -0.3, 0)), quad(0.9, (0, 0.3, 0))
    camera = orbit_camera(0, 0, 3.2, 33.8, 32, 32)
    one, other = see(joined(near, far), camera), see(joined(far, near), camera)
    np.testing.assert_array_equal(one.depth, other.depth)
    assert one.depth[16, 16] == pytest.approx(2.9, rel=1e-6)


def test_back_faces_are_marked():
    frame = quad(0.8)
    for azimuth, back in ((0, False), (180, True)):
        seen = see(frame, orbit_camera(azimuth, 0, 3.2, 33.8, 16, 16))
        assert (seen.back[seen.triangle >= 0] == back).all()


def test_a_triangle_that_reaches_behind_the_camera_is_clipped():
    floor = quad(20.0, (0, 0, -0.5), (0, 0, 1))
    camera = orbit_camera(0, 10, 3.2, 33.8, 24, 24)
    seen = see(floor, camera)
    rows, columns = np.mgrid[:24, :24] + 0.5
    rays = np.stack(
        [(columns - 12) / camera.fl_x, (12 - rows) / camera.fl_y, -np.ones((24, 24))], -1
    )
    rays = rays @ camera.T_world_camera[:3, :3].T
    depth = (-0.5 - camera.position[2]) / rays[..., 2]
    landing = camera.position + depth[..., None] * rays
    expected = (depth > 0) & (np.abs(landing[..., :2]) < 10).all(axis=-1)
    np.testing.assert_array_equal(seen.triangle >= 0, expected)
    np.testing.assert_allclose(seen.depth[expected], depth[expected], rtol=1e-4)


def test_triangles_behind_the_camera_are_invisible():
    assert (see(quad(1.0, (0, -9, 0)), orbit_camera(0, 0, 3.2, 33.8, 8, 8)).triangle < 0).all()


def test_triangles_without_an_area_or_with_nan_are_not_drawn():
    vertices = np.array([[0, 0, 0], [0.5, 0, 0], [0.25, 0, 0], [np.nan, 0, 0.5], [0.2, 0, 0.4]])
    frame = mesh(vertices, np.array([[0, 1, 2], [0, 1, 3]]), np.ones((2, 3, 3)))
    assert (see(frame).triangle < 0).all()


def test_texels_below_the_alpha_cutoff_are_invisible():
    texture = CHECKER.copy()
    texture[:, 0, 3] = 0  # the left half
    surface = Surface(alpha_texture=0, alpha_cutoff=0.5)
    camera = orbit_camera(0, 0, 3.2, 33.8, 32, 32)
    seen = see(quad(0.8), camera, surface, textures=(texture,)).triangle >= 0
    middle = seen[16, 8:24]
    assert middle[8 + 2 : 8 + 5].all() and not middle[8 - 5 : 8 - 2].any()


def test_subpixels_are_centered_in_their_pixel():
    point = np.array([0.2, -0.1, 0.3, 1.0])
    pixel, place = image_from_world(CAMERA) @ point, image_from_world(CAMERA, 3, 2) @ point
    np.testing.assert_allclose(place[:2] / place[2], 3 * pixel[:2] / pixel[2] + 2)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"triangles": np.array([[0, 1, 4], [0, 2, 3]], np.int32)}, "vertex"),
        ({"triangles": np.array([[0, 1, -1], [0, 2, 3]], np.int32)}, "vertex"),
        ({"surface": np.array([0, 3], np.int32)}, "surface"),
        ({"colors": np.ones((1, 3, 4), np.float32)}, "colors"),
    ],
)
def test_an_index_out_of_range_is_refused(broken, message):
    frame = replace(quad(), **broken)
    with pytest.raises(InputError, match=message):
        native_mesh(asset(frame), frame)


def test_a_missing_or_empty_texture_is_refused():
    frame, surface = quad(), Surface(base_texture=1)
    with pytest.raises(InputError, match="texture"):
        native_mesh(asset(frame, surface, textures=(CHECKER,)), frame)
    with pytest.raises(InputError, match="texture"):
        native_mesh(asset(frame, Surface(), textures=(CHECKER[:0],)), frame)
    with pytest.raises(InputError, match="set of uv"):
        native_mesh(asset(frame, Surface(base_texture=0, base_uv=1), textures=(CHECKER,)), frame)
