"""UNets with every kind of layer, of random weights, small enough for tests, and their inputs.

Two channels share a norm's group, so that the biases in front of norms have an effect.
"""

from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

from torch import Tensor

from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from tests.generation.models.random_weights import numbers, with_random_weights

SMALL: dict[str, Any] = {
    "model_channels": 64,
    "channel_mult": (1, 1),
    "num_res_blocks": 1,
    "attention_resolutions": (1,),
    "num_head_channels": 32,
    "context_dim": 6,
    "adm_in_channels": 10,
}
SV3D = replace(UNetConfig(), **SMALL)
SV4D = {
    "sv4d": replace(SV4DConfig(), **SMALL),
    "sv4d2": replace(
        SV4DConfig(use_camera_emb=True, use_3d_attention=True, separate_motion_merge_factor=True),
        **SMALL,
    ),
    "sv4d2_8views": replace(
        SV4DConfig(use_camera_emb=True, separate_motion_merge_factor=True), **SMALL
    ),
}
WITHOUT_EFFECT = (".norm2.", ".attn2.to_q.", ".attn2.to_k.")


def sv3d() -> SV3DUNet:
    return deepcopy(_sv3d())


def sv4d(name: str) -> SV4DUNet:
    return deepcopy(_sv4d(name))


@cache
def _sv3d() -> SV3DUNet:
    return with_random_weights(SV3DUNet(SV3D))


@cache
def _sv4d(name: str) -> SV4DUNet:
    return with_random_weights(SV4DUNet(SV4D[name]))


def sv3d_inputs(b: int = 1, F: int = 3, h: int = 4, w: int = 6) -> dict[str, Any]:
    return {
        "x": numbers(b * F, 8, h, w, seed=1),
        "noise": numbers(b * F, seed=2),
        "vector": numbers(b * F, 10, seed=3),
        "context": numbers(b * F, 6, seed=4),
        "frames": F,
    }


def sv4d_inputs(b: int = 1, T: int = 3, V: int = 4, h: int = 4, w: int = 6) -> dict[str, Tensor]:
    return {
        "x": numbers(b * T * V, 8, h, w, seed=1),
        "noise": numbers(b * T * V, seed=2),
        "vector": numbers(b * T * V, 10, seed=3),
        "context": numbers(b, T, 6, seed=4),
        "reference": numbers(b, V, 4, h, w, seed=5),
    }
