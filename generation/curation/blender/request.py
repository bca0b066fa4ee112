"""Request and result of the Blender process, as JSON files.

Letters: F frames, V views. World frame: right-handed, +Z up; cameras have OpenGL axes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CyclesRequest:
    """Images to render with Cycles.

    Attributes:
        cameras: camera-to-world matrices, [V][4][4].
        fov_deg: horizontal and vertical field of view.
        size: side of an image in pixels.
        samples: samples per pixel.
        ambient: radiance of the ambient light.
        sun: irradiance of the sun.
        sun_direction: direction in which the sun shines, [3].
        sun_angle_deg: angular diameter of the sun.
        device: "cpu", "cuda" or "auto".
        images: output folder for `vVV/tTTT.png`.
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
class BakeRequest:
    """Several clips whose triangles are baked, each normalized over its own frames.

    If nothing moves, a single frame is baked.

    Attributes:
        clips: maximum number of clips, see `clip_selection.select_clips`.
        folder: output folder for `clip_00.npz`, `clip_01.npz`, …
    """

    clips: int
    folder: str


@dataclass(frozen=True)
class Request:
    """An asset and the requested outputs.

    Attributes:
        asset: file, or folder of OBJ files.
        format: an `assets.files.AssetFormat`.
        obj_files: files of an OBJ sequence, in order; empty for other formats.
        loose_texture: image for materials without a texture, or None.
        action: name of the animation; None for the one with most motion.
        frames: number of frames F, evenly spaced over the animation, both ends included.
        stretch: scale factors along the asset's own axes, applied first, [3].
        yaw_deg: rotation about +Z, applied second, counter-clockwise seen from above.
        max_triangles: maximum number of triangles in a frame.
        threads: number of threads of Blender; 0 for all cores.
        baked: output file for the triangles of all frames; None to skip them.
        cycles: images to render; None to skip them.
        bake: clips to bake instead of the one named `action`; None for that one.
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
    bake: BakeRequest | None = None


@dataclass(frozen=True)
class Clip:
    """An animation of an asset.

    Attributes:
        name: name of the animation in the file.
        seconds: duration in seconds.
        motion: mean displacement of the vertices since the first frame, without their common
            translation; the maximum over a few times, as a fraction of the diagonal.
        travel: common translation of the vertices since the first frame; the maximum over a few
            times, as a fraction of the diagonal.
    """

    name: str
    seconds: float
    motion: float
    travel: float


@dataclass(frozen=True)
class Result:
    """Result of processing an asset.

    Attributes:
        reason: reason of a rejection, a value of `limits.Reason`; empty if it was not rejected.
        message: the reason as a sentence.
        clip: name of the rendered animation.
        clips: measurements of all animations.
        source_frames: first and last source frame of the rendered animation.
        source_fps: frame rate of the asset.
        center: see `placement.World`, [3].
        scale: see `placement.World`.
        bounds: see `placement.World`, [2][3].
        vertices: number of vertices of the first frame.
        triangles: number of triangles of the first frame.
        warnings: warnings, e.g. about approximated materials.
        blender: version of Blender.
        device: device of Cycles; empty without Cycles.
        import_seconds: time until rendering began.
        render_seconds: time for rendering.
        baked: names of the clips that a `BakeRequest` baked, in the order of their files; the other
            attributes are those of the first.
    """

    reason: str = ""
    message: str = ""
    clip: str = ""
    clips: tuple[Clip, ...] = ()
    source_frames: tuple[float, float] = (0.0, 0.0)
    source_fps: float = 24.0
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    bounds: tuple[tuple[float, ...], ...] = ()
    vertices: int = 0
    triangles: int = 0
    warnings: tuple[str, ...] = ()
    blender: str = ""
    device: str = ""
    import_seconds: float = 0.0
    render_seconds: float = 0.0
    baked: tuple[str, ...] = ()


class Rejected(Exception):
    """Raised if an asset cannot be used; `reason` is a value of `limits.Reason`."""

    def __init__(self, reason: str, message: str):
        self.reason = reason
        super().__init__(message)


def write(path: str | Path, value: Request | Result) -> None:
    """Write a request or a result as JSON."""
    Path(path).write_text(json.dumps(asdict(value), allow_nan=False), encoding="utf-8")


def read_request(path: str | Path) -> Request:
    """Read a request that `write` wrote."""
    values = _read(path)
    cycles, bake = values.pop("cycles"), values.pop("bake")
    return Request(
        **values,
        cycles=None if cycles is None else CyclesRequest(**cycles),
        bake=None if bake is None else BakeRequest(**bake),
    )


def read_result(path: str | Path) -> Result:
    """Read a result that `write` wrote."""
    values = _read(path)
    values["clips"] = [Clip(**clip) for clip in values["clips"]]
    for name in ("clips", "source_frames", "center", "bounds", "warnings", "baked"):
        values[name] = tuple(values[name])
    return Result(**values)


def _read(path: str | Path) -> dict[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))
