"""Names of all metrics, and how they are reported.

Light to import: no torch. Those with networks are in `generation.metrics`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

from recon.errors import InputError

EXTRA = "pip install 'fourdvd[metrics]'"


class MetricInfo(NamedTuple):
    """How a metric is reported.

    Attributes:
        label: heading in tables.
        larger_is_better: direction.
        digits: decimals in tables.
        weights: whether it needs network weights.
        of_videos: whether it compares videos instead of images.
    """

    label: str
    larger_is_better: bool
    digits: int
    weights: bool = False
    of_videos: bool = False

    @property
    def arrow(self) -> str:
        """Heading with the direction, as tables of papers have it."""
        return f"{self.label} {'↑' if self.larger_is_better else '↓'}"


METRICS = {
    "psnr": MetricInfo("PSNR", True, 2),
    "ssim": MetricInfo("SSIM", True, 4),
    "iou": MetricInfo("IoU", True, 4),
    "sharpness": MetricInfo("sharpness", True, 3),
    "flip": MetricInfo("FLIP", False, 4),
    "st-lpips": MetricInfo("ST-LPIPS", False, 4),
    "lpips": MetricInfo("LPIPS", False, 4, weights=True),
    "lpips-alex": MetricInfo("LPIPS-Alex", False, 4, weights=True),
    "clip": MetricInfo("CLIP-S", True, 4, weights=True),
    "fvd-f": MetricInfo("FVD-F", False, 1, weights=True, of_videos=True),
    "fvd-v": MetricInfo("FVD-V", False, 1, weights=True, of_videos=True),
    "fvd-diag": MetricInfo("FVD-Diag", False, 1, weights=True, of_videos=True),
    "fvd": MetricInfo("FVD", False, 1, weights=True, of_videos=True),
}
BASIC = ("psnr", "ssim", "iou")
"""What a fit reports, and what `recon.evaluate` computes by default."""


def has_flip() -> bool:
    """Return whether the package of FLIP is installed."""
    return importlib.util.find_spec("flip_evaluator") is not None


def default_names() -> tuple[str, ...]:
    """Names of the metrics without weights; FLIP only where its package is installed."""
    return (*BASIC, "sharpness", *(("flip",) if has_flip() else ()))


def parse_names(text: str) -> tuple[str, ...]:
    """Split a list of names such as "psnr,lpips"; each name once, in the order given.

    Raises:
        InputError: a name is unknown, or there is none.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    check_names(names)
    return names


def check_names(names: Sequence[str]) -> None:
    """Check that all names are known.

    Raises:
        InputError: one is unknown, or there is none.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        found = repr(unknown[0]) if unknown else "none"
        raise InputError(f"expected metrics among {', '.join(METRICS)}, found {found}")
