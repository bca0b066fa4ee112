from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from generation.curation.figures.asset import FigureAsset, bake_figure, figure_assets
from generation.curation.figures.figure import Figure, Paint, Part, Pattern, Swing
from generation.curation.figures.generator import random_figure
from generation.curation.figures.solids import Mesh, Solid, mesh_of
from generation.curation.render.fast_renderer import FastRenderer
from generation.curation.render.settings import Light, RenderSettings

MIRROR = np.diag([-1.0, 1, 1])
PAINT = Paint((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
BODY = Part(Solid((0.3, 0.4, 0.5)), PAINT)
LIMB = Part(
    Solid((0.1, 0.12, 0.4), taper=(1.0, 0.5), bend=0.2),
    PAINT,
    0,
    joint=(0.3, 0.1, -0.2),
    rest=(2.8, -0.4, 0.3),
    offset=(0.05, 0.0, 0.3),
    swing=Swing((0.6, 0.8, 0.0), 0.7, 2.0, 0.1),
)


def vertices(figure: Figure, part: int, time: float) -> np.ndarray:
    which, pose = figure.parts[part], figure.poses(time)[part]
    return pose.joint + pose.rotation.apply(mesh_of(which.solid).points + which.offset)


def matched(points: np.ndarray, others: np.ndarray) -> float:
    """Compute the maximum distance of a point to the nearest point of another set."""
    return float(np.linalg.norm(points[:, None] - others[None], axis=-1).min(1).max())


@pytest.mark.parametrize("time", [0.0, 0.3, 0.8])
def test_a_mirrored_part_is_the_mirror_image_at_all_times(time):
    figure = Figure((BODY, LIMB, LIMB.mirrored()))
    assert LIMB.mirrored().mirrored() == LIMB
    left, right = vertices(figure, 1, time), vertices(figure, 2, time)
    assert matched(left @ MIRROR, right) < 1e-9
    assert matched(left, right) > 0.1


def test_child_parts_move_with_their_parent():
    hand = replace(LIMB, parent=1, joint=(0.0, 0.0, 0.7), swing=Swing())
    figure = Figure((BODY, LIMB, hand))
    distances = []
    for time in (0.0, 0.1, 0.2):
        poses = figure.poses(time)
        place = poses[1].rotation.inv().apply(poses[2].joint - poses[1].joint)
        np.testing.assert_allclose(place, hand.joint, atol=1e-12)
        distances.append(poses[2].joint)
    assert np.linalg.norm(distances[0] - distances[1]) > 0.01


def test_swings_and_hops_are_periodic():
    figure = Figure((BODY, LIMB), hop=0.2, hops=2.0)
    np.testing.assert_allclose(vertices(figure, 1, 0.0), vertices(figure, 1, 1.0), atol=1e-12)
    assert figure.poses(0.25)[0].joint[2] == pytest.approx(0.2)
    assert figure.poses(0.5)[0].joint[2] == pytest.approx(0.0, abs=1e-12)


def test_figures_depend_on_the_seed_only():
    assert random_figure(7) == random_figure(7)
    figures = [random_figure(seed) for seed in range(50)]
    assert len(set(figures)) == 50
    assert len({len(figure.parts) for figure in figures}) > 8


@pytest.mark.parametrize("seed", range(40))
def test_parts_have_an_earlier_parent_and_a_valid_size_and_colors(seed):
    parts = random_figure(seed).parts
    for number, part in enumerate(parts):
        assert part.parent is None if number == 0 else part.parent in range(number)
        assert min(part.solid.radii) > 0.003
        assert min(*part.paint.color, *part.paint.other) >= 0
        assert max(*part.paint.color, *part.paint.other) <= 1
        assert np.linalg.norm(part.swing.axis) == pytest.approx(1)


SOLIDS = {
    "ball": Solid((0.5, 0.5, 0.5)),
    "box": Solid((0.2, 0.3, 0.4), (0.25, 0.25)),
    "cone": Solid((0.3, 0.3, 0.8), taper=(1.0, 0.05)),
    "banana": Solid((0.1, 0.1, 0.7), bend=0.4),
}


def volume(mesh: Mesh) -> float:
    """Compute the volume by the divergence theorem; positive for triangles oriented outwards."""
    a, b, c = np.moveaxis(mesh.points[mesh.triangles], 1, 0)
    return float(np.einsum("mi,mi->", a, np.cross(b, c)) / 6)


@pytest.mark.parametrize("solid", SOLIDS.values(), ids=SOLIDS)
def test_the_surface_is_closed_and_oriented_outwards(solid):
    mesh = mesh_of(solid)
    edges = Counter(
        (int(triangle[i]), int(triangle[(i + 1) % 3]))
        for triangle in mesh.triangles
        for i in range(3)
    )
    assert set(edges.values()) == {1}
    assert all((end, start) in edges for start, end in edges)
    assert volume(mesh) > 0
    assert len(mesh.points) - len(edges) // 2 + len(mesh.triangles) == 2  # Euler: one ball


def test_a_fine_ellipsoid_has_the_volume_of_one():
    mesh = mesh_of(Solid((0.3, 0.5, 0.7), segments=(64, 48)))
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.3 * 0.5 * 0.7, rel=0.01)
    on_it = ((mesh.points / [0.3, 0.5, 0.7]) ** 2).sum(1)
    np.testing.assert_allclose(on_it, 1, atol=1e-12)


def test_smaller_exponents_increase_the_volume_up_to_that_of_a_box():
    volumes = [
        volume(mesh_of(Solid((1, 1, 1), (exponent, exponent), segments=(64, 48))))
        for exponent in (1.2, 1.0, 0.5, 0.1)
    ]
    assert volumes == sorted(volumes)
    assert 7 < volumes[-1] < 8


def test_taper_and_bend_change_the_documented_axes():
    tapered = mesh_of(Solid((1, 1, 1), taper=(1.0, 0.2), segments=(32, 24))).points
    wide, narrow = (
        np.abs(tapered[side, 0]).max() for side in (tapered[:, 2] < 0, tapered[:, 2] > 0)
    )
    assert narrow < 0.85 * wide
    straight, bent = (mesh_of(Solid((0.1, 0.1, 1), bend=bend)).points for bend in (0.0, 0.3))
    moved = bent - straight
    np.testing.assert_allclose(moved[:, [0, 2]], 0, atol=1e-12)
    np.testing.assert_allclose(moved[:, 1], 0.3 * straight[:, 2] ** 2, atol=1e-12)


SETTINGS = RenderSettings(views=4, frames=3, size=32)
RED, BLUE = (0.8, 0.1, 0.1), (0.1, 0.1, 0.8)


def ball(pattern: Pattern = Pattern.plain, smooth: bool = True, share: float = 0.4) -> Figure:
    solid = Solid((0.5, 0.5, 0.5), segments=(24, 16))
    return Figure((Part(solid, Paint(RED, BLUE, pattern, share), smooth=smooth),))


@pytest.mark.parametrize("seed", range(12))
def test_figures_are_centered_and_scaled_to_the_radius_over_all_frames(seed):
    asset, world = FigureAsset(seed).bake(SETTINGS)
    points = np.stack([frame.vertices for frame in asset.frames])
    assert np.linalg.norm(points, axis=-1).max() == pytest.approx(0.8, abs=1e-5)
    flat = points.reshape(-1, 3)
    np.testing.assert_allclose(np.stack([flat.min(0), flat.max(0)]), world.bounds, atol=1e-5)
    np.testing.assert_allclose(world.bounds.sum(0), 0, atol=1e-9)
    for frame in asset.frames:
        np.testing.assert_allclose(np.linalg.norm(frame.normals, axis=-1), 1, atol=1e-5)
    assert asset.is_fixed


def test_normals_point_outwards_and_are_interpolated_only_on_smooth_parts():
    for smooth in (True, False):
        frame = bake_figure(ball(smooth=smooth), 1).asset.frames[0]
        corners = frame.vertices[frame.triangles]
        outwards = corners / np.linalg.norm(corners, axis=-1, keepdims=True)
        cosine = (frame.normals * outwards).sum(-1)
        assert cosine.min() > 0.9
        spread = np.abs(frame.normals - frame.normals[:, :1]).max()
        assert (spread > 0.05) == smooth


@pytest.mark.parametrize("pattern", Pattern)
def test_a_pattern_covers_about_its_share_of_a_part_at_the_documented_place(pattern):
    figure = ball(pattern, share=0.4)
    frame = bake_figure(figure, 1).asset.frames[0]
    other = np.isclose(frame.colors[:, 0, :3], BLUE).all(-1)
    centers = frame.vertices[frame.triangles].mean(1)
    if pattern is Pattern.plain:
        assert not other.any()
        return
    assert 0.2 < other.mean() < 0.6
    if pattern is Pattern.end:
        assert centers[other, 2].min() > centers[~other, 2].max() - 0.1
    if pattern is Pattern.belly:
        assert centers[other, 1].max() < centers[~other, 1].min() + 0.1


def test_a_yaw_rotation_equals_an_offset_of_the_camera_azimuths():
    settings = RenderSettings(views=4, frames=2, size=48, yaw_deg=90, light=Light(sun=0))
    plain = RenderSettings(views=4, frames=2, size=48, light=Light(sun=0))
    images = [
        FastRenderer(FigureAsset(5).bake(each).asset, each.light, 16).render(1, each.cameras())
        for each in (settings, plain)
    ]
    turned, still = (image.astype(int) for image in images)
    np.testing.assert_allclose(turned[1], still[0], atol=12)
    assert np.abs(turned[0] - still[0]).max() > 50


def test_assets_are_named_after_their_seeds():
    names = [asset.name for asset in figure_assets(98, 3)]
    assert names == ["figure_00000098", "figure_00000099", "figure_00000100"]
