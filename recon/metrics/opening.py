"""Metrics without weights, by name."""

from __future__ import annotations

from collections.abc import Sequence

from recon.metrics.catalog import check_names
from recon.metrics.flip import Flip
from recon.metrics.image import Iou, Psnr, Ssim
from recon.metrics.interface import Metric
from recon.metrics.sharpness import Sharpness

_known: dict[str, type[Metric]] = {
    metric.name: metric for metric in (Psnr, Ssim, Iou, Sharpness, Flip)
}


def open_metrics(names: Sequence[str]) -> list[Metric]:
    """Return metrics without weights by name.

    Raises:
        InputError: a name is unknown.
        BackendError: a package is missing.
    """
    check_names(names)
    return [_known[name]() for name in names]
