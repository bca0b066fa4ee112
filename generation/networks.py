"""The networks of one published file, on a device, and what the pipeline asks of them.

Letters: N images, T times, V views, c channels and h × w pixels of latents. Tensors go in and come
out as float32 on the CPU, except in `predict`, which the sampler calls. What it does not know:
clips, cameras.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from generation.conditioning import Conditioning
from generation.diffusion import Predictor
from generation.models.image_encoders import CLIPImageEncoder, ConvImageEncoder, clip_state
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import FeatureResiduals, UNetConfig
from generation.models.vae import (
    VAEConfig,
    VAEDecoder,
    VAEEncoder,
    decode_in_chunks,
    decoder_state,
    encode_in_chunks,
    encoder_state,
)
from generation.settings import GenerateSettings
from generation.weights.store import PublishedWeights, load_module

VAE = "conditioner.embedders.{}.encoder."
FRAMES_VAE, REFERENCE_VAE = 1, 4  # of input frames, and of reference views in SV4D's files
TOWER = "conditioner.embedders.0.open_clip.model.visual."
IMAGES_AT_ONCE = 8  # through the autoencoder
LOW_MEMORY_TOKENS = 2 * 72 * 72  # through a layer: two frames of the first level at 576²


@dataclass
class Networks:
    """All networks of one published file, or of one trained UNet.

    Attributes:
        unet: SV3D's or SV4D's.
        encoder: images to latents that are not scaled, of the input.
        reference_encoder: the same for reference views; published files hold it once more.
        decoder: scaled latents to images.
        tower: images to tokens, CLIP's or a small one's.
        device: where they work.
        low_memory: each lies on the device only while it works, frames and tokens go through in
            small pieces, and guided and unguided halves one after the other.
    """

    unet: SV3DUNet | SV4DUNet
    encoder: nn.Module
    reference_encoder: nn.Module
    decoder: nn.Module
    tower: CLIPImageEncoder | ConvImageEncoder
    device: torch.device
    low_memory: bool = False

    def __post_init__(self):
        self.unet.limit_memory(LOW_MEMORY_TOKENS if self.low_memory else None)
        if not self.low_memory:
            for module in (self.unet, self.encoder, self.reference_encoder, self.decoder):
                module.to(self.device)
            self.tower.to(self.device)

    @torch.inference_mode()
    def latents(self, images: Tensor) -> Tensor:
        """Latents of input frames in [−1, 1], not scaled: [N, 3, H, W] to [N, c, h, w]."""
        return self._encode(self.encoder, images)

    @torch.inference_mode()
    def reference_latents(self, images: Tensor) -> Tensor:
        """The same of reference views."""
        return self._encode(self.reference_encoder, images)

    @torch.inference_mode()
    def images(self, latents: Tensor) -> Tensor:
        """Images in [−1, 1] of scaled latents: [N, c, h, w] to [N, 3, H, W]."""
        with self.working(self.decoder):
            images = decode_in_chunks(self.decoder, latents.to(self.device), self._at_once)
        return images.clamp(-1, 1).cpu().contiguous()  # as a saved state will be when it is read

    @torch.inference_mode()
    def tokens(self, images: Tensor) -> Tensor:
        """Tokens of images in [−1, 1]: [N, 3, H, W] to [N, d]."""
        with self.working(self.tower):
            pieces = images.to(self.device).split(self._at_once)
            return torch.cat([self.tower(piece) for piece in pieces]).cpu()

    @property
    def predict(self) -> Predictor:
        """The UNet as the sampler calls it; it must be `working`."""
        return predictor(self.unet)

    @contextmanager
    def working(self, module: nn.Module) -> Iterator[None]:
        """Has a network on the device while the block runs."""
        module.to(self.device)
        try:
            yield
        finally:
            if self.low_memory:
                module.to("cpu")

    @property
    def _at_once(self) -> int:
        return images_at_once(self.low_memory)

    def _encode(self, encoder: nn.Module, images: Tensor) -> Tensor:
        with self.working(encoder):
            return encode_in_chunks(encoder, images.to(self.device), self._at_once).cpu()


def images_at_once(low_memory: bool) -> int:
    """How many images go through the autoencoder or the image tower together."""
    return 1 if low_memory else IMAGES_AT_ONCE


def working_dtype(settings: GenerateSettings) -> torch.dtype:
    """Of the UNet and the image tower."""
    if settings.precision == "auto":
        return torch.bfloat16 if settings.device == "cuda" else torch.float32
    return getattr(torch, settings.precision)


def predictor(
    unet: SV3DUNet | SV4DUNet, feature_residuals: FeatureResiduals | None = None
) -> Predictor:
    """A network as the sampler calls it: one call for b conditionings.

    Args:
        unet: the network.
        feature_residuals: what is added to the features of SV4D's.
    """
    if isinstance(unet, SV3DUNet):

        def predict_orbit(x: Tensor, noise: Tensor, conditionings: Sequence[Conditioning]):
            vector = torch.cat([each.vector for each in conditionings])
            context = torch.cat([each.context for each in conditionings])
            return unet(x, noise, vector, context, frames=len(conditionings[0].vector))

        return predict_orbit

    def predict_grid(x: Tensor, noise: Tensor, conditionings: Sequence[Conditioning]):
        vector = torch.cat([each.vector for each in conditionings])
        context = torch.stack([each.context for each in conditionings])
        references = [each.reference for each in conditionings]
        told = torch.stack(references)  # type: ignore[arg-type]
        return unet(x, noise, vector, context, told, feature_residuals)

    return predict_grid


def load_networks(
    weights: PublishedWeights,
    config: UNetConfig,
    device: torch.device,
    dtype: torch.dtype,
    low_memory: bool = False,
) -> Networks:
    """Reads all networks of a published file.

    Args:
        weights: the file.
        config: of its UNet; an `SV4DConfig` makes it SV4D's.
        device: where the networks work.
        dtype: of UNet and image tower; the autoencoder, whose rounding would show, is float32.
        low_memory: see `Networks`.

    Raises:
        WeightsError: the tensors are not those of the networks.
    """
    home = torch.device("cpu") if low_memory else device

    def state(prefix: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        return weights.part(prefix, dtype, home)

    with torch.device("meta"):
        unet = SV4DUNet(config) if isinstance(config, SV4DConfig) else SV3DUNet(config)
        encoder, reference_encoder = VAEEncoder(VAEConfig()), VAEEncoder(VAEConfig())
        decoder, tower = VAEDecoder(VAEConfig()), CLIPImageEncoder()
    tower.init_position_ids()
    load_module(unet, state("model.diffusion_model.", dtype))
    if device.type == "cuda":
        unet.to_channels_last()
    load_module(encoder, encoder_state(state(VAE.format(FRAMES_VAE))))
    if REFERENCE_VAE in weights.model.conditioning_vaes:
        load_module(reference_encoder, encoder_state(state(VAE.format(REFERENCE_VAE))))
    else:
        reference_encoder = encoder
    load_module(decoder, decoder_state(state("first_stage_model.")))
    load_module(tower, clip_state(state(TOWER, dtype)))
    return Networks(unet, encoder, reference_encoder, decoder, tower, device, low_memory)
