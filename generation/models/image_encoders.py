"""Image encoders: one token per image, which conditions the UNets in the place of a text prompt.

`CLIPImageEncoder` is OpenCLIP's ViT-H/14, which the published networks use. `ConvImageEncoder` is a
small convolutional network that is trained from scratch together with its UNet:

    image ─▶ side × side ─▶ (3 × 3 convolution with stride 2, norm, SiLU) … ─▶ linear ─▶ token

Letters: N images, H × W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad

from generation.models.layers import GROUPS, GroupNorm
from recon.errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig

CLIP_SIDE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
VIT_H_14 = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": CLIP_SIDE,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
_CLIP_NAMES = (  # OpenCLIP's name → transformers' name
    (r"^conv1\b", "vision_model.embeddings.patch_embedding"),
    (r"^class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^ln_pre\b", "vision_model.pre_layrnorm"),
    (r"^ln_post\b", "vision_model.post_layernorm"),
    (r"^proj$", "visual_projection.weight"),
    (r"^transformer\.resblocks\.(\d+)\.ln_(\d)\b", r"vision_model.encoder.layers.\1.layer_norm\2"),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_fc\b", r"vision_model.encoder.layers.\1.mlp.fc1"),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_proj\b", r"vision_model.encoder.layers.\1.mlp.fc2"),
    (r"^transformer\.resblocks\.(\d+)\.attn\b", r"vision_model.encoder.layers.\1.self_attn"),
)


class CLIPImageEncoder(nn.Module):
    """OpenCLIP's image encoder with its preprocessing, implemented by transformers' CLIP."""

    def __init__(self, config: CLIPVisionConfig | None = None):
        # An import of seconds, for which models without this encoder need not wait.
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        super().__init__()
        self.tower = CLIPVisionModelWithProjection(config or CLIPVisionConfig(**VIT_H_14))

    def init_position_ids(self) -> None:
        """Create the buffer of patch indices, which is not part of the state dict.

        A module built on the meta device needs this before it can be used.
        """
        embeddings = self.tower.vision_model.embeddings
        positions = torch.arange(embeddings.num_positions, device="cpu")[None]
        embeddings.register_buffer("position_ids", positions, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the pooled and projected tokens, not normalized, in float32.

        Args:
            images: in [−1, 1], [N, 3, H, W].

        Returns:
            [N, projection_dim].
        """
        pixels = clip_preprocess(images).to(self.tower.dtype)
        return self.tower(pixel_values=pixels).image_embeds.float()


def clip_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert OpenCLIP's state dict to that of `CLIPImageEncoder`.

    OpenCLIP keeps q, k and v in one matrix and stores its projection transposed.

    Args:
        published: `visual.*` of a published file, without the prefix.
    """
    state = {}
    for key, tensor in published.items():
        name = key
        for pattern, replacement in _CLIP_NAMES:
            name = re.sub(pattern, replacement, name)
        if ".in_proj_" in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                state[f"tower.{name.replace('.in_proj_', f'.{letter}_proj.')}"] = part
        else:
            state[f"tower.{name}"] = tensor.T if key == "proj" else tensor
    return state


def clip_preprocess(images: Tensor) -> Tensor:
    """Resize and normalize images as the published networks did in training.

    Images that shrink are blurred first, by a Gaussian with σ = (factor − 1) / 2 pixels. Resizing
    is bicubic with aligned corners and does not keep the aspect ratio.

    Args:
        images: in [−1, 1], [N, 3, H, W].

    Returns:
        Float32, normalized with CLIP's mean and standard deviation, [N, 3, 224, 224].
    """
    images = images.float()
    factors = [side / CLIP_SIDE for side in images.shape[-2:]]
    if max(factors) > 1:
        images = _blur(images, [max((factor - 1) / 2, 0.001) for factor in factors])
    resized = interpolate(images, (CLIP_SIDE, CLIP_SIDE), mode="bicubic", align_corners=True)
    mean, std = (resized.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return ((resized + 1) / 2 - mean) / std


def _blur(images: Tensor, sigmas: list[float]) -> Tensor:
    """Separable Gaussian blur with reflected borders; one σ for rows and one for columns."""
    channels = images.shape[1]
    for axis, sigma in enumerate(sigmas):
        size = int(max(4 * sigma, 3)) | 1  # the next odd number
        offsets = torch.arange(size, device=images.device, dtype=torch.float32) - size // 2
        kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).expand(channels, 1, size).unsqueeze(3 - axis)
        margin = (0, 0, size // 2, size // 2) if axis == 0 else (size // 2, size // 2, 0, 0)
        images = conv2d(pad(images, margin, mode="reflect"), kernel, groups=channels)
    return images


@dataclass(frozen=True)
class ConvImageEncoderConfig:
    """Sizes of a convolutional image encoder.

    Attributes:
        side: height and width that images are resized to, in pixels.
        widths: output channels of each convolution, multiples of 32.
        token: width of the output token.

    Raises:
        InputError: a width is not a multiple of 32, or `side` is not divisible by 2 to the number
            of convolutions.
    """

    side: int = 64
    widths: tuple[int, ...] = (32, 64, 64, 64)
    token: int = 128

    def __post_init__(self):
        if any(width % GROUPS for width in self.widths) or self.side % 2 ** len(self.widths):
            raise InputError(
                f"expected image encoder widths that are multiples of {GROUPS} and a side divisible"
                f" by {2 ** len(self.widths)}, found {self.widths} and {self.side}"
            )


class ConvImageEncoder(nn.Module):
    """A small convolutional image encoder, trained together with its UNet."""

    def __init__(self, config: ConvImageEncoderConfig):
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), GroupNorm(after), nn.SiLU())
                for before, after in pairwise((3, *config.widths))
            )
        )
        side = config.side >> len(config.widths)
        self.project = nn.Linear(config.widths[-1] * side**2, config.token)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the tokens, in float32.

        Args:
            images: in [−1, 1], of any size, [N, 3, H, W].

        Returns:
            [N, token].
        """
        size = (self.config.side, self.config.side)
        if images.shape[-2:] != size:
            images = interpolate(images, size, mode="bilinear", antialias=True)
        images = images.to(self.project.weight.dtype)
        return self.project(self.layers(images).flatten(1)).float()


ImageEncoder = CLIPImageEncoder | ConvImageEncoder
