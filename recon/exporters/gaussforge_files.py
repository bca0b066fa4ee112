"""Compressed files of Gaussians through the library GaussForge: SPZ, SOG and compressed PLY.

Each is one static file per frame, quantized, with view-dependent color. GaussForge is given a PLY
in the axes of the file and converts no axes. Letters: N Gaussians, K higher harmonics, C channels.
"""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Iterator

import numpy as np
import torch

from recon.errors import InputError, SceneError
from recon.exporters.conventions import gaussian_files
from recon.exporters.options import ExportOptions
from recon.exporters.ply import HIGHER_COEFFICIENTS, gaussians_from_ply, ply_from_gaussians
from recon.gaussians import Gaussians
from recon.scene import Scene

SPZ_VERSION = 3  # gzip; more programs read it than the newer version 4
SPZ_REACH, SPZ_SIZE_MIN = 2048, 0.1  # units; 400 steps are needed to show an object
SPZ_MAGIC = b"NGSP"
SPZ_HEADER = np.dtype(
    [("magic", "S4"), ("version", "<u4"), ("count", "<u4"),
     ("degree", "u1"), ("fraction_bits", "u1"), ("flags", "u1"), ("reserved", "u1")]
)  # fmt: skip


def spz_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield one SPZ per frame."""
    return gaussian_files(scene, times, options, "spz", spz_from_gaussians)


def sog_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield one SOG (version 2, bundled) per frame; Gaussians are reordered."""
    return gaussian_files(scene, times, options, "sog", sog_from_gaussians)


def compressed_ply_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield one compressed PLY per frame, named as a SuperSplat sequence."""
    encode, suffix = compressed_ply_from_gaussians, ".compressed.ply"
    return gaussian_files(scene, times, options, "compressed-ply", encode, suffix)


def spz_from_gaussians(gaussians: Gaussians) -> bytes:
    """Encode Gaussians as SPZ; inverse of `gaussians_from_spz`, up to quantization.

    Raises:
        SceneError: The object is too small or too far away for the format's 24-bit fixed point.
    """
    means = gaussians.means.detach()
    size, farthest = float((means.amax(0) - means.amin(0)).max()), float(means.abs().max())
    if size < SPZ_SIZE_MIN or farthest >= SPZ_REACH:
        raise SceneError(
            f"SPZ has steps of 1/4096 within {SPZ_REACH} units of the origin: expected an object "
            f"of at least {SPZ_SIZE_MIN} units, found {size:.3g} at up to {farthest:.3g}; export "
            "sog or ply"
        )
    return _converted(ply_from_gaussians(gaussians), "ply", "spz")


def sog_from_gaussians(gaussians: Gaussians) -> bytes:
    """Encode Gaussians as SOG; inverse of `gaussians_from_sog`, up to quantization and order."""
    return _converted(ply_from_gaussians(gaussians), "ply", "sog")


def compressed_ply_from_gaussians(gaussians: Gaussians) -> bytes:
    """Encode Gaussians as compressed PLY; inverse of `gaussians_from_compressed_ply`.

    The format stores harmonics by channel, but GaussForge 0.6 writes them in the order in which it
    holds them, by coefficient; so it is given them in the other order.
    """
    swapped = gaussians.shN.transpose(1, 2).reshape(gaussians.shN.shape)
    return _converted(ply_from_gaussians(gaussians._replace(shN=swapped)), "ply", "compressed.ply")


def gaussians_from_spz(data: bytes) -> Gaussians:
    """Decode SPZ of version 3, independently of the library that writes it.

    Source: github.com/nianticlabs/spz, src/cc/load-spz.cc, at commit 21715c3.

    Raises:
        InputError: The data is not SPZ of this version, or is truncated.
    """
    try:
        content = gzip.decompress(data)
        header = np.frombuffer(content, SPZ_HEADER, 1)[0]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"expected SPZ of version {SPZ_VERSION} ({error})") from error
    if header["magic"] != SPZ_MAGIC or header["version"] != SPZ_VERSION or header["degree"] > 3:
        raise InputError(f"expected SPZ of version {SPZ_VERSION}, found header {header}")
    count, higher = int(header["count"]), HIGHER_COEFFICIENTS[int(header["degree"])]
    widths = {"means": 9, "opacities": 1, "colors": 3, "scales": 3, "quats": 4, "sh": 3 * higher}
    expected = SPZ_HEADER.itemsize + count * sum(widths.values())
    if len(content) != expected:
        raise InputError(f"expected {expected} bytes of SPZ, found {len(content)}")
    parts, offset = {}, SPZ_HEADER.itemsize
    for name, width in widths.items():
        part = np.frombuffer(content, np.uint8, count * width, offset)
        parts[name] = part.reshape(count, width).astype(np.int64)
        offset += count * width
    triples = parts["means"].reshape(count, 3, 3) @ np.array([1, 1 << 8, 1 << 16])
    means = np.where(triples >= 1 << 23, triples - (1 << 24), triples)
    return Gaussians(
        means=_tensor(means / (1 << int(header["fraction_bits"]))),
        quats=_spz_quats(parts["quats"]),
        scales=_tensor(parts["scales"] / 16 - 10),
        opacities=torch.logit(_tensor(parts["opacities"][:, 0] / 255), eps=1e-4),
        sh0=_tensor((parts["colors"] / 255 - 0.5) / 0.15)[:, None],
        shN=_tensor((parts["sh"].reshape(count, higher, 3) - 128) / 128),
    )


def gaussians_from_sog(data: bytes) -> Gaussians:
    """Decode SOG.

    Raises:
        InputError: GaussForge does not read the data.
    """
    return gaussians_from_ply(_converted(data, "sog", "ply"))


def gaussians_from_compressed_ply(data: bytes) -> Gaussians:
    """Decode a compressed PLY.

    Raises:
        InputError: GaussForge does not read the data.
    """
    return gaussians_from_ply(_converted(data, "compressed.ply", "ply"))


def _spz_quats(bytes_: np.ndarray) -> torch.Tensor:
    """Decode quaternions xyzw without their largest component, [N, 4] bytes, to wxyz.

    From the top: index of the largest (2 bits), then sign and size (1 + 9 bits) of the others.
    """
    packed = bytes_ @ (1 << np.array([0, 8, 16, 24]))
    largest = packed >> 30
    quats = np.zeros((len(packed), 4))
    for component in (3, 2, 1, 0):
        present = component != largest
        size = (packed & 511) / 511 * np.sqrt(0.5)
        quats[:, component] = np.where(present, np.where(packed >> 9 & 1, -size, size), 0)
        packed = np.where(present, packed >> 10, packed)
    rest = np.sqrt(np.maximum(0, 1 - (quats**2).sum(axis=1)))
    quats[np.arange(len(quats)), largest] = rest
    return _tensor(quats[:, [3, 0, 1, 2]])


def _converted(data: bytes, source: str, target: str) -> bytes:
    forge = importlib.import_module("gaussforge").GaussForge()
    result = forge.convert(data, source, target, spz_version=SPZ_VERSION)
    if "error" in result:
        raise InputError(f"expected a file of the format {source} ({result['error']})")
    return bytes(result["data"])


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
