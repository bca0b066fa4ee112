"""One token for an image: the tower of OpenCLIP's ViT-H/14, through transformers.

Letters: N images, H × W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

SIDE = 224
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
VIT_H_14 = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": SIDE,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
_NAMES = (  # OpenCLIP's name → transformers' name
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


class ImageTower(nn.Module):
    """Images to CLIP tokens, the preprocessing included."""

    def __init__(self, config: CLIPVisionConfig | None = None):
        super().__init__()
        self.tower = CLIPVisionModelWithProjection(config or CLIPVisionConfig(**VIT_H_14))

    def number_positions(self) -> None:
        """Counts the patches, which no file does; for a tower that was made on the meta device."""
        embeddings = self.tower.vision_model.embeddings
        positions = torch.arange(embeddings.num_positions, device="cpu")[None]
        embeddings.register_buffer("position_ids", positions, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled and projected tokens, not normalised, float32.

        Args:
            images: in [−1, 1], [N, 3, H, W].

        Returns:
            [N, projection_dim].
        """
        pixels = preprocess(images).to(self.tower.dtype)
        return self.tower(pixel_values=pixels).image_embeds.float()


def tower_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published image tower's tensors (`visual.*`, the prefix removed) as `ImageTower` has them.

    OpenCLIP keeps q, k and v in one matrix, and its projection the other way round.
    """
    state = {}
    for key, tensor in published.items():
        name = key
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        if ".in_proj_" in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                state[f"tower.{name.replace('.in_proj_', f'.{letter}_proj.')}"] = part
        else:
            state[f"tower.{name}"] = tensor.T if key == "proj" else tensor
    return state


def preprocess(images: Tensor) -> Tensor:
    """What the tower wants to see.

    Larger images are blurred with a Gaussian whose deviation is half of what the factor exceeds 1,
    then resized with bicubic interpolation whose corners are pixel centres; the aspect ratio is
    not kept.

    Args:
        images: in [−1, 1], [N, 3, H, W].

    Returns:
        Float32, normalised with CLIP's mean and deviation, [N, 3, 224, 224].
    """
    images = images.float()
    factors = [side / SIDE for side in images.shape[-2:]]
    if max(factors) > 1:
        images = _blurred(images, [max((factor - 1) / 2, 0.001) for factor in factors])
    resized = interpolate(images, (SIDE, SIDE), mode="bicubic", align_corners=True)
    mean, std = (resized.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((resized + 1) / 2 - mean) / std


def _blurred(images: Tensor, sigmas: list[float]) -> Tensor:
    """Gaussian blur down the rows and along them, mirrored at the borders."""
    channels = images.shape[1]
    for axis, sigma in enumerate(sigmas):
        size = int(max(4 * sigma, 3)) | 1  # the next odd number
        offsets = torch.arange(size, device=images.device, dtype=torch.float32) - size // 2
        kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).expand(channels, 1, size).unsqueeze(3 - axis)
        margin = (0, 0, size // 2, size // 2) if axis == 0 else (size // 2, size // 2, 0, 0)
        images = conv2d(pad(images, margin, mode="reflect"), kernel, groups=channels)
    return images
