"""No motion: the Gaussians are the same at every time. For grids of one frame, and for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from recon.deformation.interface import Deformation
from recon.gaussians import Gaussians


class StaticDeformation(Deformation):
    """The identity at every time."""

    name: ClassVar[str] = "static"

    @classmethod
    def for_fit(cls, gaussians: Gaussians, times: Sequence[float]) -> StaticDeformation:
        """Needs neither argument."""
        return cls()

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """The canonical Gaussians themselves."""
        return gaussians

    def configuration(self) -> dict[str, Any]:
        """Nothing to configure."""
        return {}

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> StaticDeformation:
        """Needs neither argument."""
        return cls()
