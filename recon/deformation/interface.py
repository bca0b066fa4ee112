"""Interface of the deformation models, the static model, and the table of all models.

A deformation moves the canonical Gaussians to a time. Letters: N Gaussians, T times of the fitted
images. `time` is in [0, 1].
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
    "static": "recon.deformation.interface:StaticDeformation",
}


class Deformation(nn.Module):
    """Base class of deformation models, which move N Gaussians to a time.

    Subclasses keep all their state in parameters and buffers.

    Attributes:
        name: key of the model in `motion_models`.
    """

    name: ClassVar[str]

    @classmethod
    def for_fit(cls, gaussians: Gaussians, times: Sequence[float]) -> Deformation:
        """Build a module for a fit; it is the identity at every time.

        Args:
            gaussians: the canonical Gaussians before any motion is fitted.
            times: times of the images, ascending, T of them.
        """
        raise NotImplementedError

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """Move the Gaussians to `time`.

        Args:
            gaussians: the canonical Gaussians, the same N in the same order as at construction.
            time: in [0, 1]; between the fitted times the motion is interpolated.

        Returns:
            New Gaussians of the same shapes; differentiable in the input and in the parameters.
        """
        raise NotImplementedError

    def configuration(self) -> dict[str, Any]:
        """Return the JSON-able arguments from which `from_tensors` builds an equal module."""
        raise NotImplementedError

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> Deformation:
        """Build a module from its saved `configuration()` and `state_dict()`.

        Raises:
            SceneError: tensors are missing or have another shape.
        """
        raise NotImplementedError

    def regularization(self, gaussians: Gaussians, time: float) -> Tensor:
        """Return the penalty on implausible motion around `time`, a scalar added to the loss."""
        return gaussians.means.new_zeros(())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return Adam's parameter groups.

        Each has `params`, `name` and `lr`, the learning rate in the normalized frame of a fit;
        `time`, the index of its frame, if it belongs to a single one; and `canonical`, True if it
        has one row per Gaussian that all frames share.
        """
        return []

    def gaussian_parameters(self) -> list[nn.Parameter]:
        """Return the parameters with one row per Gaussian."""
        return []

    def begin_time(self, index: int, neighbor: int, before: int | None) -> None:
        """Initialize the motion at a time that has not been fitted so far.

        Models that are continuous in time by construction need not override it.

        Args:
            index: index of the new time.
            neighbor: index of the adjacent time, which has been fitted.
            before: index of the time on the other side of `neighbor` if it has been fitted.
        """

    def attract(self, index: int, gaussians: Gaussians, targets: Tensor) -> None:
        """Move parts to given places at one time, in place, as the start of their fit.

        Models that cannot move a part alone do nothing.

        Args:
            index: index of the time.
            gaussians: the canonical Gaussians.
            targets: where the Gaussians should be at that time, NaN for those that are right where
                they are, [N, 3].
        """

    def change_world(self, scale: float, offset: Tensor) -> None:
        """Change the unit and the place of the world, x' = s x + o, in place.

        Gaussians mapped like this are then moved to the mapped places, and `regularization` has
        about the same value as before.

        Args:
            scale: s, positive.
            offset: o in units of the new world, float64, [3].
        """
        raise NotImplementedError

    def refresh(self, gaussians: Gaussians) -> None:
        """Update state derived from the canonical Gaussians after their number has changed."""


class StaticDeformation(Deformation):
    """Motion model without motion, for grids of one frame and as a baseline."""

    name: ClassVar[str] = "static"

    @classmethod
    def for_fit(cls, gaussians: Gaussians, times: Sequence[float]) -> StaticDeformation:
        """See `Deformation.for_fit`; both arguments are ignored."""
        return cls()

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """Return the canonical Gaussians."""
        return gaussians

    def change_world(self, scale: float, offset: Tensor) -> None:
        """Do nothing, see `Deformation.change_world`."""

    def configuration(self) -> dict[str, Any]:
        """Return an empty dictionary."""
        return {}

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> StaticDeformation:
        """See `Deformation.from_tensors`; both arguments are ignored."""
        return cls()


def deformation_class(name: str) -> type[Deformation]:
    """Import the class of a model in `motion_models`.

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
    """Build a saved deformation of the model `name`; see `Deformation.from_tensors`."""
    return deformation_class(name).from_tensors(configuration, tensors)


def restore_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Check and load a state dictionary of an untrusted scene file.

    Args:
        module: a new module with the shapes of the saved one.
        tensors: by the names of `module.state_dict()`.

    Raises:
        SceneError: a tensor is missing, unknown, not finite or has another shape.
    """
    expected = module.state_dict()
    missing, unknown = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing or unknown:
        raise SceneError(
            f"the tensors of the motion do not match: missing {missing}, unexpected {unknown}"
        )
    for name, value in expected.items():
        found = tensors[name]
        if found.shape != value.shape:
            raise SceneError(
                f"tensor {name!r} of the motion has shape {tuple(found.shape)}, "
                f"expected {tuple(value.shape)}"
            )
        if not found.isfinite().all():
            raise SceneError(f"tensor {name!r} of the motion contains NaN or infinite numbers")
    module.load_state_dict(tensors)
