"""3DGS PLY: the format of Gaussian splatting viewers, one static file per frame.

Binary little-endian, one `vertex` element with float properties that are found by name. Values are
stored before activation: log scales, logit opacities. Higher spherical harmonics are channel-major
(all red coefficients, then green, then blue). Quaternions are wxyz.
Letters: N Gaussians, K = (degree + 1)² − 1 higher coefficients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.exporters.conventions import gaussian_files
from recon.exporters.options import ExportOptions
from recon.gaussians import Gaussians
from recon.scene import Scene

HIGHER_COEFFICIENTS = (0, 3, 8, 15)  # of degrees 0 to 3
DTYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2",
    "ushort": "<u2", "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4",
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip


def ply_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield one PLY per frame, named as a SuperSplat sequence."""
    encode = partial(ply_from_gaussians, pad_sh=options.pad_sh)
    return gaussian_files(scene, times, options, "ply", encode)


def ply_from_gaussians(gaussians: Gaussians, pad_sh: bool = False) -> bytes:
    """Encode Gaussians; inverse of `gaussians_from_ply`, up to the norm of the quaternions.

    Args:
        gaussians: stored parameters.
        pad_sh: whether to write the 62 properties of the original implementation: normals of 0,
            and harmonics of degree 3, with zeros where the Gaussians have none.
    """
    N, K = gaussians.shN.shape[:2]
    normals = gaussians.means.new_zeros(N, 3 if pad_sh else 0)
    padding = (0, 0, 0, HIGHER_COEFFICIENTS[-1] - K if pad_sh else 0)
    columns = [
        gaussians.means,
        normals,
        gaussians.sh0[:, 0],
        F.pad(gaussians.shN, padding).transpose(1, 2).flatten(1),
        gaussians.opacities[:, None],
        gaussians.scales,
        F.normalize(gaussians.quats, dim=-1),
    ]
    table = torch.cat([column.detach().float() for column in columns], dim=1).cpu().numpy()
    names = _property_names(HIGHER_COEFFICIENTS[-1] if pad_sh else K, normals=pad_sh)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property float {name}" for name in names]
    return "\n".join([*header, "end_header\n"]).encode() + table.astype("<f4").tobytes()


def gaussians_from_ply(data: bytes) -> Gaussians:
    """Decode the Gaussians of a PLY with properties of any order and scalar type.

    Raises:
        InputError: The data is not a binary little-endian PLY of Gaussians, or is truncated.
    """
    table = _read_vertices(data)
    higher = len([name for name in table.dtype.names or () if name.startswith("f_rest_")])
    if higher % 3 or higher // 3 not in HIGHER_COEFFICIENTS:
        raise InputError(f"expected a PLY with 0, 9, 24 or 45 f_rest properties, found {higher}")
    names = _property_names(higher // 3)
    missing = [name for name in names if name not in (table.dtype.names or ())]
    if missing:
        raise InputError(
            f"expected a PLY of Gaussians, found one without the properties {', '.join(missing)}"
        )
    values = torch.from_numpy(np.stack([table[name] for name in names], axis=1).astype(np.float32))
    means, sh0, rest, opacities, scales, quats = values.split([3, 3, higher, 1, 3, 4], dim=1)
    return Gaussians(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities[:, 0],
        sh0=sh0[:, None],
        shN=rest.reshape(len(rest), 3, higher // 3).transpose(1, 2),
    )


def _property_names(higher: int, normals: bool = False) -> list[str]:
    return [
        *"xyz",
        *(("nx", "ny", "nz") if normals else ()),
        *(f"f_dc_{channel}" for channel in range(3)),
        *(f"f_rest_{index}" for index in range(3 * higher)),
        "opacity",
        *(f"scale_{axis}" for axis in range(3)),
        *(f"rot_{component}" for component in range(4)),
    ]


def _read_vertices(data: bytes) -> np.ndarray:
    end = re.search(rb"end_header\r?\n", data)
    if not data.startswith(b"ply") or end is None:
        raise InputError("expected a PLY file with a header, found other data")
    lines = data[: end.start()].decode("ascii", "replace").split("\n")
    words = [line.split() for line in lines if line.strip() and not line.startswith("comment")]
    if ["format", "binary_little_endian", "1.0"] not in words:
        raise InputError("expected a PLY of format binary_little_endian 1.0")
    elements = [index for index, line in enumerate(words) if line[0] == "element"]
    if not elements or words[elements[0]][1:2] != ["vertex"]:
        raise InputError("expected a PLY whose first element is 'vertex'")
    stop = elements[1] if len(elements) > 1 else len(words)
    properties = [line for line in words[elements[0] + 1 : stop] if line[0] == "property"]
    if any(len(line) != 3 or line[1] not in DTYPES for line in properties):
        raise InputError("expected only scalar properties in the PLY's vertices")
    dtype = np.dtype([(name, DTYPES[kind]) for _, kind, name in properties])
    counted = "".join(words[elements[0]][2:])
    if not counted.isdecimal():
        raise InputError(f"expected a number of vertices in the PLY, found {counted!r}")
    count = int(counted)
    body = data[end.end() :]
    if len(body) < count * dtype.itemsize:
        expected = count * dtype.itemsize
        raise InputError(
            f"the PLY is truncated: expected {expected} bytes of vertices, found {len(body)}"
        )
    return np.frombuffer(body, dtype, count)
