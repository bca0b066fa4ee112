"""CLIP-S: the cosine of CLIP's image features (ViT-B/32) of an image and the true image.

    8 bits over white ─▶ 512² ─▶ 224² (Pillow, bicubic) ─▶ (x − mean) / std ─▶ CLIP ─▶ cosine

Source: the evaluation of Consistent4D, see `generation.metrics.lpips`; Radford et al. 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from generation.metrics.pixels import SIDE_PX, batch_of, quantized, resized
from generation.models.image_encoders import CLIP_MEAN, CLIP_SIDE, CLIP_STD
from generation.weights.tensors import load_into, read_tensors
from recon.metrics.interface import ImagePair

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig

VIT_B_32 = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 32,
    "image_size": CLIP_SIDE,
    "projection_dim": 512,
    "hidden_act": "quick_gelu",
}
READ = ("vision_model.", "visual_projection.")  # the file also has the text encoder
UNREAD = "vision_model.embeddings.position_ids"  # 0, 1, 2, …


def load_clip_vision(path: Path, config: CLIPVisionConfig | None = None) -> nn.Module:
    """Load CLIP's image encoder from the weights that OpenAI published for transformers.

    Args:
        path: `pytorch_model.bin` of openai/clip-vit-base-patch32, or the same as safetensors.
        config: sizes of the encoder; None: ViT-B/32.

    Raises:
        WeightsError: the file is missing or holds other tensors.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    network = CLIPVisionModelWithProjection(config or CLIPVisionConfig(**VIT_B_32))
    tensors = read_tensors(path)
    read = {k: v for k, v in tensors.items() if k.startswith(READ) and k != UNREAD}
    return load_into(network, read, path)


class ClipSimilarity:
    """CLIP-S of images; 1 for equal ones.

    Args:
        network: CLIP's image encoder of transformers.
        settings: for reports.
        device: device of the network.
    """

    name = "clip"

    def __init__(
        self,
        network: nn.Module,
        settings: Mapping[str, Any],
        device: str | torch.device = "cpu",
    ):
        self.settings = {
            "side_px": [SIDE_PX, CLIP_SIDE], "resize": "Pillow, bicubic", **settings
        }  # fmt: skip
        self._network, self._device = network.to(device), device

    def measure(self, pair: ImagePair) -> dict[str, float | None]:
        """Return the cosine under "clip"."""
        both = torch.cat([clip_input(quantized(image)) for image in (pair.rgb, pair.true_rgb)])
        with torch.inference_mode():
            features = self._network(pixel_values=both.to(self._device)).image_embeds
        return {"clip": float(torch.cosine_similarity(features[0], features[1], dim=0))}


def clip_input(image: np.ndarray) -> Tensor:
    """Prepare an 8-bit image [H, W, 3] for CLIP, float32, [1, 3, 224, 224]."""
    small = batch_of(resized(resized(image, SIDE_PX), CLIP_SIDE)) / 255
    mean, std = (torch.tensor(each)[:, None, None] for each in (CLIP_MEAN, CLIP_STD))
    return (small - mean) / std
