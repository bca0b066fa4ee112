"""FLIP: the difference that people see when two images alternate, by the package `flip-evaluator`.

Source: Andersson et al. 2020, "FLIP: A Difference Evaluator for Alternating Images";
https://github.com/NVlabs/flip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recon.errors import BackendError
from recon.metrics.catalog import EXTRA, has_flip
from recon.metrics.interface import ImagePair

PIXELS_PER_DEGREE = 67.0206  # the package's default: 0.7 m from a display of 3840 pixels on 0.7 m


class Flip:
    """The mean of FLIP's map of an image, in [0, 1]; 0 for equal images.

    Raises:
        BackendError: the package is not installed.
    """

    name = "flip"
    settings: Mapping[str, Any] = {"pixels_per_degree": PIXELS_PER_DEGREE}

    def __init__(self):
        if not has_flip():
            raise BackendError("the metric flip needs the package flip-evaluator", hint=EXTRA)

    def measure(self, pair: ImagePair) -> dict[str, float | None]:
        """Return the mean under "flip"."""
        import flip_evaluator  # pyright: ignore[reportMissingImports]

        _, mean, _ = flip_evaluator.evaluate(
            pair.true_rgb.astype(np.float32),
            pair.rgb.astype(np.float32),
            "LDR",
            inputsRGB=True,
            applyMagma=False,
            parameters={"ppd": PIXELS_PER_DEGREE},
        )
        return {"flip": float(mean)}
