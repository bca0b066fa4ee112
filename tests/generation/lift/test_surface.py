import numpy as np
import pytest

from generation.lift.surface import LiftedSurface, surface_of
from generation.surface_layers import SurfaceLayers
from recon.native.mesh import NO_SHADOWS, NativeMesh, image_from_world
from tests.generation.lift.tiny_layers import (
    FRONT_COLOR,
    ball_depths,
    ball_image,
    camera,
    layers_of,
    solid_image,
)


def open_edges(surface: LiftedSurface) -> int:
    """Number of directed edges that no other triangle passes in the opposite direction."""
    corners = surface.triangles.astype(np.int64)
    begin, end = corners.ravel(), np.roll(corners, -1, axis=1).ravel()
    count = len(surface.vertices)
    forward, number = np.unique(begin * count + end, return_counts=True)
    back, opposite = np.unique(end * count + begin, return_counts=True)
    assert len(forward) == len(back) or len(forward) != 0
    same = np.array_equal(forward, back) and np.array_equal(number, opposite)
    return 0 if same else len(np.setxor1d(forward, back)) + 1


def volume(surface: LiftedSurface) -> float:
    a, b, c = np.moveaxis(surface.vertices.astype(np.float64)[surface.triangles], 1, 0)
    return float(np.einsum("mi,mi->", a, np.cross(b, c)) / 6)


def random_layers(rng: np.random.Generator, shape: tuple[int, int]) -> SurfaceLayers:
    """Layers without any order between neighbors."""
    depth = np.sort(rng.uniform(2.9, 3.5, (4, *shape)), axis=0).astype(np.float32)
    mask, gap = rng.random(shape) < 0.7, rng.random(shape) < 0.5
    color = rng.integers(0, 256, (4, *shape, 3)).astype(np.uint8)
    return SurfaceLayers(depth * mask, color, mask, gap & mask)


@pytest.mark.parametrize("seed", range(8))
def test_a_surface_is_closed_whatever_the_layers_are(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(5, 40))
    layers = random_layers(rng, tuple(rng.integers(3, 30, 2)))
    image = rng.integers(0, 256, (size, size, 4)).astype(np.uint8)
    surface = surface_of(layers, image, camera(size))
    assert len(surface.triangles) > 0 and open_edges(surface) == 0
    assert surface.triangles.max() == len(surface.vertices) - 1
    assert np.isfinite(surface.vertices).all()


def test_rays_leave_a_surface_as_often_as_they_enter_it():
    rng = np.random.default_rng(0)
    surface = surface_of(random_layers(rng, (20, 20)), ball_image(40, 0.7), camera(40))
    mesh = NativeMesh(
        surface.vertices, surface.triangles, normals=np.zeros((*surface.triangles.shape, 3))
    )
    eye = camera(53, 50, 20)
    found = mesh.crossings(image_from_world(eye), 53, 53, NO_SHADOWS, 0, 0)
    winding = np.bincount(found.pixel, found.winding, 53 * 53)
    # a ray through an edge can count one triangle twice
    assert len(found.pixel) > 1000 and np.mean(winding != 0) < 0.01


@pytest.mark.parametrize("size", [32, 64, 90])
def test_a_ball_has_its_volume_and_its_shape(size):
    surface = surface_of(layers_of(ball_depths(32, 0.7)), ball_image(size, 0.7), camera(size))
    assert volume(surface) == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.02)
    distance = np.linalg.norm(surface.vertices, axis=1)
    assert np.percentile(np.abs(distance - 0.7), 95) < 0.03


def test_the_front_has_the_colors_of_the_image():
    mask = np.zeros((24, 24), np.bool_)
    mask[5:20, 4:17] = True
    image = solid_image(mask)
    front = np.where(mask, 3.0, np.nan)
    surface = surface_of(layers_of([front, front + 0.4]), image, camera(24))
    pixels, depth = camera(24).project(surface.vertices.astype(np.float64))
    near = depth < 3.2
    inner = np.abs(pixels[near] % 1 - 0.5).max(axis=1) < 1e-3
    column, row = np.floor(pixels[near][inner]).astype(int).T
    assert len(row) == mask.sum()
    np.testing.assert_array_equal(surface.colors[near][inner], image[row, column, :3])


def test_pixels_mixed_with_the_background_take_their_color_from_inside():
    image = ball_image(32, 0.7)
    image[(image[..., 3] > 0) & (image[..., 3] < 240), :3] = 255
    surface = surface_of(layers_of(ball_depths(32, 0.7)), image, camera(32))
    assert (surface.colors != 255).all()
    _, depth = camera(32).project(surface.vertices.astype(np.float64))
    np.testing.assert_array_equal(
        surface.colors[depth < 3.0], np.tile(FRONT_COLOR, (int(np.sum(depth < 3.0)), 1))
    )


def test_parts_behind_one_another_stay_apart():
    near, far = ball_depths(48, 0.3, (0.1, -0.5, 0)), ball_depths(48, 0.3, (-0.1, 0.5, 0))
    both = ~np.isnan(near[0]) & ~np.isnan(far[0])
    layers = layers_of(
        [
            np.fmin(near[0], far[0]),
            np.where(both, near[1], np.nan),
            np.where(both, far[0], np.nan),
            np.fmax(near[1], far[1]),
        ]
    )
    image = solid_image(layers.mask)
    surface = surface_of(layers, image, camera(48))
    assert open_edges(surface) == 0
    y = surface.vertices[:, 1]
    assert not np.any(np.abs(y[surface.triangles].max(1) - y[surface.triangles].min(1)) > 0.7)
    assert volume(surface) == pytest.approx(2 * 4 / 3 * np.pi * 0.3**3, rel=0.05)


def test_an_empty_image_has_an_empty_surface():
    empty = np.zeros((20, 20, 4), np.uint8)
    layers = layers_of(ball_depths(16, 0.5))
    nothing = layers_of([np.full((16, 16), np.nan)] * 2)
    for surface in (
        surface_of(layers, empty, camera(20)),
        surface_of(nothing, ball_image(20, 0.5), camera(20)),
    ):
        assert surface.vertices.shape == surface.triangles.shape == (0, 3)


def test_a_single_pixel_is_a_closed_body():
    mask = np.zeros((16, 16), np.bool_)
    mask[0, 3] = True  # at the border
    front = np.where(mask, 3.0, np.nan)
    surface = surface_of(layers_of([front, front]), solid_image(mask), camera(16))
    assert open_edges(surface) == 0 and volume(surface) > 0


def test_an_object_outside_of_the_layers_takes_the_nearest_depths():
    layers = layers_of(ball_depths(16, 0.3))
    surface = surface_of(layers, ball_image(32, 0.3, (0.5, 0, 0)), camera(32))
    _, depth = camera(32).project(surface.vertices.astype(np.float64))
    assert open_edges(surface) == 0 and 2.8 < depth.min() < depth.max() < 3.6
