"""A whole cascade that `fourdvd train` has made, in one folder, as the pipeline reads it.

    vae.safetensors                                images ⇄ latents
    sv3d.safetensors     sv3d_tower.safetensors    makes the views of frame 0
    sv4d.safetensors     sv4d_tower.safetensors    makes the grid
    4dvd_lora.safetensors                          makes it the coarse stage's
    4dvd_branch.safetensors                        tells it the coarse grid, in the fine stage

`fourdvd train assemble` fills such a folder, and `mini` is one that is part of this package. What
it does not know: how they were trained.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from generation.models.image_encoders import ConvImageEncoderConfig
from generation.models.patch_autoencoder import PatchAutoencoderConfig, ScaledDecoder
from generation.models.sv4d import SV4DConfig
from generation.models.unet import UNetConfig
from generation.networks import Networks
from generation.weights.cascade_files import BRANCH_FILE, LORA_FILE
from generation.weights.files import describe
from generation.weights.store import file_sha256
from recon.errors import WeightsError

VAE_FILE = "vae.safetensors"
REFERENCE_VIEWS, BASE = "mini_sv3d", "mini"  # names of the two UNets, as a plan needs them
UNET_FILES = {REFERENCE_VIEWS: "sv3d.safetensors", BASE: "sv4d.safetensors"}
TOWER_FILES = {REFERENCE_VIEWS: "sv3d_tower.safetensors", BASE: "sv4d_tower.safetensors"}
KINDS = {REFERENCE_VIEWS: "sv3d", BASE: "sv4d"}
OURS = (
    VAE_FILE,
    UNET_FILES[REFERENCE_VIEWS],
    *TOWER_FILES.values(),
)  # no published file is so called
FILES = (VAE_FILE, *UNET_FILES.values(), *TOWER_FILES.values(), LORA_FILE, BRANCH_FILE)


@dataclass(frozen=True)
class TrainedWeights:
    """One UNet with the image tower and the autoencoder that it was trained with.

    Attributes:
        name: `REFERENCE_VIEWS` or `BASE`.
        path: of the UNet's file.
        tower: of the image tower's.
        vae: of the autoencoder's.
        config: sizes of the UNet.
        tower_config: of the image tower.
        autoencoder: of the autoencoder.
    """

    name: str
    path: Path
    tower: Path
    vae: Path
    config: UNetConfig | SV4DConfig
    tower_config: ConvImageEncoderConfig
    autoencoder: PatchAutoencoderConfig

    def sha256(self) -> str:
        """Of the UNet's file, in hexadecimal digits."""
        return file_sha256(self.path)

    @property
    def identity(self) -> str:
        """Tells these weights from all others."""
        hashes = (file_sha256(path) for path in (self.path, self.tower, self.vae))
        return hashlib.sha256("".join(hashes).encode()).hexdigest()


def mini_folder() -> Path:
    """The cascade that is part of this package."""
    return Path(str(resources.files("generation"))) / "mini"


def trained_folder(folder: str | Path | None = None) -> Path:
    """Where the files of a trained cascade are.

    Args:
        folder: that was named; it is taken if it holds a file that a folder of published weights,
            whose SV4D has the same name, does not.

    Returns:
        It, or else this package's own.

    Raises:
        WeightsError: the named folder is not there.
    """
    if folder is None:
        return mini_folder()
    if not Path(folder).is_dir():
        raise WeightsError(f"the folder of weights {folder} does not exist; check --weights")
    return Path(folder) if any((Path(folder) / name).exists() for name in OURS) else mini_folder()


def open_trained(folder: Path, name: str) -> TrainedWeights:
    """Reads what the files of one UNet say about themselves.

    Args:
        folder: with the files.
        name: `REFERENCE_VIEWS` or `BASE`.

    Raises:
        WeightsError: a file is missing, damaged or another thing.
    """
    unet, tower, vae = model_paths(folder, name)
    return TrainedWeights(
        name,
        unet,
        tower,
        vae,
        describe(unet, KINDS[name]).config,
        describe(tower, "image-encoder").config,
        describe(vae, "vae").config,
    )


def model_paths(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Files of one UNet, its tower and its autoencoder; arguments and errors as `open_trained`."""
    unet, tower = trained_path(folder, UNET_FILES[name]), trained_path(folder, TOWER_FILES[name])
    return unet, tower, trained_path(folder, VAE_FILE)


def trained_path(folder: Path, file: str) -> Path:
    """A file of a trained cascade.

    Raises:
        WeightsError: it is not there.
    """
    if not (folder / file).is_file():
        raise WeightsError(
            f"weights of the trained cascade are not whole: no {file} in {folder}",
            hint="`fourdvd train assemble` collects all of them from finished trainings; "
            "--weights DIR names the folder",
        )
    return folder / file


def load_trained(
    weights: TrainedWeights, device: torch.device, dtype: torch.dtype, low_memory: bool = False
) -> Networks:
    """Reads the networks.

    Args:
        weights: the files.
        device: where the networks work.
        dtype: of UNet and image tower; the autoencoder, whose rounding would show, is float32.
        low_memory: see `Networks`.

    Raises:
        WeightsError: a file is damaged, or they do not fit each other.
    """
    vae_file = describe(weights.vae, "vae")
    files = describe(weights.path, KINDS[weights.name]), describe(weights.tower, "image-encoder")
    for file in files:
        file.check_requires(vae=vae_file.sha256)
    unet, tower = (file.build(dtype) for file in files)
    vae = vae_file.build()
    if device.type == "cuda":
        unet.to_channels_last()
    return Networks(unet, vae.encoder, vae.encoder, ScaledDecoder(vae), tower, device, low_memory)
