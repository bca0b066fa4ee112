"""Conventions and result type of all rasterizers of Gaussians.

Conventions are gsplat's: EWA projection with `EPS_2D` pixels² added to the diagonal of the
projected covariance, pixel centers at +0.5; contributions with alpha below `ALPHA_MIN` are skipped,
and a pixel is finished before its transmittance falls to `TRANSMITTANCE_MIN`.
Letters: V cameras, H × W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

EPS_2D = 0.3
ALPHA_MIN = 1.0 / 255.0
ALPHA_MAX = 0.999
TRANSMITTANCE_MIN = 1e-4
NEAR = 0.01


class Rendering(NamedTuple):
    """V rendered images.

    Attributes:
        rgb: color composited over the background, [V, H, W, 3].
        alpha: one minus the remaining transmittance, [V, H, W].
        depth: weighted sum of depths in world units, not divided by alpha, [V, H, W].
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
