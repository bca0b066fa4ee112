"""Files like the published ones: at full size without values, and tiny ones with values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I64": 8}

Shape = tuple[int, ...]


def write_hollow(
    path: Path,
    shapes: Mapping[str, Shape],
    dtype: str = "F32",
    dtypes: Mapping[str, str] | None = None,
    align: int = 8,
) -> Path:
    """Write a sparse safetensors file, whose gigabytes of values take no disk space.

    Args:
        path: of the file.
        shapes: by key.
        dtype: of all tensors.
        dtypes: of some tensors, by key.
        align: the length of the header is a multiple of it.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, shape in shapes.items():
        kind = (dtypes or {}).get(key, dtype)
        begin, end = end, end + prod(shape) * BYTES[kind]
        header[key] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % align)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def tiny_shapes() -> dict[str, Shape]:
    """Return a few keys of a published file, of each part that is read and of others."""
    return {
        "model.diffusion_model.out.2.weight": (4, 3),
        "model.diffusion_model.out.2.bias": (4,),
        "model.diffusion_model.middle_block.1.time_mixer.mix_factor": (1,),
        "first_stage_model.decoder.conv_in.bias": (5,),
        "conditioner.embedders.0.open_clip.model.visual.proj": (6, 7),
        "conditioner.embedders.0.open_clip.model.logit_scale": (),
        "conditioner.embedders.1.encoder.encoder.conv_in.bias": (2,),
        "conditioner.embedders.1.encoder.quant_conv.bias": (8,),
        "conditioner.embedders.1.encoder.decoder.conv_in.bias": (2,),
        "conditioner.embedders.4.encoder.encoder.conv_in.bias": (2,),
        "conditioner.embedders.4.encoder.quant_conv.bias": (8,),
        "conditioner.embedders.5.encoder.encoder.conv_in.bias": (2,),
    }


def write_tiny(path: Path, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """Write a file with tiny shapes and random values; return its tensors."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {
        key: torch.randn(shape, generator=generator).to(dtype)
        for key, shape in tiny_shapes().items()
    }
    save_file(tensors, path)
    return tensors
