"""The networks of one model on a device: their architecture, and the calls of the pipeline.

Letters: N images, T times, V views, c channels and h × w pixels of latents. Tensors go in and come
out as float32 on the CPU, except in `predict`, which the sampler calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from generation.conditioning import Conditioning
from generation.diffusion import Predictor
from generation.models.image_encoders import (
    CLIPImageEncoder,
    ConvImageEncoder,
    ConvImageEncoderConfig,
)
from generation.models.patch_autoencoder import (
    PatchAutoencoder,
    PatchAutoencoderConfig,
    PatchEncoder,
    ScaledDecoder,
)
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import FeatureResiduals, UNetConfig
from generation.models.vae import (
    VAEConfig,
    VAEDecoder,
    VAEEncoder,
    decode_in_chunks,
    encode_in_chunks,
)
from generation.settings import GenerateSettings

CHUNK_IMAGES = 8  # per call of the autoencoder or the image encoder
PUBLISHED_AUTOENCODER = VAEConfig()
LOW_MEMORY_TOKENS = 2 * 72 * 72  # per call of a layer: two frames of the first level at 576²


@dataclass(frozen=True)
class Architecture:
    """Configurations that the networks of a model are built from.

    Attributes:
        unet: configuration of SV3D's UNet, or of SV4D's if it is an `SV4DConfig`.
        autoencoder: configuration of the published autoencoder or of a trained one.
        image_encoder: configuration of a trained image encoder; None for CLIP's.
        separate_reference_encoder: whether reference views have a VAE encoder of their own.
    """

    unet: UNetConfig
    autoencoder: VAEConfig | PatchAutoencoderConfig = PUBLISHED_AUTOENCODER
    image_encoder: ConvImageEncoderConfig | None = None
    separate_reference_encoder: bool = False

    def build_unet(self) -> SV3DUNet | SV4DUNet:
        """Build the UNet with random weights."""
        return SV4DUNet(self.unet) if isinstance(self.unet, SV4DConfig) else SV3DUNet(self.unet)

    def build_encoder(self) -> nn.Module:
        """Build the autoencoder's encoder with random weights: images to unscaled latents."""
        if isinstance(self.autoencoder, PatchAutoencoderConfig):
            return PatchEncoder(self.autoencoder)
        return VAEEncoder(self.autoencoder)

    def build_decoder(self) -> nn.Module:
        """Build the autoencoder's decoder with random weights: scaled latents to images."""
        if isinstance(self.autoencoder, PatchAutoencoderConfig):
            return ScaledDecoder(PatchAutoencoder(self.autoencoder))
        return VAEDecoder(self.autoencoder)

    def build_image_encoder(self) -> CLIPImageEncoder | ConvImageEncoder:
        """Build the image encoder with random weights."""
        if self.image_encoder is None:
            return CLIPImageEncoder()
        return ConvImageEncoder(self.image_encoder)


@dataclass
class Networks:
    """The networks of one model on a device.

    Attributes:
        unet: SV3D's or SV4D's.
        encoder: input images to unscaled latents.
        reference_encoder: reference views to unscaled latents; may be `encoder` itself.
        decoder: scaled latents to images.
        image_encoder: images to tokens.
        device: device on which they compute.
        low_memory: each network is on the device only while it computes, images and tokens are
            processed in small chunks, and the two halves of classifier-free guidance one after
            the other.
    """

    unet: SV3DUNet | SV4DUNet
    encoder: nn.Module
    reference_encoder: nn.Module
    decoder: nn.Module
    image_encoder: CLIPImageEncoder | ConvImageEncoder
    device: torch.device
    low_memory: bool = False

    def __post_init__(self):
        self.unet.limit_memory(LOW_MEMORY_TOKENS if self.low_memory else None)
        if self.device.type == "cuda":
            self.unet.to_channels_last()
        if not self.low_memory:
            self.move_to(self.device)

    def move_to(self, device: torch.device) -> None:
        """Move all networks to a device."""
        for module in (self.unet, self.encoder, self.reference_encoder, self.decoder):
            module.to(device)
        self.image_encoder.to(device)

    @torch.inference_mode()
    def latents(self, images: Tensor) -> Tensor:
        """Encode input frames in [−1, 1] to unscaled latents: [N, 3, H, W] to [N, c, h, w]."""
        return self._encode(self.encoder, images)

    @torch.inference_mode()
    def reference_latents(self, images: Tensor) -> Tensor:
        """Encode reference views, with shapes and ranges as in `latents`."""
        return self._encode(self.reference_encoder, images)

    @torch.inference_mode()
    def images(self, latents: Tensor) -> Tensor:
        """Decode scaled latents to images in [−1, 1]: [N, c, h, w] to [N, 3, H, W]."""
        with self.working(self.decoder):
            images = decode_in_chunks(self.decoder, latents.to(self.device), self._chunk_images)
        return images.clamp(-1, 1).cpu().contiguous()  # the layout of a loaded checkpoint

    @torch.inference_mode()
    def tokens(self, images: Tensor) -> Tensor:
        """Encode images in [−1, 1] to tokens: [N, 3, H, W] to [N, d]."""
        with self.working(self.image_encoder):
            pieces = images.to(self.device).split(self._chunk_images)
            return torch.cat([self.image_encoder(piece) for piece in pieces]).cpu()

    @property
    def predict(self) -> Predictor:
        """The UNet as the sampler calls it, within `working(unet)`."""
        return predictor(self.unet)

    @contextmanager
    def working(self, module: nn.Module) -> Iterator[None]:
        """Keep a network on the device inside the block."""
        module.to(self.device)
        try:
            yield
        finally:
            if self.low_memory:
                module.to("cpu")

    @property
    def _chunk_images(self) -> int:
        return images_at_once(self.low_memory)

    def _encode(self, encoder: nn.Module, images: Tensor) -> Tensor:
        with self.working(encoder):
            return encode_in_chunks(encoder, images.to(self.device), self._chunk_images).cpu()


def images_at_once(low_memory: bool) -> int:
    """Return the number of images that go through the autoencoder or the image encoder together."""
    return 1 if low_memory else CHUNK_IMAGES


def working_dtype(settings: GenerateSettings) -> torch.dtype:
    """Return the floating-point type of the UNet and the image encoder."""
    if settings.precision == "auto":
        return torch.bfloat16 if settings.device == "cuda" else torch.float32
    return getattr(torch, settings.precision)


def predictor(
    unet: SV3DUNet | SV4DUNet, feature_residuals: FeatureResiduals | None = None
) -> Predictor:
    """Return the function that the sampler calls: one call of a UNet for b conditionings.

    Args:
        unet: the UNet.
        feature_residuals: added to the features of SV4D's UNet; see `generation.models.unet`.
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
        reference = torch.stack(references)  # type: ignore[arg-type]
        return unet(x, noise, vector, context, reference, feature_residuals)

    return predict_grid
