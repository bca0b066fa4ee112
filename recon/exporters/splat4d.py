"""Splat4D: one compressed file of moving Gaussians (`.splat4d`, version 1), by the program splat4d.

It is given `.splat` frames with the Gaussians in the same order, and guarantees the largest error
of each attribute. It takes a unit for a metre, so the bound of positions is set by the size of the
object. No view-dependent color.

Source: github.com/adamraudonis/splats4D, docs/FORMAT.md, at commit bf7c41a.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from recon.errors import InputError, SceneError
from recon.exporters.conventions import exported_gaussians, frame_seconds
from recon.exporters.options import ExportOptions
from recon.exporters.packages import check_package, find_program
from recon.exporters.splat import drawing_order, gaussians_from_splat, splat_from_gaussians
from recon.gaussians import Gaussians
from recon.output import system_error, temporary_folder
from recon.scene import Scene

FILE = "scene.splat4d"
FORMAT = PROGRAM = "splat4d"
STEPS_OF_SIZE = 4000  # size of the object, relative to the largest error of a position
COLOR_LEVELS, SCALE_PERCENT = 1, 1  # largest errors, of 255 levels and relative
SECONDS_MAX = 600


def splat4d_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield the file with all frames.

    Raises:
        SceneError: The program refuses the Gaussians.
    """
    frames = list(exported_gaussians(scene, times, options, FORMAT))
    yield FILE, splat4d_from_gaussians(frames, frame_seconds(scene, times), scene.fps)


def splat4d_from_gaussians(frames: Sequence[Gaussians], seconds: np.ndarray, fps: float) -> bytes:
    """Encode moving Gaussians; inverse of `gaussians_from_splat4d`, up to the bounds and order.

    Args:
        frames: the Gaussians at each time, T of N, in the same order.
        seconds: presentation times, ascending from 0, [T].
        fps: frames per second of the clip.

    Raises:
        BackendError: The program is missing.
        SceneError: The program refuses the Gaussians.
    """
    means = frames[0].means.detach()
    size = float((means.amax(0) - means.amin(0)).max()) or 1.0
    order = drawing_order(frames[0])
    with temporary_folder() as folder:
        listed = []
        for index, gaussians in enumerate(_continuous(frames)):
            name = f"frame_{index:04d}.splat"
            (folder / name).write_bytes(splat_from_gaussians(gaussians, order))
            listed.append({"file": name, "timestamp": float(seconds[index])})
        (folder / "frames.json").write_text(json.dumps({"fps": fps, "frames": listed}))
        output = folder / FILE
        bounds = {
            "--pos-mm": 1000 * size / STEPS_OF_SIZE,
            "--color-levels": COLOR_LEVELS,
            "--scale-pct": SCALE_PERCENT,
        }
        options = [text for name, value in bounds.items() for text in (name, f"{value:g}")]
        message = _run("encode", "-i", str(folder), "-o", str(output), *options)
        if message is not None:
            raise SceneError(f"splat4d does not encode the scene ({message}); export ply")
        return output.read_bytes()


def gaussians_from_splat4d(data: bytes, frame: int) -> Gaussians:
    """Decode one frame.

    Raises:
        BackendError: The program is missing.
        InputError: The data is no such file, or has fewer frames.
    """
    with temporary_folder() as folder:
        source, output = folder / FILE, folder / "frame.splat"
        source.write_bytes(data)
        message = _run("decode", str(source), "--frame", str(frame), "-o", str(output))
        if message is not None:
            raise InputError(f"expected a .splat4d of at least {frame + 1} frames ({message})")
        return gaussians_from_splat(output.read_bytes())


def _continuous(frames: Sequence[Gaussians]) -> Iterator[Gaussians]:
    """Choose signs of the quaternions that change little over time, which compresses better."""
    previous = frames[0].quats
    for gaussians in frames:
        same = (gaussians.quats * previous).sum(dim=1, keepdim=True) >= 0
        previous = torch.where(same, gaussians.quats, -gaussians.quats)
        yield gaussians._replace(quats=previous)


def _run(*arguments: str) -> str | None:
    """Run the program; return the reason why it fails, or None if it succeeds.

    Raises:
        OSError: The disk is full.
    """
    check_package(FORMAT)
    program = find_program(PROGRAM)
    assert program is not None
    command = [program, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS_MAX,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no result after {SECONDS_MAX} seconds"
    if done.returncode == 0:
        return None
    if full := system_error(done.stderr, tempfile.gettempdir()):
        raise full
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    return (lines or [f"exit code {done.returncode}"])[0]
