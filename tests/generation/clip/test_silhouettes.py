"""Objects that fade out get an edge, about where a third of them is."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from generation.clip.silhouettes import EDGE, cut_silhouette
from recon.grid.grid import composite

SIZE, RADIUS = 96, 24
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
DISTANCE = np.hypot(ROWS, COLUMNS)


def disc(blur_px: float, colour=(200, 120, 30)) -> np.ndarray:
    """Over white, uint8, [SIZE, SIZE, 3]."""
    alpha = (DISTANCE < RADIUS).astype(float)
    if blur_px:
        alpha = gaussian_filter(alpha, blur_px)
    image = 255 + alpha[..., None] * (np.array(colour) - 255.0)
    return np.rint(image).astype(np.uint8)


@pytest.mark.parametrize("blur_px", [0, 2, 6])
@pytest.mark.parametrize("colour", [(200, 120, 30), (20, 20, 20), (230, 235, 215)])
def test_the_edge_is_near_the_one_of_the_object(blur_px, colour):
    found = cut_silhouette(disc(blur_px, colour))
    radius = np.sqrt((found[..., 3] / 255.0).sum() / np.pi)
    outwards = blur_px * NormalDist().inv_cdf(1 - sum(EDGE) / 2)  # where so much is left
    assert radius == pytest.approx(RADIUS + outwards, abs=1.5)
    assert (found[DISTANCE < RADIUS - 8][:, 3] == 255).all()
    assert (found[DISTANCE > RADIUS + 8][:, 3] == 0).all()


def test_a_sharp_image_stays_as_it_is_up_to_its_rim():
    image = disc(0)
    difference = np.abs(composite(cut_silhouette(image)).astype(int) - image)
    assert difference[np.abs(DISTANCE - RADIUS) > 3].max() <= 3


def test_colours_stay_as_they_are():
    faded, found = disc(6), cut_silhouette(disc(6))
    seen = found[..., 3] > 0
    assert (found[seen][:, :3] == faded[seen]).all()
    assert (found[~seen][:, :3] == 255).all()


def test_haze_is_left_out_and_what_is_enclosed_is_kept():
    image = disc(1)
    image[:10] -= 15
    image[DISTANCE < 8] = 255
    found = cut_silhouette(image)
    assert not found[:8, :, 3].any()
    assert (found[DISTANCE < 8][:, 3] == 255).all()
    assert (found[DISTANCE < 5][:, :3] == 255).all()


@pytest.mark.parametrize("level", [255, 254, 252])
def test_nothing_is_nothing(level):
    found = cut_silhouette(np.full((32, 24, 3), level, np.uint8))
    assert found.shape == (32, 24, 4)
    assert not found[..., 3].any()
