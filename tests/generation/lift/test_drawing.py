import numpy as np

from generation.lift.drawing import draw
from generation.lift.surface import surface_of
from tests.generation.lift.tiny_layers import (
    BACK_COLOR,
    FRONT_COLOR,
    ball_depths,
    ball_image,
    camera,
    layers_of,
    solid_image,
)


def test_the_input_view_shows_the_silhouette_of_the_image():
    image = ball_image(64, 0.6, (0.3, 0, 0.1))
    surface = surface_of(layers_of(ball_depths(32, 0.6, (0.3, 0, 0.1))), image, camera(64))
    drawn = draw(surface, [camera(64)])[0]
    difference = np.abs(drawn[..., 3].astype(int) - image[..., 3])
    assert difference.max() < 80 and difference.mean() < 1
    inside = image[..., 3] == 255
    assert np.abs(drawn[inside][:, :3].astype(int) - image[inside][:, :3]).max() <= 1


def test_a_ball_is_round_from_all_sides_and_has_its_back():
    surface = surface_of(layers_of(ball_depths(48, 0.7)), ball_image(64, 0.7), camera(64))
    views = [camera(64, azimuth, 15) for azimuth in (30, 90, 135, 180)]
    images = draw(surface, views)
    truth = ball_image(64, 0.7)[..., 3] > 127
    for image in images:
        mask = image[..., 3] > 127
        assert (mask & truth).sum() / (mask | truth).sum() > 0.96
    assert np.abs(images[3, 32, 32, :3].astype(int) - BACK_COLOR).max() <= 1


def test_a_sheet_without_thickness_is_visible_from_both_sides():
    mask = np.zeros((32, 32), np.bool_)
    mask[8:24, 8:24] = True
    front = np.where(mask, 3.2, np.nan)
    surface = surface_of(layers_of([front, front]), solid_image(mask), camera(32))
    before, behind = draw(surface, [camera(32), camera(32, 180)])
    np.testing.assert_array_equal(before[..., 3] > 127, mask)
    np.testing.assert_array_equal(behind[..., 3] > 127, mask[:, ::-1])
    assert np.abs(behind[10:22, 10:22, :3].astype(int) - BACK_COLOR).max() <= 1


def test_an_object_is_cut_off_at_the_border_of_the_image():
    surface = surface_of(
        layers_of(ball_depths(32, 0.6, (0.8, 0, 0))), ball_image(64, 0.6, (0.8, 0, 0)), camera(64)
    )
    before, beside = draw(surface, [camera(64), camera(64, 90)])
    assert (before[30:34, 60:, 3] == 255).all()
    assert (beside[28:36, 28:36, 3] == 255).all()


def test_two_objects_stay_apart():
    depths = [np.fmin(*pair) for pair in zip(
        ball_depths(32, 0.25, (-0.4, 0, 0)), ball_depths(32, 0.25, (0.4, 0, 0)), strict=True
    )]  # fmt: skip
    image = np.maximum(ball_image(64, 0.25, (-0.4, 0, 0)), ball_image(64, 0.25, (0.4, 0, 0)))
    surface = surface_of(layers_of(depths), image, camera(64))
    oblique = draw(surface, [camera(64, 20)])[0]
    assert (oblique[:, 31:33, 3] == 0).all() and (oblique[..., 3] == 255).sum() > 100


def test_an_object_of_16_pixels_is_drawn():
    surface = surface_of(layers_of(ball_depths(16, 0.7)), ball_image(16, 0.7), camera(16))
    beside = draw(surface, [camera(16, 90)])[0]
    assert (beside[6:10, 6:10, 3] == 255).all()


def test_an_empty_surface_is_transparent():
    surface = surface_of(
        layers_of(ball_depths(16, 0.5)), np.zeros((16, 16, 4), np.uint8), camera(16)
    )
    images = draw(surface, [camera(16), camera(16, 90)])
    assert images.shape == (2, 16, 16, 4) and not images.any()


def test_colors_are_those_of_the_surface_in_every_view():
    surface = surface_of(layers_of(ball_depths(32, 0.6)), ball_image(32, 0.6), camera(32))
    drawn = draw(surface, [camera(32, 20)])[0]
    assert np.abs(drawn[14:18, 12:16, :3].astype(int) - FRONT_COLOR).max() <= 1
