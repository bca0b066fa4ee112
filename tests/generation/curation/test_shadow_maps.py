import numpy as np
import pytest

from generation.curation.baked_asset import Surface
from generation.curation.light import Light
from generation.curation.mesh_rasterizer import DrawableMesh
from generation.curation.shadow_maps import MAPS, draw_shadow_maps, sun_directions
from tests.generation.curation.tiny_meshes import asset, ball, joined, quad


def test_directions_fill_the_disc_of_the_sun():
    light = Light()
    directions = sun_directions(light)
    axis = -np.array(light.direction) / np.linalg.norm(light.direction)
    angle = np.degrees(np.arccos(np.clip(directions @ axis, -1, 1)))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert angle.max() < light.angle_deg / 2
    # The mean square of the radius in a disc is half of its square.
    assert np.mean(angle**2) == pytest.approx((light.angle_deg / 2) ** 2 / 2, rel=1e-3)
    centre = directions.mean(axis=0)
    assert np.degrees(np.arccos(centre @ axis / np.linalg.norm(centre))) < 0.1


@pytest.mark.parametrize("direction", [(0, 0, -1), (1, 0, 0), (0, -2, 0), (1, 1, 1)])
def test_the_sun_may_shine_along_any_direction(direction):
    directions = sun_directions(Light(direction=direction, angle_deg=0))
    expected = -np.array(direction) / np.linalg.norm(direction)
    np.testing.assert_allclose(directions, np.tile(expected, (MAPS, 1)), atol=1e-12)


def test_every_vertex_is_inside_of_every_map_and_nothing_is_nearer_than_the_map():
    frame = joined(ball(0.4), quad(1.0, (0, 0, -0.4), (0, 0, 1)))
    maps = draw_shadow_maps(DrawableMesh(asset(frame), frame), frame.vertices, Light(), 64)
    points = frame.vertices @ maps.T_map_world[:, :, :3].transpose(0, 2, 1)
    points += maps.T_map_world[:, None, :, 3]
    assert maps.nearness.shape == (MAPS, 64, 64)
    assert points[..., :2].min() >= 0.99 and points[..., :2].max() <= 63.01
    assert maps.nearness.max() <= points[..., 2].max() + 1e-3
    assert (maps.nearness > -1e30).mean() > 0.3


def test_a_partly_transparent_surface_covers_that_share_of_its_texels():
    frame = quad(1.0, normal=(-0.55, -0.75, 0.9))
    drawable = DrawableMesh(asset(frame, Surface(base_colour=(1, 1, 1, 0.3))), frame)
    maps = draw_shadow_maps(drawable, frame.vertices, Light(angle_deg=0), 64)
    covered = maps.nearness > -1e30
    solid = DrawableMesh(asset(frame), frame)
    whole = draw_shadow_maps(solid, frame.vertices, Light(angle_deg=0), 64).nearness > -1e30
    assert covered.sum() / whole.sum() == pytest.approx(0.3, abs=0.005)
    share = covered.mean(axis=0)[whole[0]]  # of the maps at one texel: as even as it can be
    assert np.abs(share - 0.3).max() < 0.1
