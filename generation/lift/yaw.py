"""The yaw of an object over a clip: the most probable path through the predictions of all frames.

Front and back of an object look alike in some frames, but it does not turn around between two of
them. A path therefore pays for turning: by the angle, so that the yaw stays constant without
evidence, and by its square, so that slow turns are cheap and jumps are not.

Letters: T frames, K bins of the network, S steps of the path around the circle.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

STEPS = 72  # of the path around the circle: 5° each
TURN_COST = 2.0  # nats per radian
TURN_COST_SQUARED = 8.0  # nats per squared radian between successive frames
OUTLIERS = 0.1  # share of frames whose prediction is wrong altogether
NEAR = 1.5  # distance up to which bins count for the confidence in a yaw, in bins


def yaw_path(log_probs: np.ndarray) -> np.ndarray:
    """Find the most probable path of the yaw by the Viterbi algorithm.

    Args:
        log_probs: log-probabilities of the bins, the first of which is centered at 0, [T, K].

    Returns:
        Yaw in radians in [0, 2π), [T].
    """
    scores = _interpolated(log_probs)
    cost = _turn_cost()
    best, came_from = scores[0], np.zeros(scores.shape, np.int64)
    for t in range(1, len(scores)):
        total = best[:, None] - cost
        came_from[t] = total.argmax(0)
        best = total.max(0) + scores[t]
    path = [int(best.argmax())]
    for t in range(len(scores) - 1, 0, -1):
        path.append(int(came_from[t, path[-1]]))
    return np.array(path[::-1]) * (2 * np.pi / STEPS)


def confidence(log_probs: np.ndarray, yaw: np.ndarray) -> float:
    """Average the probability near a yaw over all frames, in [0, 1]; 0 without frames.

    Args:
        log_probs: see `yaw_path`, [T, K].
        yaw: radians, [T].
    """
    if len(yaw) == 0:
        return 0.0
    bins = log_probs.shape[1]
    apart = np.abs(np.arange(bins) - (yaw * bins / (2 * np.pi))[:, None]) % bins
    near = np.minimum(apart, bins - apart) <= NEAR
    return float((np.exp(log_probs) * near).sum(1).mean())


def mirrored_bins(log_probs: np.ndarray) -> np.ndarray:
    """Return log-probabilities [..., K] of the mirror image, whose yaw is negated."""
    return np.roll(log_probs[..., ::-1], 1, axis=-1)


def _interpolated(log_probs: np.ndarray) -> np.ndarray:
    """Return the scores of all steps, [T, S]: yaws between two bins have both of them likely."""
    bins = log_probs.shape[1]
    angles = np.linspace(0, 1, bins + 1)
    robust = np.log((1 - OUTLIERS) * np.exp(log_probs) + OUTLIERS / bins)
    around = np.concatenate([robust, robust[:, :1]], axis=1)
    spline = CubicSpline(angles, around, axis=1, bc_type="periodic")
    return spline(np.arange(STEPS) / STEPS)


def _turn_cost() -> np.ndarray:
    """Return the cost of turning between any two steps, [S, S]."""
    step = np.arange(STEPS)
    apart = np.abs(step[:, None] - step)
    angle = np.minimum(apart, STEPS - apart) * (2 * np.pi / STEPS)
    return TURN_COST * angle + TURN_COST_SQUARED * angle**2
