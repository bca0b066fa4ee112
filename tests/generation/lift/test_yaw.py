import numpy as np
import pytest

from generation.lift.yaw import STEPS, confidence, mirrored_bins, yaw_path

BINS = 16


def predictions(yaws: np.ndarray, sharpness: float = 10.0) -> np.ndarray:
    """Log-probabilities with a peak at each yaw, [T, BINS]."""
    centers = 2 * np.pi * np.arange(BINS) / BINS
    logits = sharpness * np.cos(np.asarray(yaws)[:, None] - centers)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def error(found: np.ndarray, wanted: np.ndarray | float) -> float:
    return float(np.abs((found - wanted + np.pi) % (2 * np.pi) - np.pi).max())


@pytest.mark.parametrize("yaw", [0.0, 0.2, 1.7, 3.1, 6.2])
@pytest.mark.parametrize("T", [1, 2, 21])
def test_a_constant_yaw_is_found_between_the_bins(yaw, T):
    found = yaw_path(predictions(np.full(T, yaw)))
    assert found.shape == (T,)
    assert error(found, yaw) <= np.pi / STEPS + 0.02


@pytest.mark.parametrize("turn", [-2 * np.pi, np.pi / 2, 2 * np.pi, 4 * np.pi])
def test_an_object_that_turns_slowly_is_followed(turn):
    yaws = 1.0 + np.linspace(0, turn, 41)
    assert error(yaw_path(predictions(yaws)), yaws) < np.radians(25)  # about a bin


def test_frames_that_show_it_from_behind_do_not_turn_it_around():
    yaws = np.full(21, 0.5)
    seen = yaws.copy()
    seen[[3, 4, 11]] += np.pi
    found = yaw_path(predictions(seen))
    assert error(found, yaws) < np.radians(10)


def test_noise_does_not_turn_it():
    rng = np.random.default_rng(0)
    found = yaw_path(predictions(2.0 + rng.normal(0, 0.15, 21)))
    assert np.ptp(found) < 1.5 * 2 * np.pi / STEPS
    assert error(found, 2.0) < np.radians(10)


def test_frames_without_evidence_keep_the_yaw_of_the_others():
    evidence = predictions(np.full(9, 4.0))
    evidence[2:7] = -np.log(BINS)
    found = yaw_path(evidence)
    assert len(np.unique(found)) == 1
    assert error(found, 4.0) < np.radians(10)


def test_the_path_of_the_mirror_image_turns_the_other_way():
    evidence = predictions(np.linspace(0.3, 1.3, 11))
    ours, theirs = yaw_path(evidence), yaw_path(mirrored_bins(evidence))
    assert error(theirs, -ours) < 1e-6
    assert np.array_equal(mirrored_bins(mirrored_bins(evidence)), evidence)


@pytest.mark.parametrize("yaw", [0.0, 0.1, 3.0, 6.2])
def test_confidence_is_the_probability_near_the_yaw(yaw):
    yaws = np.full(5, yaw)
    sharp, flat = predictions(yaws, 100.0), predictions(yaws, 0.0)
    assert confidence(sharp, yaws) > 0.95
    assert confidence(sharp, yaws + np.pi / 2) < 0.05
    assert confidence(flat, yaws) == pytest.approx(3 / BINS)
    mixed = np.concatenate([sharp, flat])
    assert confidence(mixed, np.full(10, yaw)) == pytest.approx(
        (confidence(sharp, yaws) + confidence(flat, yaws)) / 2
    )
    assert confidence(flat[:0], yaws[:0]) == 0
