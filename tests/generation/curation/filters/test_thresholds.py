from dataclasses import replace

import pytest

from generation.curation.filters.scoring import Scores
from generation.curation.filters.thresholds import Thresholds, rejection_reasons

GOOD = Scores(
    coverage=0.1,
    cut_off=0.0,
    sharpness=0.4,
    clutter=0.1,
    grain=0.01,
    motion=0.01,
    peak_motion=0.06,
    smoothness=1.8,
    render_hash="00",
)


def test_a_good_grid_has_no_reason_for_rejection():
    assert rejection_reasons(GOOD, Thresholds()) == ()


@pytest.mark.parametrize(
    ("score", "value", "said"),
    [
        ("coverage", 0.002, "too little to be seen"),
        ("cut_off", 0.5, "cut off by the border"),
        ("sharpness", 0.2, "blurry"),
        ("clutter", 0.3, "chaotic"),
        ("grain", 0.1, "noisy"),
        ("motion", 0.0004, "hardly moves"),
        ("peak_motion", 0.2, "moves too far in a frame"),
        ("smoothness", 1.0, "flickers or jumps"),
    ],
)
def test_reasons_name_the_score_its_value_and_the_threshold(score, value, said):
    (reason,) = rejection_reasons(replace(GOOD, **{score: value}), Thresholds())
    assert reason.startswith(f"{said}: {score} {value:g} ")


def test_a_score_equal_to_its_threshold_is_accepted():
    limits = Thresholds(min_motion=GOOD.motion, max_motion=GOOD.peak_motion)
    assert rejection_reasons(GOOD, limits) == ()


def test_missing_scores_and_disabled_thresholds_reject_nothing():
    assert rejection_reasons(GOOD, Thresholds(min_lpips=0.1, max_lpips=0.2)) == ()
    assert rejection_reasons(replace(GOOD, motion=0.0), Thresholds(min_motion=None)) == ()
    limits = Thresholds(min_lpips=0.1, max_lpips=0.2)
    assert rejection_reasons(replace(GOOD, lpips=0.05), limits) == (
        "without detail: lpips 0.05 < 0.1",
    )
    assert rejection_reasons(replace(GOOD, lpips=0.3), limits) == ("chaotic: lpips 0.3 > 0.2",)


def test_a_grid_without_an_object_has_a_single_reason():
    nothing = replace(GOOD, coverage=0.0, motion=0.0, sharpness=0.0)
    assert rejection_reasons(nothing, Thresholds()) == (
        "too little to be seen: coverage 0 < 0.005",
    )
