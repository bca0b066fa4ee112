"""LoRA on SV4D's attention: the only weights that the coarse stage of the cascade trains.

It is added to all three kinds of transformer block: in space, over views, over times. In
self-attention it is on q, k, v and the output; in cross-attention, which has a single key, on v and
the output only, because q and k have no effect there.

The layers are `peft`'s: W x + (alpha / rank) · B A x, with B initialized to zero, so that an
untrained LoRA changes nothing.

Source: 4DVD, §3.3; Hu et al. 2022, "LoRA", §4.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from generation.models.loading import compare_shapes
from generation.models.sv4d import SV4DUNet
from recon.errors import InputError, WeightsError

ADAPTER = "coarse"  # name of our adapter in peft, which can hold several
TARGETS = (
    r".*\.(transformer_blocks|time_mix_blocks|motion_blocks)\.0\."
    r"(attn1\.(to_q|to_k|to_v|to_out\.0)|attn2\.(to_v|to_out\.0))"
)


@dataclass(frozen=True)
class LoraSettings:
    """Hyperparameters of a LoRA.

    Attributes:
        rank: rank of B A, at least 1.
        alpha: B A is scaled by alpha / rank.

    Raises:
        InputError: the rank is not a positive integer, or alpha is not a number.
    """

    rank: int
    alpha: float

    def __post_init__(self):
        positive = isinstance(self.rank, int) and self.rank > 0
        if not (positive and isinstance(self.alpha, int | float)):
            raise InputError(
                f"expected a rank of at least 1 and a number as alpha, "
                f"found {self.rank!r} and {self.alpha!r}"
            )


def add_lora(unet: SV4DUNet, rank: int, alpha: float) -> None:
    """Add an untrained LoRA to a network's attention in place and freeze all other parameters.

    A and B are float32 whatever the network's dtype, because an optimizer updates them.

    Args:
        unet: a network without a LoRA.
        rank: see `LoraSettings`.
        alpha: see `LoraSettings`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    assert not has_lora(unet), "a second LoRA would hide the first"
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS)  # type: ignore[arg-type]
    inject_adapter_in_model(config, unet, ADAPTER)
    for parameter in lora_parameters(unet):
        parameter.data = parameter.data.float()


def has_lora(unet: SV4DUNet) -> bool:
    """Return whether the network has a LoRA that is not merged."""
    return any(True for _ in _layers(unet))


def lora_settings(unet: SV4DUNet) -> LoraSettings:
    """Return the hyperparameters of a network's LoRA; the network must have one."""
    _, layer = next(_layers(unet))
    return LoraSettings(layer.r[ADAPTER], layer.lora_alpha[ADAPTER])


def lora_parameters(unet: SV4DUNet) -> list[nn.Parameter]:
    """Return the trainable parameters, A and B of all layers."""
    return list(_factors(unet).values())


def lora_state(unet: SV4DUNet) -> dict[str, Tensor]:
    """Return A and B of all layers by `peft`'s names, such as `….to_q.lora_A.weight`."""
    return {name: parameter.detach() for name, parameter in _factors(unet).items()}


def load_lora_state(unet: SV4DUNet, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into a network's LoRA.

    Args:
        unet: a network with a LoRA.
        tensors: tensors by name, as returned by `lora_state`.

    Raises:
        WeightsError: a tensor is missing, unexpected, of another shape (e.g. of another rank) or
            not of a floating-point type; nothing is copied then.
    """
    factors = _factors(unet)
    difference = compare_shapes(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        {name: tuple(parameter.shape) for name, parameter in factors.items()},
        [f"{name}: {x.dtype}" for name, x in tensors.items() if not x.is_floating_point()],
    )
    if difference.total:
        rank = lora_settings(unet).rank
        raise WeightsError(
            f"the LoRA does not fit this network with rank {rank}; tensors: {difference}"
        )
    for name, parameter in factors.items():
        parameter.data.copy_(tensors[name])


def merge_lora(unet: SV4DUNet) -> None:
    """Add B A to each weight and remove the LoRA layers, so that inference costs no extra time.

    The sum has the weight's dtype, so in half precision small updates are lost to rounding.
    """
    for name, layer in list(_layers(unet)):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(unet.get_submodule(parent), child, layer.get_base_layer())
    del unet.peft_config


def _layers(unet: SV4DUNet) -> Iterator[tuple[str, Any]]:
    """Iterate over the LoRA layers with their names in the network."""
    from peft.tuners.lora import LoraLayer

    return ((name, each) for name, each in unet.named_modules() if isinstance(each, LoraLayer))


def _factors(unet: SV4DUNet) -> dict[str, nn.Parameter]:
    """Return A and B of all layers by name, without the adapter's name."""
    return {
        f"{name}.{factor}.weight": getattr(layer, factor)[ADAPTER].weight
        for name, layer in _layers(unet)
        for factor in ("lora_A", "lora_B")
    }
