from dataclasses import replace

import numpy as np
import pytest
from scipy.signal.windows import blackmanharris

from generation.curation.figures.asset import FigureAsset
from generation.curation.render.baked_asset import BakedAsset, Surface
from generation.curation.render.fast_renderer import (
    SHADOW_MAPS,
    FastRenderer,
    blackman_harris,
    draw_shadow_maps,
    native_mesh,
    subpixels_along_pixel,
    sun_directions,
)
from generation.curation.render.settings import Light, RenderSettings
from recon.errors import InputError
from recon.grid import orbit_camera
from recon.native.library import kernels
from recon.native.mesh import image_from_world
from recon.rasterizers.crossings_reference import mesh_crossings_reference
from tests.generation.curation.render.plain_renderer import encode, render_plainly, shade
from tests.generation.curation.tiny_meshes import CHECKER, asset, ball, joined, mesh, quad

ALL_ROUND = Light(ambient=1.0, sun=0.0)
FRONT = orbit_camera(0, 0, 3.2, 33.8, 32, 32)
VARIANTS = ("generic", "avx2", "avx512")


def picture(baked: BakedAsset, camera=FRONT, light=ALL_ROUND, samples=16) -> np.ndarray:
    return FastRenderer(baked, light, samples).render(0, [camera])[0]


def encoded(linear) -> np.ndarray:
    linear = np.asarray(linear, np.float64)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def assert_alike(one: np.ndarray, other: np.ndarray, steps: int = 1) -> None:
    """Compare over black, because colors of nearly transparent pixels are inexact."""
    over = [x[..., :3].astype(float) * x[..., 3:] / 255 for x in (one, other)]
    difference = np.abs(over[0] - over[1]).max(axis=-1)
    assert np.mean(difference > steps) < 0.01  # a place on an edge belongs to either side
    assert np.mean(np.abs(one[..., 3].astype(int) - other[..., 3]) > steps) < 0.01


def test_a_textured_square_in_perspective_agrees_with_the_reference_renderer():
    camera = orbit_camera(40, 20, 3.2, 33.8, 24, 32)
    baked = asset(quad(1.0), Surface(base_texture=0), textures=(CHECKER,))
    assert_alike(picture(baked, camera), render_plainly(baked, 0, camera, ALL_ROUND, 16))


def test_texture_coordinates_outside_of_0_to_1_repeat():
    frame = quad(1.0)
    frame.uv[:] = frame.uv * 3.3 - 1.2
    baked = asset(frame, Surface(base_texture=0), textures=(CHECKER,))
    assert_alike(picture(baked), render_plainly(baked, 0, FRONT, ALL_ROUND, 16))


def test_a_colored_ball_in_the_sun_agrees_with_the_reference_renderer():
    frame = ball(0.6, rings=4)
    rng = np.random.default_rng(0)
    frame.colors[..., :3] = rng.uniform(0.2, 1, frame.colors[..., :3].shape)
    surface = Surface(
        base_color=(0.9, 0.6, 0.4, 1), uses_colors=True, emission=(0.1, 0, 0.05),
        emission_texture=0,
    )  # fmt: skip
    baked = asset(frame, surface, textures=(CHECKER,))
    camera = orbit_camera(-60, 15, 3.2, 33.8, 32, 32)
    fast, plain = picture(baked, camera, Light()), render_plainly(baked, 0, camera, Light(), 16)
    assert_alike(fast, plain, steps=4)  # the edge of its own shadow is as sharp as a texel


def test_transparent_layers_agree_with_the_reference_renderer():
    frame = joined(
        quad(0.7, (-0.2, -0.4, 0), surface=0),
        quad(0.8, (0.1, 0.2, 0.1), (0.3, -1, 0), surface=1),
        quad(0.9, (0, 0.4, -0.1), surface=2),
        quad(0.5, (0.3, -0.2, -0.3), (0.4, 1, 0.1), surface=3),
    )
    frame.colors[4:6, :, 3] = np.linspace(0.2, 1, 6).reshape(2, 3)
    texture = CHECKER.copy()
    texture[..., 3] = [[20, 200], [120, 255]]
    surfaces = (
        Surface(base_color=(0.8, 0.1, 0.1, 0.4)),
        Surface(base_color=(0.1, 0.5, 0.9, 0.9), alpha_texture=0),
        Surface(base_color=(0.2, 0.8, 0.2, 1), uses_colors=True),
        Surface(base_texture=0, alpha_texture=0, alpha_cutoff=0.5),
    )
    baked = asset(frame, *surfaces, textures=(texture,))
    assert_alike(picture(baked), render_plainly(baked, 0, FRONT, ALL_ROUND, 16))


def test_shadows_agree_with_ray_casting():
    roof = quad(0.4, (0, 0.1, 0.1), (0.2, 0.3, 1))
    frame = joined(roof, quad(1.1, (0, 0, -0.35), (0, 0, 1), surface=1))
    baked = asset(frame, Surface(base_color=(0.9, 0.3, 0.2, 1)), Surface())
    camera = orbit_camera(20, 40, 3.2, 33.8, 40, 40)
    fast, plain = picture(baked, camera, Light()), render_plainly(baked, 0, camera, Light(), 16)
    difference = np.abs(fast[..., :3].astype(float) - plain[..., :3])
    assert np.sqrt(np.mean(difference**2)) < 2
    lit = render_plainly(asset(quad(1.1, (0, 0, -0.35), (0, 0, 1))), 0, camera, Light(), 16)
    assert np.abs(lit.astype(float) - fast).max() > 30  # there is a shadow to be found


def test_colors_follow_the_formula():
    light, base = Light(), np.array([0.7, 0.3, 0.1])
    normal = np.array([-0.3, -0.8, 0.5]) / np.linalg.norm([-0.3, -0.8, 0.5])
    sun = -np.array(light.direction) / np.linalg.norm(light.direction)
    surface = Surface(base_color=(*base, 1), emission=(0.02, 0.05, 0.1))
    image = picture(asset(quad(1.2, normal=tuple(normal)), surface), light=light)
    strength = light.sun / np.pi * (normal @ sun) + light.ambient * (0.8 + 0.2 * normal[2])
    expected = encoded(base * strength + [0.02, 0.05, 0.1])
    np.testing.assert_allclose(image[16, 16, :3], expected, atol=1)


def test_back_faces_are_shaded_with_the_flipped_normal():
    baked = asset(quad(1.2, normal=(0, -1, 0)))
    behind = orbit_camera(180, 0, 3.2, 33.8, 16, 16)
    turned = asset(quad(1.2, normal=(0, 1, 0)))
    np.testing.assert_array_equal(
        picture(baked, behind, Light())[8, 8], picture(turned, behind, Light())[8, 8]
    )
    assert picture(baked, light=Light())[16, 16, 0] > picture(baked, behind, Light())[8, 8, 0] + 20


def test_the_back_of_a_single_sided_surface_is_invisible():
    surface = Surface(double_sided=False)
    turned = asset(quad(1.2, normal=(0, 1, 0)), surface)
    assert not picture(turned).any()
    assert (FastRenderer(turned, Light(), 4).surface_truth(0, FRONT).triangle == -1).all()
    facing = picture(asset(quad(1.2), surface), light=Light())
    np.testing.assert_array_equal(facing, picture(asset(quad(1.2)), light=Light()))


@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_single_sided_surfaces_agree_with_the_reference_renderer(alpha):
    shell = ball(0.75, rings=4, surface=1)
    inwards = replace(
        shell, triangles=shell.triangles[:, ::-1].copy(), normals=-shell.normals[:, ::-1]
    )
    frame = joined(ball(0.6, rings=4), inwards)
    surfaces = Surface((0.9, 0.3, 0.2, 1)), Surface((0.1, 0.1, 0.1, alpha), double_sided=False)
    baked = asset(frame, *surfaces)
    camera = orbit_camera(-60, 15, 3.2, 33.8, 32, 32)
    assert_alike(picture(baked, camera), render_plainly(baked, 0, camera, ALL_ROUND, 16))


def test_a_single_sided_surface_casts_a_shadow_with_its_back():
    light = Light(direction=(0, 0, -1), angle_deg=0.5)
    camera = orbit_camera(0, 60, 3.2, 33.8, 32, 32)
    floor = quad(1.6, normal=(0, 0, 1))
    roof = quad(0.5, (0, 0, 0.6), normal=(0, 0, -1), surface=1)
    bare = picture(asset(floor), camera, light)
    shaded = picture(
        asset(joined(floor, roof), Surface(), Surface(double_sided=False)), camera, light
    )
    np.testing.assert_array_equal(shaded[..., 3], bare[..., 3])  # the roof is not seen from above
    assert bare[16, 16, 0] > shaded[16, 16, 0] + 30


def test_an_unlit_surface_only_emits():
    surface = Surface(emission=(0.5, 0.25, 1.0), unlit=True)
    image = picture(asset(quad(1.2), surface), light=Light())
    np.testing.assert_allclose(image[16, 16, :3], encoded([0.5, 0.25, 1.0]), atol=0.51)


def test_light_beyond_white_is_clipped():
    image = picture(asset(quad(1.2), Surface(emission=(7, 0, 0))))
    assert image[16, 16, 0] == 255


def test_opacities_of_two_layers_multiply():
    frame = joined(quad(1.2, (0, -0.2, 0)), quad(1.2, (0, 0.2, 0), surface=1))
    surfaces = (Surface(base_color=(1, 0, 0, 0.4)), Surface(base_color=(0, 1, 0, 0.5)))
    pixel = picture(asset(frame, *surfaces))[16, 16]
    alpha = 1 - 0.6 * 0.5
    np.testing.assert_allclose(pixel[3], 255 * alpha, atol=1)
    shares = np.array([0.4, 0.6 * 0.5, 0]) / alpha
    np.testing.assert_allclose(pixel[:3], encoded(0.8 * shares), atol=1)


def test_a_transparent_surface_attenuates_the_sun_by_its_alpha():
    light = Light(ambient=0.0, sun=3.0, direction=(0, 1, 0))
    above = orbit_camera(0, 60, 3.2, 33.8, 32, 32)

    def wall(*panes):
        frame = joined(quad(1.0, (0, 0.3, -0.2)), *panes)
        pane = Surface(base_color=(1, 1, 1, 0.25))
        return picture(asset(frame, Surface(), pane), above, light, 144)

    open_wall = wall()
    row, column = np.argwhere(open_wall[..., 3] == 255).mean(axis=0).astype(int)
    shaded = wall(quad(1.4, (0, -0.5, -0.2), surface=1))
    window = np.s_[row : row + 2, column - 8 : column + 8]
    linear = [(x[window][..., 0] / 255.0 + 0.055) / 1.055 for x in (open_wall, shaded)]
    ratio = np.mean(linear[1] ** 2.4) / np.mean(linear[0] ** 2.4)
    assert ratio == pytest.approx(0.75, abs=0.03)


def test_a_surface_does_not_shade_itself():
    light = Light(ambient=0.0, angle_deg=0.0)
    for normal in ((-0.4, -0.8, 0.3), (0.4, -0.9, -0.1), (0.7, -0.7, -0.1)):
        image = picture(asset(quad(1.0, normal=normal)), light=light)
        inside = image[image[..., 3] == 255][:, 0]
        assert np.ptp(inside.astype(int)) <= 1
        assert inside.min() > 20


def test_the_sum_of_alpha_is_the_covered_area():
    frame = quad(0.9, normal=(0.3, -1, 0.2))
    corners = FRONT.project(frame.vertices)[0]
    following = np.roll(corners, -1, axis=0)
    area = abs(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1])) / 2
    for samples, error in ((16, 0.02), (400, 0.004)):
        alpha = picture(asset(frame), samples=samples)[..., 3]
        assert alpha.sum() / 255 == pytest.approx(area, rel=error)


def test_background_pixels_are_transparent_black():
    assert not picture(asset(quad(0.5, (0, -9, 0)))).any()
    empty = mesh(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3)))
    assert not picture(asset(empty)).any()


def test_too_many_subpixels_are_refused():
    camera = orbit_camera(0, 0, 3.2, 33.8, 4096, 4096)
    with pytest.raises(InputError, match="4096 × 4096 pixels with 7² "):
        FastRenderer(asset(quad()), Light(), 64).render(0, [camera])


def test_views_are_independent_of_each_other_and_of_the_number_of_threads():
    baked = asset(joined(ball(0.4), quad(1.0, (0, 0, -0.4), (0, 0, 1))))
    cameras = [orbit_camera(a, 10, 3.2, 33.8, 24, 20) for a in (0, 90, 200)]
    renderer = FastRenderer(baked, Light(), 9)
    try:
        kernels().set_threads(1)
        alone = np.concatenate([renderer.render(0, [camera]) for camera in cameras])
        kernels().set_threads(3)
        np.testing.assert_array_equal(renderer.render(0, cameras), alone)
    finally:
        kernels().set_threads(0)
    assert alone.shape == (3, 24, 20, 4)


def test_all_instruction_sets_render_the_same_image(monkeypatch):
    baked = asset(joined(ball(0.4), quad(1.0, (0, 0, -0.4), (0, 0, 1))))
    best = kernels().variant
    pictures = []
    try:
        for variant in VARIANTS[: VARIANTS.index(best) + 1]:
            monkeypatch.setenv("FOURDVD_ISA", variant)
            kernels.cache_clear()
            pictures.append(picture(baked, light=Light()))
    finally:
        monkeypatch.undo()
        kernels.cache_clear()
    for other in pictures[1:]:
        assert_alike(pictures[0], other, steps=2)


def test_each_frame_is_rendered_with_its_own_triangles():
    baked = BakedAsset((quad(0.3), ball(0.5)), (Surface(),), ())
    renderer = FastRenderer(baked, ALL_ROUND, 4)
    areas = [renderer.render(frame, [FRONT])[..., 3].mean() for frame in (0, 1)]
    assert areas[1] > 3 * areas[0]


@pytest.mark.parametrize("subsamples", [1, 3, 5, 7])
def test_the_filter_is_blackman_harris_over_three_pixels(subsamples):
    _, margin, weights = blackman_harris(subsamples)
    assert len(weights) == subsamples + 2 * margin
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-7)
    offsets = (np.arange(len(weights)) - (len(weights) - 1) / 2) / subsamples
    assert np.abs(offsets).max() <= 1.5 < np.abs(offsets).max() + 1 / subsamples
    window = blackmanharris(3001)  # scipy's own, from one end to the other
    expected = np.interp(offsets, np.linspace(-1.5, 1.5, 3001), window)
    np.testing.assert_allclose(weights, expected / expected.sum(), atol=1e-6)


def test_the_number_of_subpixels_is_odd_and_averages_at_least_the_samples():
    for samples in range(1, 200):
        places = subpixels_along_pixel(samples)
        assert places % 2 == 1
        assert 2.25 * places**2 >= samples
        assert places == 1 or 2.25 * (places - 2) ** 2 < samples


def test_depth_and_normals_of_a_plane_are_exact():
    baked = asset(quad(1.0, normal=(0.5, -1, 0.2)))
    truth = FastRenderer(baked, Light(), 4).surface_truth(0, FRONT)
    hit = truth.triangle >= 0
    assert hit.any() and not hit.all()
    normal = np.array([0.5, -1, 0.2]) / np.linalg.norm([0.5, -1, 0.2])
    np.testing.assert_allclose(truth.normals[hit], np.tile(normal, (hit.sum(), 1)), atol=1e-6)
    row, column = np.nonzero(hit)
    across, up = (column + 0.5 - FRONT.cx) / FRONT.fl_x, (FRONT.cy - row - 0.5) / FRONT.fl_y
    ray = np.stack([across, np.ones(len(row)), up], axis=1)
    depth = -(FRONT.position @ normal) / (ray @ normal)
    np.testing.assert_allclose(truth.depth[hit], depth, rtol=1e-5)
    assert not truth.depth[~hit].any() and not truth.normals[~hit].any()


def test_surface_normals_face_the_camera():
    behind = orbit_camera(180, 0, 3.2, 33.8, 16, 16)
    truth = FastRenderer(asset(quad(1.0)), Light(), 4).surface_truth(0, behind)
    np.testing.assert_allclose(truth.normals[8, 8], [0, 1, 0], atol=1e-6)


def test_crossings_have_the_normals_and_colors_of_the_triangles_fronts():
    """Against the reference of the crossings, shaded by the reference renderer."""
    frame = joined(ball(0.5, rings=4), quad(0.6, (0, -0.3, 0.3), (0.3, 1, 0.2), surface=1))
    rng = np.random.default_rng(0)
    frame.colors[..., :3] = rng.uniform(0.2, 1, frame.colors[..., :3].shape)
    colored = Surface(base_color=(0.9, 0.6, 0.4, 1), uses_colors=True, emission=(0.1, 0, 0.05))
    baked = asset(frame, colored, Surface(base_texture=0), textures=(CHECKER,))
    light, camera = Light(), orbit_camera(-60, 15, 3.2, 33.8, 32, 32)
    (found,) = FastRenderer(baked, light, 1).crossings(0, [camera])
    expected = mesh_crossings_reference(
        frame.vertices, frame.triangles, image_from_world(camera), 32, 32
    )
    np.testing.assert_array_equal(found.triangle, expected.triangle)
    assert set(found.winding) == {-1, 1}
    normals = np.einsum("lk,lkc->lc", expected.barycentric, frame.normals[found.triangle])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(found.normal, normals, atol=1e-4)
    colors = np.zeros((len(found.pixel), 3))
    for index in np.unique(found.triangle):
        here = found.triangle == index
        row, column = np.divmod(found.pixel[here].astype(np.int64), 32)
        weights = expected.barycentric[here]
        colors[here] = encode(shade(baked, frame, index, weights, row, column, light, 1)[:, :3])
    difference = np.abs(colors - found.color).max(axis=1)
    assert np.mean(difference > 2) < 0.03  # the edge of a shadow is as sharp as a texel


@pytest.mark.parametrize("seed", [3, 5])
def test_crossings_of_characters_are_those_of_the_reference(seed):
    settings = RenderSettings(views=1, frames=2, size=40, elevation_deg=15)
    baked, _ = FigureAsset(seed).bake(settings)
    frame, cameras = baked.frames[1], settings.cameras()
    (found,) = FastRenderer(baked, Light(), 1).crossings(1, cameras)
    expected = mesh_crossings_reference(
        frame.vertices, frame.triangles, image_from_world(cameras[0]), 40, 40
    )
    assert len(found.pixel) > 200
    np.testing.assert_array_equal(found.pixel, expected.pixel)
    np.testing.assert_array_equal(found.winding, expected.winding)
    np.testing.assert_allclose(found.depth, expected.depth, rtol=1e-4)
    assert np.mean(found.triangle == expected.triangle) > 0.98  # touching parts in either order


@pytest.mark.parametrize(
    ("surface", "share"),
    [
        (Surface((1, 1, 1, 0.49)), 0.0),
        (Surface((1, 1, 1, 0.51)), 1.0),
        (Surface(alpha_texture=0), 0.5),
        (Surface(alpha_texture=0, alpha_cutoff=0.6), 0.4),
        (Surface(uses_colors=True), 0.0),
    ],
)
def test_surfaces_with_alpha_below_a_half_are_not_crossed(surface, share):
    texture = CHECKER.copy()
    texture[:, 0, 3] = 0  # between the two columns, and beyond them, alpha changes linearly
    frame = quad(0.8)
    frame.colors[..., 3] = 0.4
    counts = []
    for material in (surface, Surface()):
        baked = asset(frame, material, textures=(texture,))
        (found,) = FastRenderer(baked, Light(), 1).crossings(0, [FRONT])
        counts.append(len(found.pixel))
    assert counts[0] == pytest.approx(share * counts[1], abs=0.1 * counts[1])


def test_sun_directions_are_spread_over_the_disc():
    light = Light()
    directions = sun_directions(light)
    axis = -np.array(light.direction) / np.linalg.norm(light.direction)
    angle = np.degrees(np.arccos(np.clip(directions @ axis, -1, 1)))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert angle.max() < light.angle_deg / 2
    # The mean square of the radius in a disc is half of its square.
    assert np.mean(angle**2) == pytest.approx((light.angle_deg / 2) ** 2 / 2, rel=1e-3)
    center = directions.mean(axis=0)
    assert np.degrees(np.arccos(center @ axis / np.linalg.norm(center))) < 0.1


@pytest.mark.parametrize("direction", [(0, 0, -1), (1, 0, 0), (0, -2, 0), (1, 1, 1)])
def test_the_sun_may_shine_along_any_direction(direction):
    directions = sun_directions(Light(direction=direction, angle_deg=0))
    expected = -np.array(direction) / np.linalg.norm(direction)
    np.testing.assert_allclose(directions, np.tile(expected, (SHADOW_MAPS, 1)), atol=1e-12)


def test_shadow_maps_contain_all_vertices_at_the_nearest_depth():
    frame = joined(ball(0.4), quad(1.0, (0, 0, -0.4), (0, 0, 1)))
    maps = draw_shadow_maps(native_mesh(asset(frame), frame), frame.vertices, Light(), 64)
    points = frame.vertices @ maps.T_map_world[:, :, :3].transpose(0, 2, 1)
    points += maps.T_map_world[:, None, :, 3]
    assert maps.nearness.shape == (SHADOW_MAPS, 64, 64)
    assert points[..., :2].min() >= 0.99 and points[..., :2].max() <= 63.01
    assert maps.nearness.max() <= points[..., 2].max() + 1e-3
    assert (maps.nearness > -1e30).mean() > 0.3


def test_a_transparent_surface_covers_the_fraction_alpha_of_its_shadow_texels():
    frame = quad(1.0, normal=(-0.55, -0.75, 0.9))
    drawable = native_mesh(asset(frame, Surface(base_color=(1, 1, 1, 0.3))), frame)
    maps = draw_shadow_maps(drawable, frame.vertices, Light(angle_deg=0), 64)
    covered = maps.nearness > -1e30
    solid = native_mesh(asset(frame), frame)
    whole = draw_shadow_maps(solid, frame.vertices, Light(angle_deg=0), 64).nearness > -1e30
    assert covered.sum() / whole.sum() == pytest.approx(0.3, abs=0.005)
    share = covered.mean(axis=0)[whole[0]]  # of the maps at one texel: as even as it can be
    assert np.abs(share - 0.3).max() < 0.1
