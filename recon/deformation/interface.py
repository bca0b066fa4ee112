"""The interface of all deformation models, and the table that finds one by name.

Letters: N Gaussians, T times of the fitted images. `time` is a number in [0, 1].
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from recon.errors import SceneError
from recon.gaussians import Gaussians

motion_models = {
    "bones": "recon.deformation.bones:BoneDeformation",
    "hexplane": "recon.deformation.hexplane:HexPlaneDeformation",
    "keyframes": "recon.deformation.keyframes:KeyframeDeformation",
    "static": "recon.deformation.static:StaticDeformation",
}


class Deformation(nn.Module):
    """Moves canonical Gaussians to a time.

    Subclasses hold all their state in parameters and buffers.

    Attributes:
        name: the key of the model in `motion_models`.
    """

    name: ClassVar[str]

    @classmethod
    def for_fit(cls, gaussians: Gaussians, times: Sequence[float]) -> Deformation:
        """A module at rest (the identity at every time), ready to be fitted.

        Args:
            gaussians: the canonical ones, as they are before any motion is fitted.
            times: of the images, ascending.
        """
        raise NotImplementedError

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """The Gaussians as they are at `time`.

        Args:
            gaussians: the canonical ones, N of them, the same N in the same order as at
                construction.
            time: in [0, 1]; between the fitted times the motion is interpolated.

        Returns:
            New Gaussians of the same shapes; differentiable in the input and in the parameters.
        """
        raise NotImplementedError

    def configuration(self) -> dict[str, Any]:
        """JSON-able arguments from which `from_tensors` builds an equal module."""
        raise NotImplementedError

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> Deformation:
        """The module that was saved as `configuration()` and `state_dict()`.

        Raises:
            SceneError: tensors are missing or of another shape.
        """
        raise NotImplementedError

    def regularization(self, gaussians: Gaussians, time: float) -> Tensor:
        """What keeps the motion plausible around `time`, a scalar added to the image loss."""
        return gaussians.means.new_zeros(())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Adam's groups: `params`, `lr` for an object of radius about 1, and a `name`."""
        return []

    def gaussian_parameters(self) -> list[nn.Parameter]:
        """Those parameters that have one row for each Gaussian."""
        return []

    def begin_time(self, index: int, neighbour: int, before: int | None) -> None:
        """First guess of the motion at a time that has not been fitted so far.

        Models that are continuous in time by their form have nothing to do.

        Args:
            index: of the new time among the fitted ones.
            neighbour: index of the time next to it, which has been fitted.
            before: index of the time on the other side of `neighbour` if it has been fitted too.
        """

    def refresh(self, gaussians: Gaussians) -> None:
        """Follows a change of the canonical Gaussians in what is derived from them."""


def deformation_class(name: str) -> type[Deformation]:
    """The class of a model in `motion_models`, imported when asked for.

    Raises:
        SceneError: there is no model of that name.
    """
    if name not in motion_models:
        raise SceneError(f"unknown motion model {name!r}; expected one of {sorted(motion_models)}")
    module, _, attribute = motion_models[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_deformation(
    name: str, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Deformation:
    """The deformation saved under `name` with its configuration and its tensors."""
    return deformation_class(name).from_tensors(configuration, tensors)
