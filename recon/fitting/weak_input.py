"""What makes a fit weak: too few directions at each moment, or views that disagree.

A scene reproduces its own images even where nothing else holds it, so a high PSNR of the training
views says little if few of them show each moment. Letters: V views, T frames.

Source: Gao et al., Monocular Dynamic View Synthesis: A Reality Check, NeurIPS 2022 (how far a
camera moves between frames decides whether it replaces several cameras).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon.evaluation import ImageMetrics
from recon.grid import Grid

FEW_VIEWS = 2
NARROW_DEG = 60.0
SLOW_TURN_DEG = 45.0  # between frames; D-NeRF's camera jumps by about 90°, 29° lost 21 dB held out
POOR_PSNR = 20.0  # in dB, inside the object's box; fits of consistent views have 24 and more
ODD_PSNR_GAP = 6.0  # in dB, below the median view; consistent views differ by up to 5
ODD_PSNR = 27.0
MAX_NAMED = 5

_POOR = "expect poor quality from other directions"


def weak_views(grid: Grid) -> list[str]:
    """Return why the views of a grid leave much of the object open, as sentences."""
    backward = np.stack([camera.T_world_camera[:3, 2] for camera in grid.cameras])
    if grid.V <= FEW_VIEWS:
        views = "1 view" if grid.V == 1 else f"{grid.V} views"
        return [f"the grid has only {views}, which leave most of the object unseen; {_POOR}"]
    widest = _degrees(float((backward @ backward.T).min()))
    if grid.T > 1 and np.median(np.bincount(grid.frame)) <= 1:
        order = grid.view[np.argsort(grid.frame, kind="stable")]
        turns = (backward[order[1:]] * backward[order[:-1]]).sum(axis=1)
        turn = float(np.median([_degrees(cosine) for cosine in turns]))
        if turn < SLOW_TURN_DEG:
            return [
                f"each moment is seen from one side only, by a camera that turns {turn:.0f}° from "
                f"frame to frame; {_POOR}, or film with several cameras at once"
            ]
    if widest < NARROW_DEG:
        return [f"all {grid.V} views are within {widest:.0f}° of each other; {_POOR}"]
    return []


def disagreeing_views(images: Sequence[ImageMetrics]) -> list[str]:
    """Return which views contradict the others, as sentences.

    Args:
        images: metrics of training images.
    """
    known = [(image.view, image.psnr_foreground) for image in images]
    views = sorted({view for view, value in known if value is not None})
    means = np.array(
        [np.mean([v for view, v in known if view == own and v is not None]) for own in views]
    )
    if len(views) < 3:
        return []
    middle = float(np.median(means))
    if middle < POOR_PSNR:
        return [
            f"the scene reproduces its own images with {middle:.0f} dB only: the views disagree, "
            "or the motion is too fast; check that cameras, times and masks belong to the images"
        ]
    is_odd = (means < middle - ODD_PSNR_GAP) & (means < ODD_PSNR)
    if not is_odd.any():
        return []
    odd = [str(view) for view in np.array(views)[is_odd]]
    named = ", ".join(odd[:MAX_NAMED]) + (" …" if len(odd) > MAX_NAMED else "")
    return [
        f"view {named} disagrees with the others ({means[is_odd].max():.0f} dB against "
        f"{middle:.0f} dB); check its camera and times"
    ]


def _degrees(cosine: float) -> float:
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
