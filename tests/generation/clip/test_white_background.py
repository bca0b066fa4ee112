"""Objects before white are cut out, and over white nothing changes."""

import numpy as np

from generation.clip.white_background import cut_from_white, darker_than_white, estimated_alpha
from recon.grid.grid import composite


def disc_over_white(noise: float = 0.0, size: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] + 0.5
    radius = np.hypot(rows - size / 2, columns - size / 2)
    alpha = np.clip(size / 4 + 0.5 - radius, 0, 1)[..., None]
    image = 255 - alpha * (255 - np.array([200, 120, 30]))
    image = image + np.random.default_rng(0).normal(0, noise, image.shape)
    return np.rint(image.clip(0, 255)).astype(np.uint8)


def alpha_from_white(image: np.ndarray) -> np.ndarray:
    return cut_from_white(image, estimated_alpha(image))


def test_what_is_white_follows_the_mean_of_the_colours():
    image = np.array([[[250, 250, 250], [251, 251, 251], [255, 255, 240], [255, 255, 242]]])
    assert darker_than_white(image.astype(np.uint8)).tolist() == [[True, False, True, False]]


def test_over_white_nothing_changes():
    rng = np.random.default_rng(1)
    shadow = np.linspace(220, 255, 64).astype(np.uint8)[None, :, None].repeat(24, 0).repeat(3, 2)
    for image in (
        disc_over_white(),
        disc_over_white(noise=3),
        shadow,
        rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
    ):
        over = composite(alpha_from_white(image))
        assert np.abs(over.astype(int) - image).max() <= 1


def test_the_object_is_opaque_and_what_is_white_is_empty():
    alpha = alpha_from_white(disc_over_white())[..., 3]
    assert alpha[24, 24] == 255 and (alpha[16:32, 16:32] == 255).all()
    assert (alpha[:8] == 0).all() and (alpha[:, -8:] == 0).all()


def test_white_that_wavers_by_a_level_is_empty():
    image = np.random.default_rng(0).integers(254, 256, (24, 24, 3), dtype=np.uint8)
    assert (alpha_from_white(image)[..., 3] == 0).all()
