"""Which way is up is found from cameras, and grids of other worlds come out upright."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon.errors import GridError, InputError
from recon.grid import orbit_camera, read_grid
from recon.grid.orientation import (
    AXES,
    guess_up,
    rotated,
    rotation_from_up,
    rotation_matrix,
    rotation_of_grid,
)
from recon.grid.writing import write_posed_images


def cameras_around(azimuths_deg, elevations_deg, rotation=None):
    rotation = np.eye(3) if rotation is None else rotation
    return [
        rotated(orbit_camera(azimuth, elevation, 3, 40, 8, 8), rotation)
        for azimuth in azimuths_deg
        for elevation in elevations_deg
    ]


ARRANGEMENTS = {
    "ring": (range(0, 360, 30), [0]),
    "high ring": (range(0, 360, 30), [60]),
    "rings": (range(0, 360, 45), [-20, 10, 40]),
    "front": (range(-40, 41, 20), [30]),
    "two": ([0, 50], [35]),
    "one": ([20], [10]),
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("axis", AXES)
def test_the_axis_that_points_up_is_found(axis, arrangement):
    to_source = rotation_from_up(axis).T
    azimuths_deg, elevations_deg = ARRANGEMENTS[arrangement]
    cameras = cameras_around(azimuths_deg, elevations_deg, to_source)
    found = guess_up(cameras)
    assert found is not None and found.axis == axis
    rotation = rotation_of_grid(cameras, "auto")
    np.testing.assert_allclose(rotation @ to_source, np.eye(3), atol=1e-12)


def test_shaky_level_cameras_still_snap_to_the_axis():
    rng = np.random.default_rng(0)
    cameras = [
        rotated(camera, Rotation.from_euler("xyz", rng.normal(0, 4, 3), degrees=True).as_matrix())
        for camera in cameras_around(range(0, 360, 30), [20])
    ]
    found = guess_up(cameras)
    assert found is not None and found.axis == "z"
    assert (rotation_of_grid(cameras, "auto") == np.eye(3)).all()


def test_a_tilted_world_is_set_upright():
    tilt = Rotation.from_euler("xyz", [50, 20, 70], degrees=True).as_matrix()
    cameras = cameras_around(range(0, 360, 30), [20], tilt)
    found = guess_up(cameras)
    assert found is not None and found.axis is None
    np.testing.assert_allclose(found.direction, tilt[:, 2], atol=1e-9)
    upright = rotation_of_grid(cameras, "auto") @ tilt
    np.testing.assert_allclose(upright[:, 2], [0, 0, 1], atol=1e-9)


def test_cameras_in_all_directions_are_left_alone_with_a_warning(caplog):
    cameras = [
        rotated(orbit_camera(0, 0, 3, 40, 8, 8), Rotation.from_quat(quat).as_matrix())
        for quat in np.random.default_rng(0).normal(size=(60, 4))
    ]
    with caplog.at_level(logging.WARNING):
        assert (rotation_of_grid(cameras, "auto") == np.eye(3)).all()
    assert "--up" in caplog.text


def test_unknown_axes_and_matrices_that_are_no_rotations_are_refused():
    with pytest.raises(InputError, match="auto, x, y"):
        rotation_of_grid(cameras_around([0], [0]), "up")
    for matrix in (np.eye(2), 2 * np.eye(3), np.diag([1, 1, -1]), [["a"] * 3] * 3):
        with pytest.raises((ValueError, TypeError)):
            rotation_matrix(matrix)


def as_of_y_up(folder):
    """Turn a written grid into that of another program whose world has +Y up."""
    path = folder / "transforms.json"
    values = json.loads(path.read_text())
    del values["version"]
    T = np.eye(4)
    T[:3, :3] = rotation_from_up("y").T
    for frame in values["frames"]:
        frame["transform_matrix"] = (T @ np.array(frame["transform_matrix"])).tolist()
    path.write_text(json.dumps(values))


def test_a_grid_of_a_y_up_world_is_read_upright(tiny_grid, tiny_grid_folder, tmp_path):
    as_of_y_up(tiny_grid_folder)
    grid = read_grid(tiny_grid_folder)
    for camera, expected in zip(grid.cameras, tiny_grid.cameras, strict=True):
        np.testing.assert_allclose(camera.T_world_camera, expected.T_world_camera, atol=1e-9)
    np.testing.assert_array_equal(grid.R_world_source, rotation_from_up("y"))
    as_it_is = read_grid(tiny_grid_folder, up="z")
    assert as_it_is.cameras[1].position[1] == pytest.approx(grid.cameras[1].position[2])
    assert (as_it_is.R_world_source == np.eye(3)).all()
    again = tmp_path / "again"
    again.mkdir()
    write_posed_images(grid, again)  # ours: upright, and it still says where it came from
    found = read_grid(again)
    np.testing.assert_array_equal(found.R_world_source, grid.R_world_source)
    np.testing.assert_array_equal(found.cameras[1].T_world_camera, grid.cameras[1].T_world_camera)


def test_a_grid_of_this_project_cannot_have_another_axis_up(tiny_grid_folder):
    assert (read_grid(tiny_grid_folder, up="z").R_world_source == np.eye(3)).all()
    with pytest.raises(GridError, match=r"\+Z up.*'y'"):
        read_grid(tiny_grid_folder, up="y")


def test_a_rotated_camera_keeps_its_image():
    camera = orbit_camera(20, 30, 3, 40, 8, 10)
    camera = dataclasses.replace(camera, cx=3.0)
    rotation = rotation_from_up("-x")
    points = np.random.default_rng(0).normal(scale=0.3, size=(5, 3))
    np.testing.assert_allclose(
        rotated(camera, rotation).project(points @ rotation.T)[0], camera.project(points)[0]
    )
