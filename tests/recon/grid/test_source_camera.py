"""A source camera sees where the object was, and is kept by files and in other worlds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from recon.errors import GridError
from recon.fitting.checkpoint import fit_identity
from recon.fitting.config import fit_config
from recon.grid import Grid, orbit_camera, read_grid
from recon.grid.source_camera import (
    SourceCamera,
    source_camera_from_json,
    source_camera_to_json,
)
from recon.grid.video_thumbnails import thumbnail_difference, thumbnails_of
from recon.grid.writing import write_posed_images
from recon.similarity import Similarity


def make_source(T: int = 3) -> SourceCamera:
    """A video of 40 × 60 pixels in which the object moves right and down; every fourth frame."""
    camera = replace(orbit_camera(20, 10, 2.0, 33.8, 40, 60), cx=12.5, cy=18.0)
    steps = np.arange(T)
    points = np.stack([12.5 + 8.0 * steps, 18.0 + 2.5 * steps], axis=1)
    times = steps / max(T - 1, 1)
    return SourceCamera(camera, times, points, tuple(range(5, 5 + 4 * T, 4)))


@pytest.fixture
def source() -> SourceCamera:
    return make_source()


def same(found: SourceCamera | None, expected: SourceCamera) -> bool:
    return found is not None and source_camera_to_json(found) == source_camera_to_json(expected)


def test_the_principal_point_moves_the_image(source):
    point = np.array([0.1, -0.2, 0.3])
    pixels = np.stack([source.at(time).project(point)[0] for time in (0.0, 0.25, 0.5, 1.0)])
    np.testing.assert_allclose(pixels - pixels[0], [[0, 0], [4, 1.25], [8, 2.5], [16, 5]])


def test_frames_of_the_video_have_times(source):
    assert [source.time_of(number) for number in (5, 7, 9, 13)] == [0, 0.25, 0.5, 1]


def test_json_keeps_every_digit(source):
    source = replace(source, principal_points=source.principal_points + 1 / 3)
    text = json.dumps(source_camera_to_json(source))
    assert same(source_camera_from_json(json.loads(text)), source)
    assert source_camera_from_json(None) is None


def test_thumbnails_are_kept_and_tell_videos_apart(source):
    frames = np.random.default_rng(0).integers(0, 255, (6, 24, 36, 4), np.uint8)
    known = thumbnails_of(frames[:3])
    values = json.loads(json.dumps(source_camera_to_json(replace(source, thumbnails=known))))
    found = source_camera_from_json(values)
    assert found is not None and found.thumbnails is not None
    assert (found.thumbnails == known).all()
    assert thumbnail_difference(thumbnails_of(frames[:3] // 16 * 16 + 8), known) < 0.1
    assert thumbnail_difference(thumbnails_of(frames[3:]), known) > 0.5


def test_a_grid_keeps_its_source_camera_on_disk(source, tiny_grid: Grid, tmp_path):
    write_posed_images(replace(tiny_grid, source_camera=source), tmp_path)
    found = read_grid(tmp_path)
    assert same(found.source_camera, source)
    write_posed_images(found, tmp_path)
    assert same(read_grid(tmp_path).source_camera, source)


def test_a_grid_without_one_is_written_and_read_as_before(tiny_grid_folder):
    assert "source_camera" not in json.loads((tiny_grid_folder / "transforms.json").read_text())
    assert read_grid(tiny_grid_folder).source_camera is None


def test_it_sees_the_same_in_another_world(source, tiny_grid: Grid):
    similarity = Similarity(3.0, np.array([1.0, -2.0, 0.5]))
    moved = similarity.grid(replace(tiny_grid, source_camera=source)).source_camera
    assert moved is not None
    points = np.random.default_rng(0).normal(size=(5, 3)) / 5
    expected = source.at(0.3).project(points)[0]
    np.testing.assert_allclose(moved.at(0.3).project(similarity.points(points))[0], expected)


def test_a_fit_that_was_begun_before_is_resumed(source, tiny_grid: Grid):
    config = fit_config("draft", None, "cpu", 0, 0)
    with_source = replace(tiny_grid, source_camera=source)
    assert fit_identity(tiny_grid, config) == fit_identity(with_source, config)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": []},
        {"frames": None},
        {"frames": [{"time": 0.0, "source_frame": 3, "cx": 1.0}]},
        {"frames": [{"time": 1.5, "source_frame": 3, "cx": 1.0, "cy": 2.0}]},
        {"frames": [{"time": 0.5, "source_frame": -1, "cx": 1.0, "cy": 2.0}]},
        {"frames": [{"time": 0.5, "source_frame": 1, "cx": float("nan"), "cy": 2.0}]},
        {"frames": [{"time": 0, "source_frame": 1, "cx": 1.0, "cy": 2.0, "thumbnail": "AAAA"}]},
        {"frames": [{"time": 0, "source_frame": 1, "cx": 1.0, "cy": 2.0, "thumbnail": 7}]},
        {"frames": 2 * [{"time": 0.5, "source_frame": 1, "cx": 1.0, "cy": 2.0}]},
        {"fl_x": 0.0},
        {"fl_y": "long"},
        {"w": 0},
        {"h": 10**9},
        {"transform_matrix": [[1]]},
    ],
)
def test_what_is_not_valid_is_refused_by_name(source, tiny_grid: Grid, tmp_path, change):
    write_posed_images(replace(tiny_grid, source_camera=source), tmp_path)
    path = tmp_path / "transforms.json"
    values = json.loads(path.read_text())
    values["source_camera"] |= change
    path.write_text(json.dumps(values))
    with pytest.raises(GridError, match="source_camera") as caught:
        read_grid(tmp_path)
    assert caught.value.path == path
