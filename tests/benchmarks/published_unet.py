"""The published implementation of SV4D's UNet, if a checkout of it is on this machine.

FOURDVD_GENERATIVE_MODELS names the checkout. Packages that it imports but does not need for a call
of the network are replaced by mocks if they are missing.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import types
from dataclasses import asdict
from importlib import import_module
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

from generation.models.sv4d import SV4DConfig

VARIABLE = "FOURDVD_GENERATIVE_MODELS"
NOT_NEEDED = {"cv2", "kornia", "matplotlib", "open_clip", "pytorch_lightning", "torchvision",
              "transformers", "wandb", "webdataset"}  # fmt: skip
FIXED = {
    "extra_ff_mix_layer": True,
    "legacy": False,
    "num_classes": "sequential",
    "replicate_time_mix_bug": True,
    "spatial_transformer_attn_type": "softmax",
    "time_block_merge_factor": 0.0,
    "time_block_merge_strategy": "learned_with_images",
    "time_kernel_size": [3, 1, 1],
    "time_mix_legacy": False,
    "transformer_depth": 1,
    "use_checkpoint": False,
    "use_linear_in_transformer": True,
    "use_spatial_context": True,
    "use_spatial_transformer": True,
    "use_motion_attention": True,
}


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that provides missing packages of `NOT_NEEDED` as mocks."""

    def find_spec(self, fullname: str, path: Any, target: Any = None):
        if fullname.partition(".")[0] in NOT_NEEDED:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        vars(module)["__getattr__"] = _mock
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _mock(name: str) -> MagicMock:
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock()


def is_here() -> bool:
    """Whether a checkout to compare with is configured."""
    return bool(os.environ.get(VARIABLE))


def published_unet(config: SV4DConfig, weights: dict[str, Tensor]) -> nn.Module:
    """Build the published UNet of the first SV4D with our weights, which have the same names."""
    sys.path.insert(0, os.environ[VARIABLE])
    import_module("transformers.models.auto.processing_auto")  # asks for torchvision's version
    sys.meta_path.append(StandIns())
    from sgm.modules.diffusionmodules.video_model import (  # type: ignore[import-not-found]
        SpatialUNetModelWithTime,
    )

    sizes = asdict(config)
    for name in ("use_camera_emb", "use_3d_attention", "separate_motion_merge_factor"):
        assert not sizes.pop(name)
    lists = {name: list(value) for name, value in sizes.items() if isinstance(value, tuple)}
    unet = SpatialUNetModelWithTime(**sizes | lists | FIXED)
    unet.load_state_dict(weights)
    return unet.eval()


def call_published(
    unet: nn.Module, x: Tensor, noise: Tensor, vector: Tensor, context: Tensor, reference: Tensor
) -> Tensor:
    """Call the published UNet with the arguments of `SV4DUNet.forward`, for a batch of 1."""
    T, F = context.shape[1], len(x)
    return unet(
        x,
        timesteps=noise,
        context=context,
        y=vector,
        cond_view=reference[0],
        cond_motion=x.new_zeros(T, *reference.shape[2:]),  # ignored
        time_context=None,
        num_video_frames=F,
        time_step=None,
        image_only_indicator=torch.zeros(1, F, device=x.device),
    )
