"""A zip of PLY files, one per frame, which Brush plays as an animation."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import partial

import numpy as np

from recon.errors import InputError
from recon.exporters.conventions import gaussian_files
from recon.exporters.options import ExportOptions
from recon.exporters.ply import gaussians_from_ply, ply_from_gaussians
from recon.gaussians import Gaussians
from recon.scene import Scene

FILE = "scene.zip"


def zip_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield the zip; equal scenes give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        encode = partial(ply_from_gaussians, pad_sh=options.pad_sh)
        for name, data in gaussian_files(scene, times, options, "zip", encode, ".ply"):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # without a date
    yield FILE, buffer.getvalue()


def gaussians_from_zip(data: bytes, frame: int) -> Gaussians:
    """Decode one frame of a zip of PLY files, in the order of their names.

    Raises:
        InputError: The data is not a zip of PLY files, or has fewer frames.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = sorted(archive.namelist())
            return gaussians_from_ply(archive.read(names[frame]))
    except (zipfile.BadZipFile, IndexError) as error:
        raise InputError(f"expected a zip of at least {frame + 1} PLY files ({error})") from error
