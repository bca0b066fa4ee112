"""Names, files and licenses of the models: the published ones and those of a trained cascade.

Published weights are read as they are, one file for each model, and are never converted. Their
sizes and lists of tensors (the folder `manifests`) come from the reference implementation built at
full size in float32: a published file may hold more tensors, in another floating-point type.

A trained cascade is a folder, which `fourdvd train assemble` fills; `mini` is one that is part of
this package:

    vae.safetensors                                images ⇄ latents
    sv3d.safetensors     sv3d_tower.safetensors    UNet and image encoder of the reference views
    sv4d.safetensors     sv4d_tower.safetensors    UNet and image encoder of the grid
    4dvd_lora.safetensors                          LoRA of the coarse stage
    4dvd_branch.safetensors                        structure branch of the fine stage

The network of `lift`, which `fourdvd train lift` writes, is one file; one is part of this package:

    lift.safetensors                               layers along the rays of one view, from its image

Light to import: no torch, no numpy.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from generation.models.loading import Shape

HUB = "https://huggingface.co"

VAE_FILE = "vae.safetensors"
LORA_FILE, BRANCH_FILE = "4dvd_lora.safetensors", "4dvd_branch.safetensors"
LIFT_FILE = "lift.safetensors"
CASCADE_KINDS = {LORA_FILE: "lora", BRANCH_FILE: "structure-branch"}
"""Kinds (see `weights.files`) of the files that a cascade adds to SV4D, by name."""


@dataclass(frozen=True)
class PublishedModel:
    """A model whose weights are published on the Hugging Face hub.

    Attributes:
        name: key of `published`, and the stem of the file name.
        file_name: name of the file, in `repository` and in folders of users.
        repository: repository on the Hugging Face hub.
        parameters: number of parameters that the reference implementation builds.
        license: name of the license.
        license_url: URL of the license text.
        gated: whether the hub requires an account to accept the license before a download, as far
            as we know; the hub decides.
        conditioning_vaes: indices N of the `conditioner.embedders.N` whose VAE encoder is read.
        kind: kind of its UNet, a key of `generation.weights.files.KINDS`.
        config: fields of the UNet's configuration that differ from the defaults.
    """

    name: str
    file_name: str
    repository: str
    parameters: int
    license: str
    license_url: str
    gated: bool
    conditioning_vaes: tuple[int, ...]
    kind: str
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """The name in commands and messages."""
        return self.name.replace("_8views", "-8views")

    @property
    def size_bytes(self) -> int:
        """Size of the published file, within a thousandth: all parameters in float32."""
        return 4 * self.parameters

    @property
    def page(self) -> str:
        """URL of the page on which the license is accepted."""
        return f"{HUB}/{self.repository}"

    @property
    def read_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the keys of all tensors that are read.

        The files also hold the text encoder of CLIP, the decoders of the conditioning VAEs and the
        VAE of `cond_motion` (embedder 5 of SV4D and later), which have no effect.
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


@dataclass(frozen=True)
class BundledModel:
    """A model whose weights are part of this package; a folder of users may hold others.

    Attributes:
        name: name in commands and messages.
        files: names of its files.
        license: name of the license of the bundled weights.
    """

    name: str
    files: tuple[str, ...]
    license: str = "Apache-2.0"

    @property
    def label(self) -> str:
        """The name in commands and messages."""
        return self.name


class TrainedModel(NamedTuple):
    """One of the two diffusion models of a trained cascade.

    Attributes:
        name: key of `trained`.
        kind: kind of its UNet, a key of `generation.weights.files.KINDS`.
        unet_file: name of the UNet's file.
        image_encoder_file: name of the image encoder's file.
    """

    name: str
    kind: str
    unet_file: str
    image_encoder_file: str


def _published(
    name: str,
    repository: str,
    parameters: int,
    kind: str,
    *,
    gated: bool = True,
    **config: Any,
) -> PublishedModel:
    return PublishedModel(
        name,
        file_name=f"{name}.safetensors",
        repository=f"stabilityai/{repository}",
        parameters=parameters,
        license="Stability AI Community License",
        license_url="https://stability.ai/license",
        gated=gated,
        conditioning_vaes=(1, 4) if kind == "sv4d" else (1,),
        kind=kind,
        config=config,
    )


published: dict[str, PublishedModel] = {
    model.name: model
    for model in (
        _published("sv3d_u", "sv3d", 2_340_911_829, "sv3d", adm_in_channels=256),
        _published("sv3d_p", "sv3d", 2_342_222_549, "sv3d"),
        _published("sv4d", "sv4d", 2_980_877_155, "sv4d"),
        _published(
            "sv4d2",
            "sv4d2.0",
            2_995_213_171,
            "sv4d",
            gated=False,
            use_camera_emb=True,
            use_3d_attention=True,
            separate_motion_merge_factor=True,
        ),
        _published(
            "sv4d2_8views",
            "sv4d2.0",
            2_995_213_171,
            "sv4d",
            gated=False,
            use_camera_emb=True,
            separate_motion_merge_factor=True,
        ),
    )
}

trained: dict[str, TrainedModel] = {
    model.name: model
    for model in (
        TrainedModel("mini_sv3d", "sv3d", "sv3d.safetensors", "sv3d_tower.safetensors"),
        TrainedModel("mini", "sv4d", "sv4d.safetensors", "sv4d_tower.safetensors"),
    )
}

CASCADE_FILES = (
    VAE_FILE,
    *(model.unet_file for model in trained.values()),
    *(model.image_encoder_file for model in trained.values()),
    LORA_FILE,
    BRANCH_FILE,
)
"""All files of a trained cascade."""

bundled: dict[str, BundledModel] = {
    model.name: model
    for model in (
        BundledModel("lift", (LIFT_FILE,)),
        BundledModel("mini", CASCADE_FILES),
    )
}


def known_model(name: str) -> PublishedModel | BundledModel | None:
    """Return the published or bundled model with a name, with "-" or "_"; None if unknown."""
    return bundled.get(name) or published_model(name)


def published_model(name: str) -> PublishedModel | None:
    """Return the published model with a name, spelled with "-" or "_"; None if there is none."""
    return published.get(name.replace("-", "_"))


@cache
def expected_shapes(name: str) -> Mapping[str, Shape]:
    """Return key and shape of every tensor that the reference implementation builds for a model.

    Args:
        name: key of `published`.

    Returns:
        Shapes by key; those of `sv4d2` and `sv4d2_8views` are equal.
    """
    path = resources.files("generation.weights").joinpath("manifests", f"{name}.json.gz")
    manifest = json.loads(gzip.decompress(path.read_bytes()))
    return {key: tuple(shape) for key, (shape, _dtype) in manifest.items()}
