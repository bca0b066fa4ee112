"""Cameras: orbit, projection, common focus and JSON round trip."""

import json
from dataclasses import replace

import numpy as np
import pytest

from recon.grid.cameras import (
    camera_from_json,
    camera_to_json,
    common_focus,
    orbit_camera,
    rigid_pose,
    viewing_angles_deg,
)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "position"),
    [(0, 0, (0, -2, 0)), (90, 0, (2, 0, 0)), (180, 0, (0, 2, 0)), (270, 0, (-2, 0, 0))],
)
def test_azimuth_counts_from_the_front_towards_plus_x(azimuth, elevation, position):
    camera = orbit_camera(azimuth, elevation, 2, 33.8, 10, 20)
    np.testing.assert_allclose(camera.position, position, atol=1e-12)


def test_the_origin_projects_to_the_image_center_and_up_is_up():
    camera = orbit_camera(30, 20, 3.2, 33.8, 100, 200)
    (middle, above), _ = camera.project(np.array([[0, 0, 0], [0, 0, 0.1]]))
    np.testing.assert_allclose(middle, [100, 50], atol=1e-9)
    assert above[1] < 50 and above[0] == pytest.approx(100)


def test_the_field_of_view_is_horizontal():
    camera = orbit_camera(0, 0, 2, 90, 100, 200)
    np.testing.assert_allclose(camera.project(np.array([2.0, 0, 0]))[0], [200, 50], atol=1e-9)


def test_a_resized_camera_projects_points_to_scaled_pixels():
    camera = orbit_camera(75, -10, 3.2, 33.8, 64, 48)
    points = np.random.default_rng(0).normal(size=(9, 3)) * 0.3
    np.testing.assert_allclose(
        camera.resized(32, 96).project(points)[0], camera.project(points)[0] * [2, 0.5]
    )


@pytest.mark.parametrize("azimuth", [0, 22.5, 191.25, 359])
@pytest.mark.parametrize("elevation", [-30, 0, 10, 89])
def test_viewing_angles_are_those_of_the_orbit(azimuth, elevation):
    camera = orbit_camera(azimuth, elevation, 3.2, 33.8, 8, 8)
    assert viewing_angles_deg(camera) == pytest.approx((azimuth, elevation), abs=1e-5)


def test_json_gives_the_same_camera_back():
    camera = orbit_camera(33, 44, 5, 60, 7, 9)
    other = camera_from_json(json.loads(json.dumps(camera_to_json(camera))))
    np.testing.assert_array_equal(other.T_world_camera, camera.T_world_camera)
    np.testing.assert_array_equal(other.K, camera.K)
    assert (other.height, other.width) == (7, 9)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), "4×4"),
        (np.diag([1, 1, np.nan, 1]), "NaN"),
        (np.zeros((4, 4)), "singular"),
        (np.diag([1, 1, 1e-12, 1]), "singular"),
        (np.diag([1, 1, 1, 0]), "singular"),
        (np.eye(4) + 0.2 * np.eye(4)[[1, 0, 2, 3]] * [[1], [0], [0], [0]], "skews"),
        (np.diag([1, 1, -1, 1]), "mirrors"),
        (np.eye(4) + np.eye(4)[[3, 3, 3, 0]] * [[1], [0], [0], [0.5]], "last row"),
    ],
)
def test_matrices_that_are_not_rigid_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        rigid_pose(matrix)


POSE = orbit_camera(70, 20, 3, 40, 8, 8).T_world_camera


@pytest.mark.parametrize(
    "matrix",
    [
        0.0012 * POSE,
        -3 * POSE,
        POSE @ np.diag([200, 200, 200, 1]),
        POSE @ np.diag([1, 0.5, 2, 1]),
        POSE[:3],
        POSE.ravel(),
        POSE[:3].ravel(),
        POSE.T,
    ],
    ids=["homogeneous", "negative", "scaled", "stretched", "3x4", "16", "12", "columns"],
)
def test_other_spellings_of_a_pose_are_read_as_the_same_pose(matrix):
    np.testing.assert_allclose(rigid_pose(matrix.tolist()), POSE, atol=1e-12)


def test_a_padded_camera_sees_the_same_in_the_middle_of_its_image():
    camera = orbit_camera(70, 20, 3, 40, 8, 10)
    points = np.random.default_rng(0).normal(scale=0.3, size=(5, 3))
    np.testing.assert_allclose(
        camera.padded(12, 13).project(points)[0], camera.project(points)[0] + [1, 2]
    )


def test_projection_agrees_with_the_matrices():
    rng = np.random.default_rng(0)
    camera = replace(orbit_camera(70, -20, 3.0, 40, 60, 80), cx=35.0, cy=33.0, fl_y=70.0)
    points = rng.uniform(-0.5, 0.5, (4, 5, 3))
    pixels, depth = camera.project(points)
    homogeneous = np.concatenate([points, np.ones((4, 5, 1))], axis=-1)
    expected = homogeneous @ camera.viewmat[:3].T @ camera.K.T
    np.testing.assert_allclose(pixels, expected[..., :2] / expected[..., 2:])
    np.testing.assert_allclose(depth, expected[..., 2])


def test_points_at_or_behind_a_camera_have_no_pixel():
    camera = orbit_camera(0, 0, 3.0, 33.8, 40, 40)
    pixels, depth = camera.project(np.array([[0, -9.0, 0], [0, -3.0, 0], [0, 0, 0]]))
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], [20, 20])
    np.testing.assert_allclose(depth, [-6, 0, 3], atol=1e-12)


def moved(camera, offset):
    pose = camera.T_world_camera.copy()
    pose[:3, 3] += offset
    return replace(camera, T_world_camera=pose)


@pytest.mark.parametrize("point", [(0.0, 0.0, 0.0), (1.0, -2.0, 0.5), (100.0, 0.0, -30.0)])
@pytest.mark.parametrize("views", [2, 5, 16])
def test_the_common_focus_is_the_point_that_all_cameras_look_at(point, views):
    ring = [orbit_camera(300 * v / views, 15.0, 3.2, 33.8, 40, 40) for v in range(views)]
    focus = common_focus([moved(camera, point) for camera in ring])
    np.testing.assert_allclose(focus, point, atol=1e-6)


def test_parallel_cameras_focus_on_their_mean_axis():
    camera = orbit_camera(30, 20, 3.2, 33.8, 16, 16)
    axis = -camera.T_world_camera[:3, 2]
    for cameras in ([camera], [camera, camera]):
        np.testing.assert_allclose(common_focus(cameras), camera.position + 2 * axis)
        near = np.array([0.2, 0.3, 0.1])
        offset = common_focus(cameras, near) - camera.position
        np.testing.assert_allclose(np.cross(offset, axis), 0, atol=1e-9)
        assert offset @ axis == pytest.approx((near - camera.position) @ axis)
