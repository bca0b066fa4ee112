"""Opened weights of a model, published or trained: one interface, from which networks are loaded.

Opening reads headers only. Loading maps a file into memory and reads its tensors one by one, so the
peak is the file's own pages, which the system can drop, and the networks themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from generation.models.image_encoders import CLIPImageEncoder, clip_state
from generation.models.loading import Shape, load_module
from generation.models.patch_autoencoder import ScaledDecoder
from generation.models.vae import decoder_state, encoder_state
from generation.networks import Architecture, Networks
from generation.weights.catalogue import (
    CASCADE_KINDS,
    VAE_FILE,
    BundledModel,
    PublishedModel,
    bundled,
    published,
    trained,
)
from generation.weights.files import KINDS, WeightsFile, describe
from generation.weights.store import find_bundled, find_lift, find_published, find_trained
from generation.weights.verify import Verification, file_sha256, verify_weights
from recon.errors import WeightsError
from recon.resume import fingerprint

UNET = "model.diffusion_model."  # prefixes of the keys in a published file
CLIP = "conditioner.embedders.0.open_clip.model.visual."
DECODER = "first_stage_model."
ENCODER = "conditioner.embedders.{}.encoder."
FRAMES_VAE, REFERENCE_VAE = 1, 4  # embedders: of input frames, and of SV4D's reference views


class ModelWeights(Protocol):
    """Weights of one diffusion model with its autoencoder and image encoder."""

    @property
    def name(self) -> str:
        """Key of `catalogue.published` or `catalogue.trained`."""
        ...

    @property
    def path(self) -> Path:
        """The file that holds the UNet."""
        ...

    @cached_property
    def sha256(self) -> str:
        """The sha256 of `path` in hexadecimal digits, computed once."""
        ...

    @cached_property
    def identity(self) -> int | str:
        """Value that a checkpoint must match: the size of a large file, the hash of small ones."""
        ...

    @property
    def architecture(self) -> Architecture:
        """Configurations that the networks are built from."""
        ...

    def load(self, device: torch.device, dtype: torch.dtype, low_memory: bool = False) -> Networks:
        """Load the networks.

        Args:
            device: target device.
            dtype: floating-point type of the UNet and the image encoder; the autoencoder stays in
                float32, because rounding errors in it would be visible.
            low_memory: see `Networks`.

        Raises:
            WeightsError: the tensors do not fit the networks, or the files do not fit each other.
        """
        ...


def open_model(name: str, folder: str | Path | None = None) -> ModelWeights:
    """Find and verify the weights of a model.

    Args:
        name: key of `catalogue.published` or `catalogue.trained`.
        folder: folder to search first, see `store.find_model`.

    Raises:
        WeightsError: a file is missing, damaged or belongs to another model.

    Example:
        >>> networks = open_model("mini").load(torch.device("cpu"), torch.float32)
    """
    if name in trained:
        return open_trained(name, folder)
    return open_published(find_published(published[name], folder), published[name])


def open_models(names: Iterable[str], folder: str | Path | None = None) -> dict[str, ModelWeights]:
    """Open the weights of several models; see `open_model`."""
    return {name: open_model(name, folder) for name in names}


def find_architecture(name: str, folder: str | Path | None = None) -> Architecture:
    """Return the architecture of a model; that of a published one needs no downloaded file.

    Args:
        name: key of `catalogue.published` or `catalogue.trained`.
        folder: folder to search first for a trained model.

    Raises:
        WeightsError: a file of a trained model is missing or damaged.
    """
    if name in trained:
        return open_trained(name, folder).architecture
    return published_architecture(published[name])


@dataclass(frozen=True)
class PublishedWeights:
    """A file with the weights of a published model; a `ModelWeights`.

    Attributes:
        path: path of the file.
        model: description of the model.
        verification: result of verifying the file.
    """

    path: Path
    model: PublishedModel
    verification: Verification

    @property
    def name(self) -> str:
        """See `ModelWeights`."""
        return self.model.name

    @cached_property
    def sha256(self) -> str:
        """See `ModelWeights`; takes as long as reading the file."""
        return file_sha256(self.path)

    @cached_property
    def identity(self) -> int:
        """The size in bytes."""
        return self.verification.size_bytes

    @property
    def architecture(self) -> Architecture:
        """See `ModelWeights`."""
        return published_architecture(self.model)

    def load(self, device: torch.device, dtype: torch.dtype, low_memory: bool = False) -> Networks:
        """See `ModelWeights`."""
        architecture = self.architecture
        home = torch.device("cpu") if low_memory else device
        with torch.device("meta"):
            unet, image_encoder = architecture.build_unet(), CLIPImageEncoder()
            encoder, decoder = architecture.build_encoder(), architecture.build_decoder()
            reference_encoder = architecture.build_encoder()
        image_encoder.init_position_ids()

        def state(prefix: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
            return self.part(prefix, dtype, home)

        load_module(unet, state(UNET, dtype))
        load_module(encoder, encoder_state(state(ENCODER.format(FRAMES_VAE))))
        if architecture.separate_reference_encoder:
            load_module(reference_encoder, encoder_state(state(ENCODER.format(REFERENCE_VAE))))
        else:
            reference_encoder = encoder
        load_module(decoder, decoder_state(state(DECODER)))
        load_module(image_encoder, clip_state(state(CLIP, dtype)))
        return Networks(
            unet, encoder, reference_encoder, decoder, image_encoder, device, low_memory
        )

    def part(
        self, prefix: str, dtype: torch.dtype, device: torch.device | str
    ) -> dict[str, Tensor]:
        """Read the tensors of one network in the file.

        Each tensor is converted on its own, so that memory never holds two copies of the network. A
        tensor that has the type already and stays on the CPU is memory-mapped instead of copied.

        Args:
            prefix: prefix of the network's keys, e.g. "model.diffusion_model.".
            dtype: type to convert to.
            device: target device.

        Returns:
            Tensors by key, without the prefix; they outlive this object.
        """
        with safe_open(self.path, framework="pt") as file:
            return {
                key.removeprefix(prefix): file.get_tensor(key).to(device=device, dtype=dtype)
                for key in file.keys()  # noqa: SIM118
                if key.startswith(prefix)
            }


@dataclass(frozen=True)
class TrainedWeights:
    """Files of one diffusion model of a trained cascade; a `ModelWeights`.

    Attributes:
        name: key of `catalogue.trained`.
        unet: weights file of the UNet.
        image_encoder: weights file of the image encoder.
        vae: weights file of the autoencoder.
    """

    name: str
    unet: WeightsFile
    image_encoder: WeightsFile
    vae: WeightsFile

    @property
    def path(self) -> Path:
        """See `ModelWeights`."""
        return self.unet.path

    @cached_property
    def sha256(self) -> str:
        """See `ModelWeights`."""
        return self.unet.sha256

    @cached_property
    def identity(self) -> str:
        """Hash of all three files."""
        return fingerprint(*(file.sha256 for file in (self.unet, self.image_encoder, self.vae)))

    @property
    def architecture(self) -> Architecture:
        """See `ModelWeights`."""
        return Architecture(self.unet.config, self.vae.config, self.image_encoder.config)

    def load(self, device: torch.device, dtype: torch.dtype, low_memory: bool = False) -> Networks:
        """See `ModelWeights`."""
        for file in (self.unet, self.image_encoder):
            file.check_requires(vae=self.vae.sha256)
        vae = self.vae.build()
        return Networks(
            self.unet.build(dtype),
            vae.encoder,
            vae.encoder,
            ScaledDecoder(vae),
            self.image_encoder.build(dtype),
            device,
            low_memory,
        )


def open_published(
    path: str | Path, model: PublishedModel, expected: Mapping[str, Shape] | None = None
) -> PublishedWeights:
    """Verify and open a file of a published model; see `verify_weights` for its arguments."""
    return PublishedWeights(Path(path), model, verify_weights(path, model, expected))


def open_trained(name: str, folder: str | Path | None = None) -> TrainedWeights:
    """Open the files of a trained model.

    Args:
        name: key of `catalogue.trained`.
        folder: see `store.trained_folder`.

    Raises:
        WeightsError: a file is missing or damaged, or has another kind.
    """
    model = trained[name]
    unet, image_encoder, vae = find_trained(model, folder)
    return TrainedWeights(
        name,
        describe(unet, model.kind),
        describe(image_encoder, "image-encoder"),
        describe(vae, "vae"),
    )


def open_lift(folder: str | Path | None = None) -> WeightsFile:
    """Open the network of `lift`; its `build` loads it.

    Args:
        folder: see `store.find_lift`.

    Raises:
        WeightsError: the file is missing or damaged, or has another kind.

    Example:
        >>> network = open_lift().build(torch.float32, "cpu")
    """
    return describe(find_lift(folder), "lift")


def verify_bundled(
    model: BundledModel, folder: str | Path | None = None, file: str | Path | None = None
) -> BundledCheck:
    """Verify the weights of a bundled model: by their headers, and that files fit each other.

    Args:
        model: description of the model.
        folder: folder named by the user; None for the bundled files.
        file: file to verify instead of searching.
    """
    paths: list[Path] = []
    try:
        paths = find_bundled(model, folder) if file is None else [Path(file)]
        kind = "lift" if model == bundled["lift"] else None
        opened = {path.name: describe(path, kind) for path in paths}
        for each in opened.values():
            each.check_shapes()
        if len(opened) > 1:
            _check_cascade(opened)
        return BundledCheck(model, paths, None)
    except WeightsError as error:
        return BundledCheck(model, paths, error)


class BundledCheck(NamedTuple):
    """Result of verifying one bundled model.

    Attributes:
        model: the model.
        paths: paths of its files; empty if one is not found.
        error: the error; None if all files are valid.
    """

    model: BundledModel
    paths: list[Path]
    error: WeightsError | None


def _check_cascade(opened: Mapping[str, WeightsFile]) -> None:
    """Check that the networks of a cascade were trained with each other."""
    for model in trained.values():
        for name in (model.unet_file, model.image_encoder_file):
            opened[name].check_requires(vae=opened[VAE_FILE].sha256)
    for name in CASCADE_KINDS:
        opened[name].check_requires(base=opened[trained["mini"].unet_file].sha256)


def open_cascade_files(files: Mapping[str, Path], base_sha256: str) -> dict[str, WeightsFile]:
    """Open LoRA and structure branch, checking that they were trained on the base in use.

    Args:
        files: paths by file name, `catalogue.LORA_FILE` and `BRANCH_FILE` or one of them.
        base_sha256: sha256 of the file with the base's UNet.

    Raises:
        WeightsError: a file is damaged, has another kind, or was trained on another base.
    """
    opened = {name: describe(path, CASCADE_KINDS[name]) for name, path in files.items()}
    for file in opened.values():
        file.check_requires(base=base_sha256)
    return opened


def published_architecture(model: PublishedModel) -> Architecture:
    """Return the architecture of a published model."""
    return Architecture(
        KINDS[model.kind].config(**model.config),
        separate_reference_encoder=REFERENCE_VAE in model.conditioning_vaes,
    )
