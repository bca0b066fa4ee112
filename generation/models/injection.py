"""Where features may be added to the UNet from outside, and how they are added.

    x ─▶ input blocks ──▶ middle block ─▶ output blocks ─▶ out
           │ + input_i      │ + middle_0      │ + output_i
           └────── skips, + skip_i ───────────┘

What is added as `input_i` goes on through the way down and into the skip; what is added as `skip_i`
is seen by the way up only. The index is that of the block that makes the feature.

Letters: N frames of all batch items, C channels, h × w pixels; level l has 1/2ˡ of the latent's
height and width. What it does not know: what is added, or why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from generation.models.unet import UNetConfig

# From the input and the conditions of a call to what it adds, by the names of places.
Inject = Callable[[Tensor, Any], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Place:
    """A feature of the UNet.

    Attributes:
        part: "input", "skip", "middle" or "output".
        index: of the block that makes it.
        channels: C.
        level: l.
    """

    part: str
    index: int
    channels: int
    level: int

    @property
    def name(self) -> str:
        """As the UNet asks for it."""
        return f"{self.part}_{self.index}"


def input_places(config: UNetConfig) -> list[Place]:
    """The features of the way down, each of which is a skip as well."""
    first, last_level = config.model_channels, len(config.channel_mult) - 1
    sizes = [(first, 0)]
    for level, multiple in enumerate(config.channel_mult):
        sizes += [(multiple * first, level)] * config.num_res_blocks
        if level < last_level:
            sizes.append((multiple * first, level + 1))
    return [Place("input", index, *size) for index, size in enumerate(sizes)]


def skip_places(config: UNetConfig) -> list[Place]:
    """The same features as the way up gets them."""
    return [replace(place, part="skip") for place in input_places(config)]


def middle_place(config: UNetConfig) -> Place:
    """The feature of the middle block."""
    return replace(input_places(config)[-1], part="middle", index=0)


def upsampled_places(config: UNetConfig) -> list[Place]:
    """The features with which a level of the way up begins; the deepest has none."""
    blocks, levels = config.num_res_blocks + 1, len(config.channel_mult)
    return [
        Place(
            "output",
            (levels - level) * blocks - 1,
            config.channel_mult[level] * config.model_channels,
            level - 1,
        )
        for level in range(levels - 1, 0, -1)
    ]


def last_of_levels(places: list[Place]) -> list[Place]:
    """Of each level the place that comes last."""
    return list({place.level: place for place in places}.values())


def add(x: Tensor, added: Tensor | None) -> Tensor:
    """The sum; x itself where nothing is added.

    Args:
        x: [N, C, h, w].
        added: the same, or [N / b, C, h, w] for b batch items alike, such as the two halves of
            guidance.
    """
    if added is None:
        return x
    return (x.unflatten(0, (-1, len(added))) + added.to(x.dtype)).flatten(0, 1)
