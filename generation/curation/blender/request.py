"""What Blender is asked and what it answers, as JSON on both sides of the process.

Letters: F frames, V views. Frame: world, right-handed, +Z up; cameras in OpenGL axes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CyclesRequest:
    """Which images to draw.

    Attributes:
        cameras: camera-to-world matrices, [V][4][4].
        fov_deg: horizontal and vertical.
        size: of an image's side in pixels.
        samples: a pixel.
        ambient: strength of the light from everywhere.
        sun: strength of the sun.
        sun_direction: in which it shines, [3].
        sun_angle_deg: how large it looks, which makes shadows soft.
        device: cpu, cuda or auto.
        images: folder for `vVV/tTTT.png`.
    """

    cameras: list[list[list[float]]]
    fov_deg: float
    size: int
    samples: int
    ambient: float
    sun: float
    sun_direction: list[float]
    sun_angle_deg: float
    device: str
    images: str


@dataclass(frozen=True)
class Request:
    """One asset and what to make of it.

    Attributes:
        asset: file, or folder of OBJ files.
        format: of `asset_files.AssetFormat`.
        obj_files: of a sequence of OBJ files, in order; empty for other formats.
        loose_texture: an image for materials that name none, or None.
        action: the clip to play; None takes the one with most motion.
        frames: F, evenly timed over the clip with both ends.
        stretch: factors along the asset's own axes, before everything else, [3].
        yaw_deg: turn about +Z after that, counter-clockwise seen from above.
        max_triangles: of a frame; more are refused.
        threads: that Blender may use; 0 means all.
        baked: file for the triangles of all frames, or None.
        cycles: images to draw, or None.
    """

    asset: str
    format: str
    obj_files: list[str]
    loose_texture: str | None
    action: str | None
    frames: int
    stretch: list[float]
    yaw_deg: float
    max_triangles: int
    threads: int
    baked: str | None
    cycles: CyclesRequest | None


@dataclass(frozen=True)
class Clip:
    """An animation of an asset: its name, length, and how much of it moves.

    Attributes:
        name: as the file calls it.
        seconds: its length.
        motion: mean displacement of the vertices between the first and another time, without the
            mean of them all; the largest of a few times, as a share of the object's diagonal.
        travel: that mean of them all, likewise.
    """

    name: str
    seconds: float
    motion: float
    travel: float


@dataclass(frozen=True)
class Result:
    """What became of an asset.

    Attributes:
        reason: why it was refused, one of `limits.Reason`; empty if it was not.
        message: the same as a sentence.
        clip: name of the clip that was played.
        clips: all of them.
        source_frames: first and last frame of the clip, in frames of `source_fps`.
        source_fps: frames a second.
        centre: of the box around all frames, in the asset's units after stretch and turn, [3].
        scale: from the asset's units to the world's.
        bounds: lower and upper corner of the box around all frames in the world, [2][3].
        vertices: of the first frame.
        triangles: of the first frame.
        warnings: sentences about what could not be taken over as it is.
        blender: its version.
        device: what Cycles ran on, or empty.
        import_seconds: spent before the first image.
        render_seconds: spent on images.
    """

    reason: str = ""
    message: str = ""
    clip: str = ""
    clips: tuple[Clip, ...] = ()
    source_frames: tuple[float, float] = (0.0, 0.0)
    source_fps: float = 24.0
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    bounds: tuple[tuple[float, ...], ...] = ()
    vertices: int = 0
    triangles: int = 0
    warnings: tuple[str, ...] = ()
    blender: str = ""
    device: str = ""
    import_seconds: float = 0.0
    render_seconds: float = 0.0


class Rejected(Exception):
    """An asset that cannot be used; `reason` is one word of `limits.Reason`."""

    def __init__(self, reason: str, message: str):
        self.reason = reason
        super().__init__(message)


def write(path: str | Path, value: Request | Result) -> None:
    """Writes a request or a result as JSON."""
    Path(path).write_text(json.dumps(asdict(value), allow_nan=False), encoding="utf-8")


def read_request(path: str | Path) -> Request:
    """The inverse of `write`."""
    values = _read(path)
    cycles = values.pop("cycles")
    return Request(**values, cycles=None if cycles is None else CyclesRequest(**cycles))


def read_result(path: str | Path) -> Result:
    """The inverse of `write`."""
    values = _read(path)
    values["clips"] = [Clip(**clip) for clip in values["clips"]]
    for name in ("clips", "source_frames", "centre", "bounds", "warnings"):
        values[name] = tuple(values[name])
    return Result(**values)


def _read(path: str | Path) -> dict[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))
