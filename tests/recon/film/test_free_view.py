import dataclasses
import json

import numpy as np
import pytest
import torch

from recon.deformation.interface import StaticDeformation
from recon.errors import InputError
from recon.film import free_view
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


def test_an_orbit_of_as_many_frames_as_the_ring_has_views_is_the_ring():
    cameras = ring(8)
    for found, expected in zip(free_view.orbit(make_scene(cameras), 8), cameras, strict=True):
        np.testing.assert_allclose(found.T_world_camera, expected.T_world_camera, atol=1e-9)


def test_the_frame_after_the_last_of_an_orbit_would_be_the_first():
    scene = make_scene(ring(4))
    azimuths = [viewing_angles_deg(camera)[0] for camera in free_view.orbit(scene, 36)]
    np.testing.assert_allclose(np.diff(np.unwrap(azimuths, period=360)), 10.0, atol=1e-6)


def test_a_swing_returns_to_the_first_view_and_goes_as_far_to_either_side():
    scene = make_scene(ring(4))
    azimuths = np.array([viewing_angles_deg(camera)[0] for camera in free_view.swing(scene, 8)])
    azimuths = (azimuths + 180) % 360 - 180
    assert azimuths[0] == pytest.approx(0, abs=1e-6)
    assert azimuths.max() == pytest.approx(free_view.SWING_DEG)
    assert azimuths.min() == pytest.approx(-free_view.SWING_DEG)


def test_the_pivot_of_cameras_around_a_point_is_that_point():
    offset = np.array([0.4, -0.2, 0.7])
    moved = []
    for camera in ring(5):
        pose = camera.T_world_camera.copy()
        pose[:3, 3] += offset
        moved.append(dataclasses.replace(camera, T_world_camera=pose))
    np.testing.assert_allclose(free_view.pivot(make_scene(tuple(moved))), offset, atol=1e-9)


def test_with_one_camera_the_pivot_lies_on_its_axis_as_deep_as_the_gaussians():
    camera = orbit_camera(30, 20, 3.2, 33.8, 16, 16)
    scene = make_scene((camera,))
    middle = scene.gaussians.means.mean(dim=0).numpy()
    depth_of = -camera.T_world_camera[:3, 2]
    offset = free_view.pivot(scene) - camera.position
    np.testing.assert_allclose(np.cross(offset, depth_of), 0, atol=1e-9)
    assert offset @ depth_of == pytest.approx((middle - camera.position) @ depth_of)


def test_at_the_speed_of_the_scene_the_times_are_the_fitted_ones_again_and_again():
    scene = make_scene(ring(1), frames=5)
    times = free_view.looping_times(scene, 10, scene.fps)
    np.testing.assert_allclose(times, np.tile(scene.times, 2))


def test_at_twice_the_speed_every_other_time_is_between_two_fitted_ones():
    scene = make_scene(ring(1), frames=3)
    times = free_view.looping_times(scene, 6, 2 * scene.fps)
    np.testing.assert_allclose(times, [0, 0.25, 0.5, 0.75, 1, 1])


def test_a_scene_of_one_frame_stands_still():
    scene = make_scene(ring(1), frames=1)
    np.testing.assert_array_equal(free_view.looping_times(scene, 7, 24.0), 0)


def test_a_film_lasts_whole_clips_and_long_enough():
    scene = make_scene(ring(1), frames=21)
    assert free_view.frames_of_loops(scene, 10.0) == 63
    assert free_view.frames_of_loops(scene, 20.0) == 126
    assert free_view.frames_of_loops(scene, 10.0, seconds=0.1) == 21


def test_frames_are_bytes_over_the_background_of_the_scene():
    scene = make_scene(ring(4))
    cameras = free_view.orbit(scene, 3)
    frames = list(free_view.free_view_frames(scene, cameras, [0.0, 0.5, 1.0]))
    assert [frame.shape for frame in frames] == [(16, 16, 3)] * 3
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert (frames[0][0, 0] == 255).all()
    assert frames[0][8, 8, 0] > frames[0][8, 8, 2]  # the red Gaussian is in the middle


def test_another_background_can_be_asked_for():
    scene = make_scene(ring(1))
    (frame,) = free_view.free_view_frames(scene, scene.cameras, [0.0], (0.0, 1.0, 0.0))
    assert tuple(frame[0, 0]) == (0, 255, 0)


def test_resizing_keeps_the_field_of_view_and_makes_even_sides():
    camera = Camera(ring(1)[0].T_world_camera, 20.0, 20.0, 15.0, 10.0, 30, 20)
    (wide,) = free_view.resized([camera], 99)
    assert (wide.width, wide.height) == (100, 66)
    assert wide.fl_x / wide.width == pytest.approx(camera.fl_x / camera.width)
    assert wide.fl_y / wide.height == pytest.approx(camera.fl_y / camera.height)


def test_a_view_that_the_scene_does_not_have_is_an_error_that_names_those_it_has():
    with pytest.raises(InputError, match="0 to 3"):
        free_view.fixed(make_scene(ring(4)), 1, view=4)


def test_a_shot_by_name_has_whole_clips_at_a_speed_of_its_own():
    scene = make_scene(ring(4), frames=21)
    shot = free_view.plan_shot(scene, "orbit")
    assert shot.fps == 24
    assert len(shot.cameras) == len(shot.times) == round(3 * 2.1 * 24)


def test_a_standing_camera_films_one_clip():
    scene = make_scene(ring(4), frames=20)
    shot = free_view.plan_shot(scene, "fixed:2", fps=10)
    assert len(shot.cameras) == 20
    assert all(camera is scene.cameras[2] for camera in shot.cameras)
    np.testing.assert_allclose(shot.times, scene.times)


def test_a_shot_from_a_file_has_the_cameras_times_and_speed_of_the_file(tmp_path):
    camera = ring(3)[1]
    frame = {"file_path": "x.png", "transform_matrix": camera.T_world_camera.tolist()}
    path = tmp_path / "cameras.json"
    path.write_text(
        json.dumps({"fl_x": camera.fl_x, "fps": 5, "frames": [frame | {"time": 1.0}] * 2})
    )
    shot = free_view.plan_shot(make_scene(ring(3)), str(path), size=32)
    assert shot.fps == 5
    assert list(shot.times) == [1.0, 1.0]
    assert [camera.width for camera in shot.cameras] == [32, 32]


@pytest.mark.parametrize("path", ["spiral", "fixed:last", "fixed:9"])
def test_an_unknown_camera_path_is_an_input_error(path):
    with pytest.raises(InputError):
        free_view.plan_shot(make_scene(ring(4)), path)
