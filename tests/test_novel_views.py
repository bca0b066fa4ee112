"""The benchmark of novel views compares the views and frames that it says."""

import numpy as np

from recon.metrics.opening import open_metrics
from tests.benchmarks.novel_views import copied, evaluate_novel_views, view_of
from tests.conftest import make_tiny_grid


def test_all_views_but_the_input_and_evenly_spaced_frames_are_compared():
    truth = make_tiny_grid(3, 5)
    images = np.stack([view_of(truth, view) for view in range(3)])
    metrics = open_metrics(["psnr"])
    found = evaluate_novel_views(images, truth, metrics)
    assert found.psnr == 100 and {image.view for image in found.images} == {1, 2}
    assert len(found.images) == 10 and found.missing == 0
    few = evaluate_novel_views(copied(truth), truth, metrics, frames=3)
    assert {image.frame for image in few.images} == {0, 2, 4} and few.psnr < 40
