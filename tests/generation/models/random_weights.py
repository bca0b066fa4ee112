"""Random weights and features without zeros, ones or repetitions, so that every path counts."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return standard normal numbers; a seed gives the same ones for any dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def frames(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return features [N, C, h, w] in the memory format of the networks."""
    return numbers(*shape, seed=seed, dtype=dtype).to(memory_format=torch.channels_last)


def with_random_weights(module: Module, seed: int = 0) -> Module:
    """Randomize a module's weights, which preserve the scale of features; gains are about 1."""
    for index, (name, parameter) in enumerate(module.named_parameters()):
        values = numbers(*parameter.shape, seed=1000 * seed + index + 1)
        if parameter.ndim > 1:
            values /= parameter[0].numel() ** 0.5
        else:
            values = 0.3 * values + name.endswith("weight")
        parameter.data.copy_(values)
    return module


def error(found: Tensor, expected: Tensor) -> float:
    """Return the maximum difference relative to the maximum expected value."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max())


def gradients(loss: Tensor, module: nn.Module) -> dict[str, Tensor | None]:
    """Return the gradients of a module's parameters by name; None where the loss has none."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))
