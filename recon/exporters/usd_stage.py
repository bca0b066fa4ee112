"""Stages of USD: their units and times, attributes over time, and the files they become.

OpenUSD is imported when it is used, because it is an extra. Letters: T frames. A unit is a metre,
as in glTF. Source: openusd.org, OpenUSD 26.11.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import BackendError, InputError, OutputError
from recon.exporters.gltf import XYZW
from recon.exporters.packages import INSTALL

ROOT = "/scene"
METERS_PER_UNIT = 1.0


def pxr(module: str) -> Any:
    """Import a module of OpenUSD."""
    return importlib.import_module(f"pxr.{module}")


def new_stage(codes: np.ndarray, fps: float, up: str, root: Any) -> Any:
    """Create a stage in memory with its root prim.

    Args:
        codes: time codes of the frames, ascending, [T].
        fps: time codes per second.
        up: "Y" or "Z".
        root: schema of the root, `UsdGeom.Xform` or one that has its part.

    Raises:
        BackendError: The installed OpenUSD is older than the schema of Gaussians.
    """
    Usd, UsdGeom = pxr("Usd"), pxr("UsdGeom")
    if not hasattr(pxr("UsdVol"), "ParticleField3DGaussianSplat"):
        version = ".".join(str(part) for part in Usd.GetVersion()[1:])
        raise BackendError(f"expected OpenUSD 26.03 or newer, found {version}", hint=INSTALL)
    stage = Usd.Stage.CreateInMemory()
    stage.SetDefaultPrim(root.Define(stage, ROOT).GetPrim())
    UsdGeom.SetStageUpAxis(stage, up)
    UsdGeom.SetStageMetersPerUnit(stage, METERS_PER_UNIT)
    stage.SetTimeCodesPerSecond(float(fps))
    stage.SetFramesPerSecond(float(fps))
    stage.SetStartTimeCode(float(codes[0]))
    stage.SetEndTimeCode(float(codes[-1]))
    return stage


def set_over_time(
    attribute: Any, kind: Any, values: Sequence[np.ndarray], codes: np.ndarray
) -> None:
    """Write an array per time code, or one value if all are the same.

    Args:
        attribute: the attribute.
        kind: array class of `Vt`; for one of quaternions, the values are wxyz.
        values: arrays, T of them.
        codes: time codes, [T].
    """
    if all(np.array_equal(value, values[0]) for value in values[1:]):
        attribute.Set(array_of(kind, values[0]))
        return
    for code, value in zip(codes, values, strict=True):
        attribute.Set(array_of(kind, value), float(code))


def array_of(kind: Any, values: np.ndarray) -> Any:
    """Convert to an array class of `Vt`, single precision; quaternions are given as wxyz."""
    if kind is pxr("Vt").QuatfArray:
        values = values[..., XYZW]  # whose real part USD holds last
    return kind.FromNumpy(np.ascontiguousarray(values, dtype=np.float32))


@contextmanager
def writing() -> Iterator[None]:
    """Report that OpenUSD cannot write, whose errors have neither a file nor a number.

    Raises:
        OutputError: It cannot, for example because the disk is full.
    """
    try:
        yield
    except pxr("Tf").ErrorException as error:
        reason = re.search(r": '(.*)'", str(error))
        raise OutputError(
            f"{tempfile.gettempdir()}: OpenUSD cannot write there"
            f"{f' ({reason[1]})' if reason else ''}; the variable TMPDIR names another folder"
        ) from error


def opened(data: bytes, path: Path) -> Any:
    """Write the content of a file and open the stage in it.

    Raises:
        InputError: It is no stage.
    """
    path.write_bytes(data)
    try:
        return pxr("Usd").Stage.Open(str(path))
    except pxr("Tf").ErrorException as error:
        raise InputError(f"expected the content of a {path.suffix} of USD") from error
