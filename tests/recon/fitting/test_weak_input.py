"""Weak input is named: few views, one slow camera, views that disagree; good input is not."""

import numpy as np
import pytest

from recon.evaluation import ImageMetrics
from recon.fitting.weak_input import disagreeing_views, weak_views
from recon.grid import Grid, grid_from_views, orbit_camera


def ring(azimuths_deg, T: int = 3) -> Grid:
    cameras = [orbit_camera(azimuth, 10, 3, 40, 8, 8) for azimuth in azimuths_deg]
    return grid_from_views(cameras, np.full((len(cameras), T, 8, 8, 4), 255, np.uint8))


def one_image_per_time(azimuths_deg) -> Grid:
    """A single camera that is somewhere else in every frame, as in D-NeRF."""
    grid = ring(azimuths_deg, len(azimuths_deg))
    return grid.subset(np.flatnonzero(grid.view == grid.frame))


@pytest.mark.parametrize(
    ("grid", "fact"),
    [
        (ring([0]), "only 1 view"),
        (ring([0, 90]), "only 2 views"),
        (ring([0, 10, 40]), "within 39°"),
        (one_image_per_time(range(0, 360, 30)), "turns 30°"),
    ],
)
def test_few_directions_are_named(grid, fact):
    (sentence,) = weak_views(grid)
    assert fact in sentence and "other directions" in sentence


def test_views_all_around_and_a_camera_that_jumps_are_not_weak():
    assert weak_views(ring([0, 120, 240])) == []
    azimuths = np.random.default_rng(0).uniform(0, 360, 20)
    assert weak_views(one_image_per_time(azimuths)) == []


def measured(psnr_of_view) -> list[ImageMetrics]:
    return [
        ImageMetrics(view, frame, {"psnr_foreground": None if psnr is None else psnr + frame})
        for view, psnr in enumerate(psnr_of_view)
        for frame in range(3)
    ]


def test_views_that_disagree_are_named():
    (sentence,) = disagreeing_views(measured([30, 31, 17, 29, 30]))
    assert "view 2" in sentence and "18 dB" in sentence
    (sentence,) = disagreeing_views(measured([14, 15, 13, 18]))
    assert "16 dB" in sentence and "disagree" in sentence and "cameras" in sentence


@pytest.mark.parametrize("psnr", [[30, 31, 26, 29], [40, 41, 30], [30, 10], [30, None, 31, 29]])
def test_views_that_agree_are_not_named(psnr):
    assert disagreeing_views(measured(psnr)) == []
