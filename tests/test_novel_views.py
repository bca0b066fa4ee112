"""The benchmark of novel views compares the views and frames that it says."""

from types import MappingProxyType

import numpy as np

from recon.metrics.opening import open_metrics
from tests.benchmarks.novel_views import (
    at_few_frames,
    copied,
    evaluate_novel_views,
    view_of,
)
from tests.conftest import make_tiny_grid


def test_all_views_but_the_input_are_compared():
    truth = make_tiny_grid(3, 5)
    images = np.stack([view_of(truth, view) for view in range(3)])
    metrics = open_metrics(["psnr"])
    found = evaluate_novel_views(images, truth, metrics)
    assert found.psnr == 100 and {image.view for image in found.images} == {1, 2}
    assert len(found.images) == 10 and found.missing == 0
    assert evaluate_novel_views(copied(truth), truth, metrics).psnr < 40


class Slow:
    """Takes the place of a metric with a network."""

    name, settings = "st-lpips", MappingProxyType({"network": "none"})

    def measure(self, pair):
        return {"st-lpips": float(pair.frame)}


def test_metrics_with_networks_are_computed_at_evenly_spaced_frames():
    truth = make_tiny_grid(2, 5)
    metrics = [at_few_frames(metric, 3, 5) for metric in (*open_metrics(["psnr"]), Slow())]
    found = evaluate_novel_views(copied(truth), truth, metrics)
    values = [image.values["st-lpips"] for image in found.images]
    assert values == [0.0, None, 2.0, None, 4.0] and found.mean("st-lpips") == 2
    assert all(image.values["psnr"] is not None for image in found.images)
    assert found.settings["st-lpips"] == {"network": "none", "frames": [0, 2, 4]}
