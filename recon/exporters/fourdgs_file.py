"""4DGS: one file of moving Gaussians, keyframes and the differences to them (`.4dgs`).

Each frame states every Gaussian anew, with the velocity that carries it to the next frame, so that
players move it in between. Quantized: positions to a fiftieth of the median scale, colors and
opacity to half a level of 8 bits. View-dependent color is dropped: the package's writer of
sequences has none. Its converter of PLY files isn't used, because it fades each frame in and out.
Letters: T frames, N Gaussians.

Source: 4dgs.dev, specification version 1 (draft), sections 5.15.2 and 11.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.exporters.conventions import exported_gaussians, frame_seconds, rotation_to
from recon.exporters.options import ExportOptions
from recon.gaussians import Gaussians, rgb_to_sh0, sh0_to_rgb
from recon.scene import Scene

FILE = "scene.4dgs"
PROFILE = "fine"
KEYFRAME_EVERY = 8  # frames
FRAMING = 9  # bytes before the content of a record: its kind and its length
RIGHT_HANDED, METRE = 1, 1
NEVER_FADES = 1e4  # σ of the visibility over time, relative to the clip; the writer wants it finite


def fourdgs_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield the file with all frames.

    Raises:
        InputError: The axes of the file are not parallel to the world's.
    """
    rotation = rotation_to(options.axes_of("4dgs"), scene.R_world_source)
    frames = list(exported_gaussians(scene, times, options, "4dgs"))
    seconds = frame_seconds(scene, times)
    yield FILE, fourdgs_from_gaussians(frames, seconds, scene.fps, rotation.numpy())


def fourdgs_from_gaussians(
    frames: Sequence[Gaussians], seconds: np.ndarray, fps: float, R_file_world: np.ndarray
) -> bytes:
    """Encode moving Gaussians; inverse of `gaussians_from_fourdgs`, up to quantization.

    Args:
        frames: the Gaussians at each time in the axes of the file, T of N.
        seconds: presentation times, ascending from 0, [T].
        fps: frames per second of the clip; the last frame lasts for one of them.
        R_file_world: rotation from the world to the axes of the file, [3, 3].

    Raises:
        InputError: The axes of the file are not parallel to the world's.
    """
    model, deltas = _module("model"), _module("keyframe_delta_writer")
    frame_record = _coordinate_frame(R_file_world)
    duration = float(seconds[-1]) + 1 / fps
    ids = np.arange(len(frames[0].means))
    samples = []
    for index, gaussians in enumerate(frames):
        g = gaussians.map(lambda tensor: tensor.detach().float().cpu())
        velocities = torch.zeros_like(g.means)
        if index + 1 < len(frames):
            step = float(seconds[index + 1] - seconds[index])
            velocities = (frames[index + 1].means.detach().float().cpu() - g.means) / step
        colors = torch.cat([sh0_to_rgb(g.sh0[:, 0]), g.opacities.sigmoid()[:, None]], dim=1)
        population = model.GaussianSet(
            positions=g.means.numpy(),
            scales=g.scales.exp().numpy(),
            rotations=F.normalize(g.quats, dim=-1)[:, [1, 2, 3, 0]].numpy(),
            colors=colors.clamp(0, 1).numpy(),
            motions=velocities.numpy(),
            mu_t=np.full(len(ids), seconds[index]),
            sigma_t=np.full(len(ids), NEVER_FADES * duration),
            win_lo=np.zeros(len(ids)),
            win_hi=np.full(len(ids), duration),
        )
        samples.append(deltas.Sample(float(seconds[index]), ids, population))
    data = _module("keyframe_delta_file").write_sequence(
        samples,
        duration,
        kd=deltas.KeyframeDeltaOptions(keyframe_every=KEYFRAME_EVERY),
        profile=PROFILE,
        library="fourdvd",
    )
    return _with_record(data, frame_record)


def gaussians_from_fourdgs(data: bytes, frame: int) -> Gaussians:
    """Decode the Gaussians at the start of one frame.

    Raises:
        InputError: The data is no such file, or has fewer frames.
    """
    files = _module("keyframe_delta_file")
    try:
        decoded = files.decode_streamed(data)
    except (_module("exceptions").FourdgsError, ValueError, IndexError) as error:
        raise InputError(f"expected a .4dgs of keyframes and differences ({error})") from error
    if frame >= len(decoded.chunks):
        raise InputError(f"expected at least {frame + 1} frames, found {len(decoded.chunks)}")
    return gaussians_at(decoded, decoded.chunks[frame].t0)


def gaussians_at(decoded: Any, seconds: float) -> Gaussians:
    """Return the Gaussians of a decoded sequence at any time, in seconds."""
    state = _module("keyframe_delta_file").render_at(decoded, seconds)
    values = {
        name: torch.from_numpy(np.asarray(value, dtype=np.float32)) for name, value in state.items()
    }
    return Gaussians(
        means=values["centers"],
        quats=values["rotations"][:, [3, 0, 1, 2]],
        scales=values["scales"].log(),
        opacities=torch.logit(values["opacity"], eps=1e-4),
        sh0=rgb_to_sh0(values["rgb"])[:, None],
        shN=values["centers"].new_zeros(len(values["centers"]), 0, 3),
    )


def _coordinate_frame(R_file_world: np.ndarray) -> Any:
    """Name the axes of the file: up is the world's +Z, forward its −Y, where objects look."""
    axes = R_file_world @ np.array([[0.0, 0], [0, -1], [1, 0]])  # [3, 2]
    signed = np.concatenate([axes, -axes])  # in the order of the format: +x, +y, +z, −x, −y, −z
    if not np.allclose(signed.max(axis=0), 1, atol=1e-6):
        raise InputError("expected axes parallel to the world's for 4dgs, found others; use y-up")
    up, forward = (int(index) for index in signed.argmax(axis=0))
    return _module("records").CoordinateFrame("world", RIGHT_HANDED, up, forward, METRE, 1.0)


def _with_record(data: bytes, record: Any) -> bytes:
    """Add a record after the frames, where no offset but that of the summary changes."""
    records, magic = _module("records"), _module("serialization").MAGIC
    length = len(records.Footer().encode())
    start = len(data) - len(magic) - length
    footer = records.Footer.parse(data[start + FRAMING : start + length])
    added = record.encode()
    moved = dataclasses.replace(footer, summary_start=footer.summary_start + len(added))
    frames, summary = data[: footer.summary_start], data[footer.summary_start : start]
    return frames + added + summary + moved.encode() + magic


def _module(name: str) -> Any:
    return importlib.import_module(f"fourdgs.{name}")
