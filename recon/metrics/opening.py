"""Metrics without weights, by name."""

from __future__ import annotations

from collections.abc import Sequence

from recon.errors import InputError
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
        InputError: a name is unknown or needs weights.
        BackendError: a package is missing.
    """
    check_names(names)
    for name in names:
        if name not in _known:
            raise InputError(f"{name} needs a network; `generation.metrics.load_metrics` loads it")
    return [_known[name]() for name in names]
