"""Distances of the videos of several evaluations together, of metrics that compare sets of videos.

evaluation of each object ──▶ features of its videos ──▶ all features ──▶ one distance
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from recon.metrics.catalog import METRICS
from recon.metrics.interface import Metric, VideoMetric, VideoScore


class CollectedVideos:
    """A metric of sets that leaves its value open, because more evaluations follow.

    Args:
        metric: the metric.
    """

    of_sets = True

    def __init__(self, metric: VideoMetric):
        self.name = metric.name
        self.begin, self.add, self.features = metric.begin, metric.add, metric.features
        self.distance = metric.distance
        self._metric = metric

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the metric."""
        return self._metric.settings

    def score(self) -> VideoScore:
        """Return the features of the videos without a value."""
        return VideoScore(None, features=self.features())


def metrics_of_sets(metrics: Sequence[str | Metric]) -> list[VideoMetric]:
    """Return those metrics that are distances of sets of videos."""
    opened = [each for each in metrics if not isinstance(each, str)]
    of_videos = [cast(VideoMetric, each) for each in opened if METRICS[each.name].of_videos]
    return [each for each in of_videos if each.of_sets]


def pooled_distance(metric: VideoMetric, scores: Sequence[VideoScore]) -> tuple[float, int]:
    """Compute the distance of the videos of several evaluations.

    Args:
        metric: a metric of sets.
        scores: its scores in the evaluations, with features.

    Returns:
        The distance, and the number of videos on each side.

    Raises:
        InputError: there are too few videos.
    """
    features = [score.features for score in scores if score.features is not None]
    rated, true = (np.concatenate(side) for side in zip(*features, strict=True))
    return metric.distance(rated, true), len(rated)
