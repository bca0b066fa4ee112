"""Arrays for the images of a grid: in memory, or in a temporary file if they would take much of it.

The system keeps the parts of such a file in memory that are in use, as long as there is room, and
removes the file when the array is deleted or the process ends.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from pathlib import Path

import numpy as np

IN_MEMORY_BYTES = 2**30
TEMPORARY = Path("/var/tmp")  # on a disk, where /tmp may be in memory
CHUNK = bytes(2**20)

_log = logging.getLogger(__name__)


def empty_images(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of zeros for images, uint8.

    Arrays of more than `IN_MEMORY_BYTES` are in a file without a name in the folder `TMPDIR`, or
    `/var/tmp` if that variable is not set. If it cannot be written, they are in memory, with a
    warning.
    """
    size = math.prod(shape)
    if size <= IN_MEMORY_BYTES:
        return np.zeros(shape, np.uint8)
    try:
        return _in_file(shape, size)
    except OSError as error:
        _log.warning(
            "the images are kept in memory, because %s has no room for a temporary file of %.1f GB "
            "(%s); set TMPDIR to a folder that has",
            _folder(),
            size / 1e9,
            error.strerror or error,
        )
        return np.zeros(shape, np.uint8)


def _folder() -> str:
    own = TEMPORARY if "TMPDIR" not in os.environ and TEMPORARY.is_dir() else None
    return tempfile.gettempdir() if own is None else str(own)


def _in_file(shape: tuple[int, ...], size: int) -> np.ndarray:
    with tempfile.TemporaryFile(dir=_folder()) as file:
        _allocate(file.fileno(), size)
        return np.memmap(file, np.uint8, "r+", shape=shape).view(np.ndarray)


def _allocate(descriptor: int, size: int) -> None:
    """Reserve space of zeros; writing to a map of a file that has none would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    for begin in range(0, size, len(CHUNK)):
        os.write(descriptor, CHUNK[: size - begin])
