import json

import numpy as np
import pytest

from recon.errors import InputError
from recon.film.camera_file import read_camera_file
from recon.grid.cameras import orbit_camera
from recon.grid.orientation import rotated, rotation_from_up

CAMERA = orbit_camera(30, 10, 3.2, 33.8, 90, 160)


def nerfstudio_path(times=(0.0, 0.5, 1.0), **changes) -> dict:
    fov_deg = float(np.degrees(2 * np.arctan(45 / CAMERA.fl_y)))
    entries = [
        {
            "camera_to_world": CAMERA.T_world_camera.ravel().tolist(),
            "fov": fov_deg,
            "aspect": 16 / 9,
            "render_time": time,
        }
        for time in times
    ]
    return {
        "camera_type": "perspective",
        "render_height": 90,
        "render_width": 160,
        "fps": 24,
        "seconds": 1,
        "camera_path": entries,
        **changes,
    }


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_camera_path_of_nerfstudio_gives_its_cameras_and_times(tmp_path):
    found = read_camera_file(write(tmp_path / "path.json", nerfstudio_path()), 8, 8)
    assert found.times == [0.0, 0.5, 1.0]
    assert found.fps == 24
    for camera in found.cameras:
        np.testing.assert_allclose(camera.viewmat, CAMERA.viewmat, atol=1e-12)
        np.testing.assert_allclose(camera.K, CAMERA.K, atol=1e-9)
        assert (camera.width, camera.height) == (160, 90)


def test_a_camera_path_without_render_times_has_no_times(tmp_path):
    values = nerfstudio_path()
    for entry in values["camera_path"]:
        del entry["render_time"]
    assert read_camera_file(write(tmp_path / "path.json", values), 8, 8).times is None


def test_a_transforms_file_is_a_camera_path_without_its_images(tmp_path):
    frame = {"file_path": "not_there.png", "transform_matrix": CAMERA.T_world_camera.tolist()}
    values = {"camera_angle_x": 0.6, "frames": [frame | {"time": 0.25}, frame | {"time": 0.75}]}
    found = read_camera_file(write(tmp_path / "transforms.json", values), 32, 48)
    assert found.times == [0.25, 0.75]
    assert {(camera.width, camera.height) for camera in found.cameras} == {(48, 32)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ({}, "camera_path"),
        (nerfstudio_path(camera_path=[]), "no cameras"),
        (nerfstudio_path(camera_type="fisheye"), "perspective"),
        (nerfstudio_path(times=(0.0, 2.0)), "render_time"),
        (nerfstudio_path(fps=0), "frames per second"),
        (nerfstudio_path(camera_path=[{"camera_to_world": [0.0] * 16, "fov": 50}]), "singular"),
        (nerfstudio_path(camera_path=[{"camera_to_world": [1.0] * 5, "fov": 50}]), "shape"),
        (nerfstudio_path(camera_path=[{"fov": 50}]), "camera_to_world"),
        (nerfstudio_path(camera_path=["x"]), "not a valid"),
    ],
)
def test_an_invalid_camera_file_is_refused(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        read_camera_file(write(tmp_path / "path.json", content), 8, 8)


def test_a_missing_camera_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_camera_file(tmp_path / "orbitt", 8, 8)


def test_frames_of_other_programs_are_rotated_to_the_world_where_the_rest_already_is(tmp_path):
    R_world_source = rotation_from_up("y")
    frame = {"file_path": "x.png", "transform_matrix": CAMERA.T_world_camera.tolist(), "time": 0}
    foreign = {"camera_angle_x": 0.6, "frames": [frame]}
    for values, expected in [
        (foreign, rotated(CAMERA, R_world_source)),
        (foreign | {"version": 1}, CAMERA),
        (nerfstudio_path(), CAMERA),
    ]:
        path = write(tmp_path / "path.json", values)
        for camera in read_camera_file(path, 32, 48, R_world_source).cameras:
            np.testing.assert_allclose(camera.T_world_camera, expected.T_world_camera, atol=1e-12)
