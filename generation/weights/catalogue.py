"""The published networks: where their weights are, under which licence, and what they must hold.

The weights are read as published, one file for each network, and are never converted. Nothing heavy
is imported here, so that a command line can name the models quickly.

Sizes and lists of tensors come from the reference implementation built at full size in float32; see
`generation/manifests`. They describe what that code builds, not what was read from a published
file: a published file may hold some tensors more, and another floating-point type.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

Shape = tuple[int, ...]

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class PublishedModel:
    """A network whose weights somebody else has published.

    Attributes:
        name: key of `published`, and the stem of the file.
        file_name: of the weights, in `repository` and in folders of users.
        repository: on the Hugging Face hub.
        parameters: how many numbers the reference implementation builds.
        licence: its name.
        licence_url: where it can be read.
        gated: whether the hub wants the licence to be accepted by an account before it hands out
            the file, as far as we know; the hub decides.
        conditioning_vaes: N of each `conditioner.embedders.N` whose VAE encoder is read.
    """

    name: str
    file_name: str
    repository: str
    parameters: int
    licence: str
    licence_url: str
    gated: bool
    conditioning_vaes: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name as people type it."""
        return self.name.replace("_8views", "-8views")

    @property
    def size_bytes(self) -> int:
        """Size of the published file, within a thousandth: all parameters in float32."""
        return 4 * self.parameters

    @property
    def page(self) -> str:
        """The page on which an account accepts the licence."""
        return f"{HUB}/{self.repository}"

    @property
    def read_prefixes(self) -> tuple[str, ...]:
        """What the keys of all tensors that are read start with; nothing reads the others.

        The text tower of CLIP, the decoders of the conditioning VAEs and the VAE of `cond_motion`
        (embedder 5 of SV4D and later) lie in the files and have no effect.
        """
        return (
            "model.diffusion_model.",
            "first_stage_model.decoder.",
            "conditioner.embedders.0.open_clip.model.visual.",
            *(
                f"conditioner.embedders.{embedder}.encoder.{part}."
                for embedder in self.conditioning_vaes
                for part in ("encoder", "quant_conv")
            ),
        )


def _published(
    name: str, repository: str, parameters: int, gated: bool, conditioning_vaes: tuple[int, ...]
) -> PublishedModel:
    return PublishedModel(
        name,
        file_name=f"{name}.safetensors",
        repository=f"stabilityai/{repository}",
        parameters=parameters,
        licence="Stability AI Community License",
        licence_url="https://stability.ai/license",
        gated=gated,
        conditioning_vaes=conditioning_vaes,
    )


published: dict[str, PublishedModel] = {
    model.name: model
    for model in (
        _published("sv3d_u", "sv3d", 2_340_911_829, gated=True, conditioning_vaes=(1,)),
        _published("sv3d_p", "sv3d", 2_342_222_549, gated=True, conditioning_vaes=(1,)),
        _published("sv4d", "sv4d", 2_980_877_155, gated=True, conditioning_vaes=(1, 4)),
        _published("sv4d2", "sv4d2.0", 2_995_213_171, gated=False, conditioning_vaes=(1, 4)),
        _published("sv4d2_8views", "sv4d2.0", 2_995_213_171, gated=False, conditioning_vaes=(1, 4)),
    )
}


def find_model(name: str) -> PublishedModel | None:
    """The model that people mean by a name; "sv4d2-8views" and "sv4d2_8views" are the same."""
    return published.get(name.replace("-", "_"))


@cache
def expected_shapes(name: str) -> Mapping[str, Shape]:
    """Key and shape of every tensor that the reference implementation builds for a model.

    Args:
        name: key of `published`.

    Returns:
        Shapes by key. `sv4d2` and `sv4d2_8views` have the same.
    """
    packed = resources.files("generation").joinpath("manifests", f"{name}.json.gz").read_bytes()
    manifest = json.loads(gzip.decompress(packed))
    return {key: tuple(shape) for key, (shape, _dtype) in manifest.items()}
