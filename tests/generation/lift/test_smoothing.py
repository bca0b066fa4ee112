import numpy as np

from generation.lift.smoothing import displacements, smoothed
from generation.surface_layers import BACK, FRONT, SurfaceLayers
from tests.generation.lift.tiny_layers import ball_depths, ball_image, layers_of


def moved(layers: SurfaceLayers, by: float) -> SurfaceLayers:
    return layers._replace(depth=np.where(layers.mask, layers.depth + by, 0).astype(np.float32))


def test_blocks_are_found_where_they_moved():
    rng = np.random.default_rng(0)
    one = rng.random((40, 40, 4)).astype(np.float32)
    shift, difference = displacements(one, np.roll(one, (4, -2), (0, 1)))
    inner = np.s_[10:30, 10:30]
    assert (shift[0][inner] == 4).mean() > 0.8 and (shift[1][inner] == -2).mean() > 0.8
    assert np.median(difference[inner]) < 0.02


def test_flicker_is_reduced():
    still = layers_of(ball_depths(48, 0.6))
    offsets = np.random.default_rng(1).normal(0, 0.02, 12)
    images = np.stack([ball_image(48, 0.6)] * 12)
    found = smoothed([moved(still, by) for by in offsets], images)
    depths = np.array([each.depth[FRONT, 24, 24] for each in found])
    assert np.abs(np.diff(depths, 2)).mean() < 0.6 * np.abs(np.diff(offsets, 2)).mean()
    assert all(np.array_equal(each.mask, still.mask) for each in found)


def test_steady_motion_is_kept():
    still = layers_of(ball_depths(48, 0.6))
    offsets = 0.01 * np.arange(8)
    images = np.stack([ball_image(48, 0.6)] * 8)
    found = smoothed([moved(still, by) for by in offsets], images)
    for each, by in zip(found, offsets, strict=True):
        truth = moved(still, by)
        for layer in (FRONT, BACK):
            assert np.abs(each.depth[layer] - truth.depth[layer]).max() < 0.004


def test_layers_of_empty_frames_stay_empty():
    nothing = layers_of([np.full((16, 16), np.nan)] * 2)
    ball = layers_of(ball_depths(16, 0.6))
    images = np.stack([np.zeros((16, 16, 4), np.uint8), ball_image(16, 0.6)])
    first, second = smoothed([nothing, ball], images)
    assert not first.mask.any() and not first.depth.any()
    np.testing.assert_allclose(second.depth, ball.depth, atol=1e-5)
