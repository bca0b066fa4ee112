"""A cascade of tiny networks in a folder, as `fourdvd train assemble` writes it."""

from pathlib import Path

from generation.models.image_encoders import ConvImageEncoder, ConvImageEncoderConfig
from generation.models.lora import add_lora, lora_parameters, lora_settings, lora_state
from generation.models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from generation.models.structure_branch import build_branch
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE, VAE_FILE, trained
from generation.weights.files import save_weights
from generation.weights.verify import file_sha256
from tests.generation.models.random_weights import numbers, with_random_weights
from tests.generation.tiny_networks import TINY

REFERENCE_VIEWS, BASE = "mini_sv3d", "mini"  # keys of `catalogue.trained`
UNET_FILES = {name: model.unet_file for name, model in trained.items()}
IMAGE_ENCODER_FILES = {name: model.image_encoder_file for name, model in trained.items()}
CHANNELS, SCALE = 12, 0.8
AUTOENCODER = PatchAutoencoderConfig(8, CHANNELS, 8, 1, 1, latent_scale=SCALE)
IMAGE_ENCODER = ConvImageEncoderConfig(8, (32,), TINY["context_dim"])
SIZES = {**TINY, "in_channels": 2 * CHANNELS, "out_channels": CHANNELS, "adm_in_channels": 1280}
ORBIT = UNetConfig(**SIZES)
GRID = SV4DConfig(
    **SIZES,
    motion_context_dim=CHANNELS,
    use_camera_emb=True,
    separate_motion_merge_factor=True,
)


def write_trained_cascade(
    folder: Path, effect: float = 0.3, base_sha256: str | None = None
) -> Path:
    """All files of `generation.weights.catalogue.CASCADE_FILES`, the same each time.

    Args:
        folder: gets them; is made.
        effect: size of the LoRA's numbers.
        base_sha256: that LoRA and branch tell; None: the right one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_autoencoder(folder / VAE_FILE)
    for seed, name in enumerate((REFERENCE_VIEWS, BASE)):
        write_unet(folder, name, seed)
        write_image_encoder(folder, name, seed)
    base = base_sha256 or file_sha256(folder / UNET_FILES[BASE])
    branch = with_random_weights(build_branch("layerwise", GRID))
    requires = {"base": base}
    save_weights(
        folder / BRANCH_FILE, branch.settings, branch.state_dict(), requires, overwrite=True
    )
    unet = SV4DUNet(GRID)
    add_lora(unet, 2, 2.0)
    for index, parameter in enumerate(lora_parameters(unet)):
        parameter.data = effect * numbers(*parameter.shape, seed=index)
    save_weights(
        folder / LORA_FILE, lora_settings(unet), lora_state(unet), requires, overwrite=True
    )
    return folder


def write_autoencoder(path: Path, seed: int = 0) -> None:
    """Replace the folder's autoencoder by one with random weights."""
    network = with_random_weights(PatchAutoencoder(AUTOENCODER), seed)
    save_weights(path, AUTOENCODER, network.state_dict(), overwrite=True)


def write_unet(folder: Path, name: str, seed: int = 0) -> None:
    """Replace a UNet by one for the folder's autoencoder."""
    unet = SV4DUNet(GRID) if name == BASE else SV3DUNet(ORBIT)
    _write(folder, UNET_FILES[name], with_random_weights(unet, seed))


def write_image_encoder(folder: Path, name: str, seed: int = 0) -> None:
    """Replace an image encoder by one for the folder's autoencoder."""
    _write(
        folder,
        IMAGE_ENCODER_FILES[name],
        with_random_weights(ConvImageEncoder(IMAGE_ENCODER), seed),
    )


def _write(folder: Path, file: str, network: SV3DUNet | SV4DUNet | ConvImageEncoder) -> None:
    requires = {"vae": file_sha256(folder / VAE_FILE)}
    save_weights(folder / file, network.config, network.state_dict(), requires, overwrite=True)
