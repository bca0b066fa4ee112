import numpy as np
import pytest

from generation.curation.fast_renderer import FastRenderer
from generation.curation.light import Light
from generation.curation.procedural.asset import FigureAsset, figure_assets
from generation.curation.procedural.baking import bake_figure
from generation.curation.procedural.figure import Figure, Paint, Part, Pattern
from generation.curation.procedural.solids import Solid
from generation.curation.render_settings import RenderSettings

SETTINGS = RenderSettings(views=4, frames=3, size=32)
RED, BLUE = (0.8, 0.1, 0.1), (0.1, 0.1, 0.8)


def ball(pattern: Pattern = Pattern.plain, smooth: bool = True, share: float = 0.4) -> Figure:
    solid = Solid((0.5, 0.5, 0.5), segments=(24, 16))
    return Figure((Part(solid, Paint(RED, BLUE, pattern, share), smooth=smooth),))


@pytest.mark.parametrize("seed", range(12))
def test_figures_fill_the_ball_and_are_centred_over_all_frames(seed):
    asset, world = FigureAsset(seed).bake(SETTINGS)
    points = np.stack([frame.vertices for frame in asset.frames])
    assert np.linalg.norm(points, axis=-1).max() == pytest.approx(0.8, abs=1e-5)
    flat = points.reshape(-1, 3)
    np.testing.assert_allclose(np.stack([flat.min(0), flat.max(0)]), world.bounds, atol=1e-5)
    np.testing.assert_allclose(world.bounds.sum(0), 0, atol=1e-9)
    for frame in asset.frames:
        np.testing.assert_allclose(np.linalg.norm(frame.normals, axis=-1), 1, atol=1e-5)
    assert asset.is_fixed


def test_normals_look_outwards_and_are_smooth_only_where_a_part_is():
    for smooth in (True, False):
        frame = bake_figure(ball(smooth=smooth), 1).asset.frames[0]
        corners = frame.vertices[frame.triangles]
        outwards = corners / np.linalg.norm(corners, axis=-1, keepdims=True)
        cosine = (frame.normals * outwards).sum(-1)
        assert cosine.min() > 0.9
        spread = np.abs(frame.normals - frame.normals[:, :1]).max()
        assert (spread > 0.05) == smooth


@pytest.mark.parametrize("pattern", Pattern)
def test_a_pattern_gives_about_its_share_the_other_colour_where_it_says(pattern):
    figure = ball(pattern, share=0.4)
    frame = bake_figure(figure, 1).asset.frames[0]
    other = np.isclose(frame.colours[:, 0, :3], BLUE).all(-1)
    centres = frame.vertices[frame.triangles].mean(1)
    if pattern is Pattern.plain:
        assert not other.any()
        return
    assert 0.2 < other.mean() < 0.6
    if pattern is Pattern.end:
        assert centres[other, 2].min() > centres[~other, 2].max() - 0.1
    if pattern is Pattern.belly:
        assert centres[other, 1].max() < centres[~other, 1].min() + 0.1


def test_a_turn_about_the_vertical_is_what_the_cameras_would_see_from_farther_on():
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
