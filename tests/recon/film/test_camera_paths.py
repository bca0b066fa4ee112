import dataclasses
import json

import numpy as np
import pytest
import torch

from recon.deformation.interface import StaticDeformation
from recon.errors import InputError
from recon.film import camera_paths
from recon.film.options import CAMERA_PATHS
from recon.gaussians import gaussians_from_points
from recon.grid.cameras import Camera, orbit_camera, viewing_angles_deg
from recon.scene import Scene


def ring(views: int, elevation_deg: float = 10.0, size: int = 16) -> tuple[Camera, ...]:
    return tuple(
        orbit_camera(360 * view / views, elevation_deg, 3.2, 33.8, size, size)
        for view in range(views)
    )


def make_scene(cameras: tuple[Camera, ...], frames: int = 5) -> Scene:
    points = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.2]])
    gaussians = gaussians_from_points(points, torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), 0.1, 0.9)
    return Scene(gaussians, StaticDeformation(), np.linspace(0, 1, frames), cameras)


def test_an_orbit_of_ring_cameras_with_equally_many_frames_is_the_ring():
    cameras = ring(8)
    for found, expected in zip(camera_paths.orbit(make_scene(cameras), 8), cameras, strict=True):
        np.testing.assert_allclose(found.T_world_camera, expected.T_world_camera, atol=1e-9)


def test_the_frame_after_the_last_of_an_orbit_would_be_the_first():
    scene = make_scene(ring(4))
    azimuths = [viewing_angles_deg(camera)[0] for camera in camera_paths.orbit(scene, 36)]
    np.testing.assert_allclose(np.diff(np.unwrap(azimuths, period=360)), 10.0, atol=1e-6)


def test_a_swing_returns_to_the_first_view_and_goes_as_far_to_either_side():
    scene = make_scene(ring(4))
    azimuths = np.array([viewing_angles_deg(camera)[0] for camera in camera_paths.swing(scene, 8)])
    azimuths = (azimuths + 180) % 360 - 180
    assert azimuths[0] == pytest.approx(0, abs=1e-6)
    assert azimuths.max() == pytest.approx(camera_paths.SWING_DEG)
    assert azimuths.min() == pytest.approx(-camera_paths.SWING_DEG)


def test_the_rotation_center_of_cameras_around_a_point_is_that_point():
    offset = np.array([0.4, -0.2, 0.7])
    moved = []
    for camera in ring(5):
        pose = camera.T_world_camera.copy()
        pose[:3, 3] += offset
        moved.append(dataclasses.replace(camera, T_world_camera=pose))
    np.testing.assert_allclose(
        camera_paths.rotation_center(make_scene(tuple(moved))), offset, atol=1e-9
    )


def test_with_one_camera_the_rotation_center_is_on_its_axis_at_the_depth_of_the_gaussians():
    camera = orbit_camera(30, 20, 3.2, 33.8, 16, 16)
    scene = make_scene((camera,))
    middle = scene.gaussians.means.mean(dim=0).numpy()
    depth_of = -camera.T_world_camera[:3, 2]
    offset = camera_paths.rotation_center(scene) - camera.position
    np.testing.assert_allclose(np.cross(offset, depth_of), 0, atol=1e-9)
    assert offset @ depth_of == pytest.approx((middle - camera.position) @ depth_of)


def test_at_the_frame_rate_of_the_scene_the_fitted_times_repeat():
    scene = make_scene(ring(1), frames=5)
    times = camera_paths.looping_times(scene, 10, scene.fps)
    np.testing.assert_allclose(times, np.tile(scene.times, 2))


def test_at_twice_the_frame_rate_times_are_interpolated():
    scene = make_scene(ring(1), frames=3)
    times = camera_paths.looping_times(scene, 6, 2 * scene.fps)
    np.testing.assert_allclose(times, [0, 0.25, 0.5, 0.75, 1, 1])


def test_frames_that_come_unevenly_play_in_their_own_time():
    scene = dataclasses.replace(make_scene(ring(1), frames=3), times=np.array([0, 0.1, 1]))
    times = camera_paths.looping_times(scene, 6, 2 * scene.fps)
    np.testing.assert_allclose(times, [0, 0.25, 0.5, 0.75, 1, 1])


def test_a_scene_of_one_frame_has_a_constant_time():
    scene = make_scene(ring(1), frames=1)
    np.testing.assert_array_equal(camera_paths.looping_times(scene, 7, 24.0), 0)


def test_a_video_lasts_whole_loops_and_long_enough():
    scene = make_scene(ring(1), frames=21)
    assert camera_paths.loop_frames(scene, 10.0) == 63
    assert camera_paths.loop_frames(scene, 20.0) == 126
    assert camera_paths.loop_frames(scene, 10.0, seconds=0.1) == 21


def test_resizing_keeps_the_field_of_view_and_makes_even_sides():
    camera = Camera(ring(1)[0].T_world_camera, 20.0, 20.0, 15.0, 10.0, 30, 20)
    wide = camera_paths.resized(camera, 99)
    assert (wide.width, wide.height) == (100, 66)
    assert wide.fl_x / wide.width == pytest.approx(camera.fl_x / camera.width)
    assert wide.fl_y / wide.height == pytest.approx(camera.fl_y / camera.height)


def test_an_unknown_view_is_an_error_that_gives_the_range_of_views():
    with pytest.raises(InputError, match="0 to 3"):
        camera_paths.fixed(make_scene(ring(4)), 1, view=4)


def test_a_path_by_name_has_whole_loops_at_24_frames_per_second():
    scene = make_scene(ring(4), frames=21)
    path = camera_paths.plan_camera_path(scene, "orbit")
    assert path.fps == 24
    assert len(path.cameras) == len(path.times) == round(3 * 2.1 * 24)


def test_a_fixed_camera_shows_one_loop():
    scene = make_scene(ring(4), frames=20)
    path = camera_paths.plan_camera_path(scene, "fixed:2", fps=10)
    assert len(path.cameras) == 20
    assert all(camera is scene.cameras[2] for camera in path.cameras)
    np.testing.assert_allclose(path.times, scene.times)


def test_a_camera_file_defines_cameras_times_and_frame_rate(tmp_path):
    camera = ring(3)[1]
    frame = {"file_path": "x.png", "transform_matrix": camera.T_world_camera.tolist()}
    file = tmp_path / "cameras.json"
    file.write_text(
        json.dumps({"fl_x": camera.fl_x, "fps": 5, "frames": [frame | {"time": 1.0}] * 2})
    )
    path = camera_paths.plan_camera_path(make_scene(ring(3)), str(file), size=32)
    assert path.fps == 5
    assert list(path.times) == [1.0, 1.0]
    assert [camera.width for camera in path.cameras] == [32, 32]


@pytest.mark.parametrize("path", ["spiral", "fixed:last", "fixed:9", "fixed:", "orbit:2"])
def test_an_unknown_camera_path_is_an_input_error(path):
    with pytest.raises(InputError):
        camera_paths.plan_camera_path(make_scene(ring(4)), path)


def test_every_named_path_is_one_that_the_command_line_accepts():
    assert tuple(camera_paths.camera_paths) == CAMERA_PATHS
