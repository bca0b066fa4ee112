"""Safetensors files whose bytes are decided by their content alone.

The library writes the notes of a file in an order that chance decides. A training that is finished
twice would leave two files, and the stages that stand on the first, which they know by its sha256,
would refuse the second. What it does not know: what the tensors are of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

SIZE_BYTES = 8  # at the beginning of a file: the length of the header, little-endian
NOTES = "__metadata__"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Writes a safetensors file.

    Args:
        path: of the file; an older one is replaced.
        tensors: by name, on the CPU.
        notes: text by name, which the file keeps with them.

    Raises:
        OSError: the file cannot be written.
    """
    save_file({name: each.contiguous() for name, each in tensors.items()}, path, dict(notes))
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(SIZE_BYTES), "little")
        header = json.loads(file.read(size))
        header[NOTES] = dict(sorted(header[NOTES].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(SIZE_BYTES)
        file.write(text.ljust(size))  # the same characters as before, so the same length
