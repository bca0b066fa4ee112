"""The hull of known shapes, and cameras of all kinds around them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from recon.errors import GridError
from recon.fitting.visual_hull import common_sphere, visual_hull
from recon.grid import Camera, Grid, grid_from_views, orbit_camera

SIZE, RESOLUTION = 48, 48
CENTER, RADIUS = np.array([0.15, -0.1, 0.05]), 0.5


def silhouette(camera: Camera, center: np.ndarray = CENTER, radius: float = RADIUS) -> np.ndarray:
    """RGBA of a sphere: its color is that of the pixel's ray, so it depends on the view."""
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    rays = np.stack(
        [(columns - camera.cx) / camera.fl_x, (rows - camera.cy) / camera.fl_y, np.ones_like(rows)],
        axis=-1,
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    viewmat = camera.viewmat
    seen = viewmat[:3, :3] @ center + viewmat[:3, 3]
    along = rays @ seen
    hit = (along > 0) & (seen @ seen - along**2 < radius**2)
    image = np.zeros((camera.height, camera.width, 4), np.uint8)
    image[hit] = [200, 100, 50, 255]
    return image


def sphere_grid(cameras: Sequence[Camera], draw: Callable = silhouette) -> Grid:
    return grid_from_views(cameras, np.stack([draw(camera)[None] for camera in cameras]))


def ring(count: int, elevation: float = 10.0, height: int = SIZE, width: int = SIZE):
    return [
        orbit_camera(360 * k / count, elevation * (-1) ** k, 3.2, 33.8, height, width)
        for k in range(count)
    ]


def all_around() -> list[Camera]:
    return [*ring(10), *ring(6, 50.0)]


def moved(camera: Camera, offset: Sequence[float]) -> Camera:
    pose = camera.T_world_camera.copy()
    pose[:3, 3] += offset
    return replace(camera, T_world_camera=pose)


def is_inside(camera: Camera, points: np.ndarray) -> np.ndarray:
    pixels, _ = camera.project(points)
    return ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(-1)


def test_the_hull_of_a_sphere_has_its_volume_center_and_color():
    hull = visual_hull(sphere_grid(all_around()), 0, RESOLUTION)
    volume = len(hull.points) * hull.voxel_size**3
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.25)
    assert volume > 0.98 * 4 / 3 * np.pi * RADIUS**3
    np.testing.assert_allclose(hull.points.mean(0), CENTER, atol=0.02)
    np.testing.assert_allclose(
        hull.rgb, np.tile([200, 100, 50], (len(hull.rgb), 1)) / 255, atol=5e-3
    )


def test_the_hull_contains_the_object():
    hull = visual_hull(sphere_grid(all_around()), 0, RESOLUTION)
    inside = np.random.default_rng(0).normal(size=(200, 3))
    inside *= (0.9 * RADIUS) / np.linalg.norm(inside, axis=1, keepdims=True)
    nearest = [np.abs(hull.points - CENTER - point).max(1).min() for point in inside]
    assert max(nearest) <= hull.voxel_size / 2 + 1e-9


def test_the_surface_is_a_shell_around_the_inside():
    hull = visual_hull(sphere_grid(all_around()), 0, RESOLUTION)
    distance = np.linalg.norm(hull.points - CENTER, axis=1)
    assert hull.on_surface.any()
    assert not hull.on_surface.all()
    assert distance[hull.on_surface].min() > distance[~hull.on_surface].mean()


def test_silhouettes_that_contradict_each_other_are_refused():
    cameras = ring(4)

    def apart(camera: Camera) -> np.ndarray:
        return silhouette(camera, np.array([0.6, 0.6, 0.4 * (camera.position[0] > 1)]), 0.1)

    images = [apart(camera) for camera in cameras]
    images[0], images[1] = np.fliplr(images[0]), np.flipud(images[1])
    images[2] = np.flipud(images[2])  # a single one would be tolerated
    with pytest.raises(GridError, match=r"most of the 4 views of frame 0"):
        visual_hull(grid_from_views(cameras, np.stack(images)[:, None]), 0, RESOLUTION)


def test_empty_masks_are_refused():
    grid = sphere_grid(ring(3), lambda camera: 0 * silhouette(camera))
    with pytest.raises(GridError, match="masks are not empty"):
        visual_hull(grid, 0, RESOLUTION)


@pytest.mark.parametrize("views", [1, 2])
def test_few_views_give_a_hull_that_projects_into_their_silhouettes(views: int):
    grid = sphere_grid(ring(4)[:views])
    hull = visual_hull(grid, 0, RESOLUTION)
    assert np.isfinite(hull.points).all()
    for index, camera in enumerate(grid.cameras):
        assert is_inside(camera, hull.points).all()
        columns, rows = camera.project(hull.points)[0].astype(int).T
        mask = grid.images[index][..., 3] > 0
        assert mask[rows, columns].mean() > 0.85  # the mask is grown by a pixel
        covered = np.zeros_like(mask)
        covered[rows, columns] = True
        assert covered[mask].mean() > 0.95


def test_an_image_that_is_not_square_gives_the_same_sphere():
    grid = sphere_grid(
        ring(8, 20.0, height=40, width=72), lambda camera: silhouette(camera, radius=0.25)
    )
    hull = visual_hull(grid, 0, RESOLUTION)
    np.testing.assert_allclose(hull.points.mean(0), CENTER, atol=0.03)


def test_the_hull_depends_on_the_frame():
    cameras = all_around()
    centers = [np.array([-0.3, 0.0, 0.0]), np.array([0.3, 0.0, 0.0])]
    images = np.stack([[silhouette(camera, c, 0.3) for c in centers] for camera in cameras])
    grid = grid_from_views(cameras, images)
    for frame, center in enumerate(centers):
        np.testing.assert_allclose(
            visual_hull(grid, frame, RESOLUTION).points.mean(0), center, atol=0.03
        )


@pytest.mark.parametrize("point", [(0.0, 0.0, 0.0), (1.0, -2.0, 0.5), (100.0, 0.0, -30.0)])
@pytest.mark.parametrize("views", [2, 5, 16])
def test_the_center_is_the_point_that_all_cameras_look_at(point, views: int):
    center, radius = common_sphere([moved(camera, point) for camera in ring(views, 15.0)])
    np.testing.assert_allclose(center, point, atol=1e-6)
    assert radius == pytest.approx(3.2 * np.sin(np.radians(33.8 / 2)))


def test_square_images_show_the_whole_common_sphere():
    cameras = [*ring(5, height=50, width=50), orbit_camera(10, 20, 1.7, 60, 40, 40)]
    center, radius = common_sphere(cameras)
    directions = np.random.default_rng(0).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for camera in cameras:
        assert is_inside(camera, center + 0.999 * radius * directions).all()


def test_a_single_camera_and_parallel_cameras_see_the_common_sphere():
    one = orbit_camera(0, 0, 3.0, 33.8, SIZE, SIZE)
    for cameras in ([one], [one, one], [one, moved(one, [0.5, 0, 0])]):
        center, radius = common_sphere(cameras)
        assert np.isfinite(center).all()
        assert radius > 0
        assert all(is_inside(camera, center).all() for camera in cameras)


def test_parallel_cameras_give_a_hull():
    one = orbit_camera(0, 0, 2.0, 40, SIZE, SIZE)
    hull = visual_hull(sphere_grid([one, moved(one, [0.1, 0, 0])]), 0, RESOLUTION)
    assert len(hull.points) > 0


def test_the_common_sphere_fills_the_longer_edge_of_wide_images():
    wide, square = ring(5, height=30, width=50), ring(5, height=50, width=50)
    assert common_sphere(wide)[1] == pytest.approx(common_sphere(square)[1])


def test_a_few_views_may_disagree():
    cameras = all_around()

    def draw(camera: Camera) -> np.ndarray:
        wrong = camera is cameras[2] or camera is cameras[7]
        return np.roll(silhouette(camera), SIZE // 4 if wrong else 0, axis=1)

    hull = visual_hull(sphere_grid(cameras, draw), 0, RESOLUTION)
    honest = visual_hull(sphere_grid(cameras), 0, RESOLUTION)
    assert 0.85 * len(honest.points) < len(hull.points) < 1.3 * len(honest.points)
    np.testing.assert_allclose(hull.points.mean(0), CENTER, atol=0.05)


def test_no_tolerance_is_needed_where_all_views_agree(monkeypatch: pytest.MonkeyPatch):
    grid = sphere_grid(all_around())
    found = visual_hull(grid, 0, RESOLUTION)
    monkeypatch.setattr("recon.fitting.visual_hull.MAX_TOLERANCE", 0.0)
    np.testing.assert_array_equal(visual_hull(grid, 0, RESOLUTION).points, found.points)


def test_there_is_no_tolerance_for_the_input_view():
    cameras = all_around()

    def draw(camera: Camera) -> np.ndarray:
        image = silhouette(camera)
        if camera is cameras[2] or camera is cameras[7]:
            image[:, SIZE // 2 :] = 0  # half of the sphere is missing
        return image

    grid = sphere_grid(cameras, draw)
    columns = cameras[2].project(visual_hull(grid, 0, RESOLUTION).points)[0][:, 0]
    assert columns.max() > SIZE // 2 + 4
    with_input = replace(grid, input_view=2)
    columns = cameras[2].project(visual_hull(with_input, 0, RESOLUTION).points)[0][:, 0]
    assert columns.max() < SIZE // 2 + 1
