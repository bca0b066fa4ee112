"""Networks of the published shape and of random weights, small enough for tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPVisionConfig

from generation.clip.cropping import Crop
from generation.clip.preparing import SquareClip
from generation.models.image_encoders import CLIP_SIDE, CLIPImageEncoder
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from generation.models.vae import VAEConfig, VAEDecoder, VAEEncoder
from generation.networks import Networks
from generation.weights.catalogue import published
from generation.weights.model_weights import PublishedWeights
from generation.weights.verify import Verification

TINY = {
    "model_channels": 32,
    "channel_mult": (1, 1),
    "num_res_blocks": 1,
    "num_head_channels": 16,
    "context_dim": 8,
}
TINY_VAE = VAEConfig(32, (1, 1, 1, 1), 1)
TINY_TOWER = CLIPVisionConfig(
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    patch_size=56,
    image_size=CLIP_SIDE,
    projection_dim=8,
)


class TinyWeights(PublishedWeights):
    """Stand-in for published weights, with fixed tiny networks and no file content."""

    def load(self, device: torch.device, dtype: torch.dtype, low_memory: bool = False) -> Networks:
        return build_tiny(self.architecture.unet, device, dtype, low_memory)


def build_tiny(
    config: UNetConfig, device: torch.device, dtype: torch.dtype, low_memory: bool = False
) -> Networks:
    small = replace(config, **TINY)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        parts = [VAEEncoder(TINY_VAE), VAEEncoder(TINY_VAE), VAEDecoder(TINY_VAE)]
        tower = CLIPImageEncoder(TINY_TOWER)
        unet = SV4DUNet(small) if isinstance(small, SV4DConfig) else SV3DUNet(small)
    for module in (unet, *parts, tower):
        module.eval().requires_grad_(False)
    unet.to(dtype)
    return Networks(unet, *parts, tower, device, low_memory)  # type: ignore[arg-type]


def tiny_weights(folder: Path, *names: str) -> dict[str, TinyWeights]:
    """Weights files that only have a hash."""
    found = {}
    for name in names:
        path = folder / f"{name}.safetensors"
        path.write_bytes(b"weights of " + name.encode())
        verification = Verification(path, path.stat().st_size, 0, ("F32",), 0, 0)
        found[name] = TinyWeights(path, published[name], verification)
    return found


def tiny_clip(T: int = 5, size: int = 64) -> SquareClip:
    """A soft disc that moves right."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    images = np.zeros((T, size, size, 4), np.uint8)
    for t in range(T):
        radius = np.hypot(rows - size / 2, columns - size / 2 - t)
        images[t, ..., 3] = np.rint(255 * np.clip(size / 4 - radius, 0, 1))
        images[t, ..., :3] = (200, 40, 10 * t)
    crop = Crop(((size / 2, size / 2),) * T, size, size / 2)
    return SquareClip(images, 8.0, True, tuple(range(T)), crop, ())
