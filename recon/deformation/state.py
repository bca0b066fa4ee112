"""The saved state of a deformation: a user's tensors, checked before a module takes them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from recon.errors import SceneError


def restore_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives a module the tensors that its `state_dict()` had.

    Args:
        module: freshly built, with the shapes of the saved one.
        tensors: by the names of `module.state_dict()`.

    Raises:
        SceneError: a tensor is missing, unknown, of another shape or not finite.
    """
    expected = module.state_dict()
    missing, unknown = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing or unknown:
        raise SceneError(f"tensors of the motion: missing {missing}, not expected {unknown}")
    for name, value in expected.items():
        found = tensors[name]
        if found.shape != value.shape:
            raise SceneError(
                f"tensor {name!r} of the motion has shape {tuple(found.shape)}, "
                f"expected {tuple(value.shape)}"
            )
        if not found.isfinite().all():
            raise SceneError(f"tensor {name!r} of the motion holds NaN or infinite numbers")
    module.load_state_dict(tensors)
