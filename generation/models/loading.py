"""Loading of weights into modules without a copy, after a check of names and shapes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from recon.errors import WeightsError

if TYPE_CHECKING:  # comparing shapes needs no torch
    import torch

    Module = TypeVar("Module", bound=torch.nn.Module)

Shape = tuple[int, ...]

SHOWN_KEYS = 3  # of each kind of difference, in a message
_DIFFERENCES = ("missing", "extra", "of another shape", "neither float16, bfloat16 nor float32")


class ShapeDifference(NamedTuple):
    """Differences between tensors and the expected ones; all lists are empty if there are none.

    Attributes:
        missing: keys of expected tensors that are missing.
        extra: keys of tensors that are not expected.
        misshapen: descriptions such as "key: expected 1280×256, found 1280×768".
        not_float: descriptions such as "key: I64".
    """

    missing: list[str]
    extra: list[str]
    misshapen: list[str]
    not_float: list[str]

    @property
    def total(self) -> int:
        """Number of tensors that differ."""
        return sum(map(len, self))

    def __str__(self) -> str:
        kinds = zip(_DIFFERENCES, self, strict=True)
        return ", ".join(f"{len(keys)} {kind} ({_shown(keys)})" for kind, keys in kinds if keys)


def compare_shapes(
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    not_float: Iterable[str] = (),
) -> ShapeDifference:
    """Compare the shapes of tensors with the expected ones.

    Args:
        found: shapes by key.
        expected: shapes by key.
        not_float: descriptions of tensors that are not floating-point.
    """
    return ShapeDifference(
        sorted(expected.keys() - found.keys()),
        sorted(found.keys() - expected.keys()),
        [
            f"{key}: expected {_times(expected[key])}, found {_times(found[key])}"
            for key in sorted(expected.keys() & found.keys())
            if expected[key] != found[key]
        ],
        sorted(not_float),
    )


def load_module(module: Module, tensors: Mapping[str, torch.Tensor]) -> Module:
    """Assign tensors to a module that was built on the meta device, without copying them.

    Args:
        module: the module; afterwards it is in evaluation mode and requires no gradients.
        tensors: state dict of the module.

    Returns:
        The same module.

    Raises:
        WeightsError: a tensor is missing, extra or of another shape, or a parameter, buffer or
            attribute of the module is still on the meta device.
    """
    difference = compare_shapes(
        {key: tuple(tensor.shape) for key, tensor in tensors.items()},
        {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()},
    )
    if difference.total:
        raise WeightsError(f"the weights do not fit {type(module).__name__}; tensors: {difference}")
    module.load_state_dict(tensors, strict=True, assign=True)
    if left := _names_on_meta(module):
        raise WeightsError(
            f"expected values for all tensors of {type(module).__name__}, found none for "
            f"{', '.join(left)}"
        )
    return module.eval().requires_grad_(False)


def _names_on_meta(module: torch.nn.Module) -> list[str]:
    """List parameters, buffers (non-persistent ones too) and attributes without values."""
    import torch

    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, part in module.named_modules()
        for name, value in {**vars(part), **part._parameters, **part._buffers}.items()
        if isinstance(value, torch.Tensor) and value.is_meta
    ]


def _shown(keys: Collection[str]) -> str:
    shown = ", ".join(list(keys)[:SHOWN_KEYS])
    return f"{shown}, …" if len(keys) > SHOWN_KEYS else shown


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "a single number"
