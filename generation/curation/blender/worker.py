"""Main program of the Blender process: read a request and write a result.

A result is also written for rejected assets; a process that exits without a result has crashed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import bpy
import numpy as np

from generation.curation.blender import (
    baking,
    clips,
    cycles,
    geometry,
    importing,
    placement,
    request,
)


def main(request_path: str, result_path: str) -> None:
    """Process a request."""
    asked = request.read_request(request_path)
    try:
        result = process(asked)
    except request.Rejected as refusal:
        result = request.Result(
            reason=refusal.reason, message=str(refusal), blender=bpy.app.version_string
        )
    request.write(result_path, result)


def process(asked: request.Request) -> request.Result:
    """Import, normalize, bake and render the asset.

    Raises:
        Rejected: the asset cannot be used.
    """
    began = time.monotonic()
    warnings = []
    imported = importing.open_asset(asked)
    if asked.loose_texture and importing.attach_loose_texture(asked.loose_texture):
        warnings.append(f"used {asked.loose_texture} as base color")
    _check_size(asked.max_triangles)
    root = geometry.hang_under_root()
    playable = clips.find_clips(imported)
    baked: list[_Placed] = []
    if asked.bake:
        chosen, measured = clips.choose_several(imported, playable, asked.bake.clips)
        for number, clip in enumerate(chosen):
            baked.append(_place(clip, asked, root))
            path = Path(asked.bake.folder) / f"clip_{number:02d}.npz"
            warnings += baking.bake(path, clip, baked[-1].source_frames)
        placed = baked[0]
    else:
        clip, measured = clips.choose(playable, asked.action)
        placed = _place(clip, asked, root)
    clip, source_frames, world = placed.clip, placed.source_frames, placed.world
    if asked.baked:
        warnings += baking.bake(asked.baked, clip, source_frames)
    ready = time.monotonic()
    device = ""
    if asked.cycles:
        device = cycles.set_up(asked.cycles, asked.threads)
        cycles.draw(asked.cycles, clip, source_frames)
    return request.Result(
        clip=clip.name,
        clips=tuple(measured),
        source_frames=(clip.start, clip.end),
        source_fps=clips.source_fps(),
        center=tuple(world.center.tolist()),
        scale=world.scale,
        bounds=tuple(tuple(corner) for corner in world.bounds.tolist()),
        vertices=placed.vertices,
        triangles=placed.triangles,
        warnings=tuple(dict.fromkeys(warnings)),
        blender=bpy.app.version_string,
        device=device,
        import_seconds=ready - began,
        render_seconds=time.monotonic() - ready,
        baked=tuple(each.clip.name for each in baked),
    )


class _Placed(NamedTuple):
    """A clip that is assigned, with the asset normalized over its frames."""

    clip: clips.PlayableClip
    source_frames: Sequence[float]
    world: placement.World
    vertices: int
    triangles: int


def _place(clip: clips.PlayableClip, asked: request.Request, root: bpy.types.Object) -> _Placed:
    """Play a clip and normalize the asset over its frames.

    Raises:
        Rejected: the asset's constraints undo the normalization.
    """
    clip.play()
    before = geometry.stretch_and_turn(asked.stretch, asked.yaw_deg)
    root.matrix_world = before
    source_frames = [float(frame) for frame in clip.frames(asked.frames)]
    shapes = _shapes(clip, source_frames)
    world = placement.put_into_world(shapes)
    root.matrix_world = geometry.world_matrix(world, before)
    _check_placed(clip, source_frames[0], (shapes[0] - world.center) * world.scale)
    return _Placed(clip, source_frames, world, len(shapes[0]), geometry.count_triangles())


def _check_size(max_triangles: int) -> None:
    triangles = geometry.count_triangles()
    if triangles == 0:
        raise request.Rejected("no_triangles", "it has no triangles")
    if triangles > max_triangles:
        raise request.Rejected(
            "too_many_triangles", f"it has {triangles:,} triangles; at most {max_triangles:,}"
        )


def _shapes(clip: clips.PlayableClip, source_frames: list[float]) -> list[np.ndarray]:
    shapes = []
    for source_frame in source_frames:
        clip.go_to(source_frame)
        shapes.append(geometry.all_vertices())
    return shapes


def _check_placed(clip: clips.PlayableClip, source_frame: float, expected: np.ndarray) -> None:
    """Reject assets whose constraints undo the normalization."""
    clip.go_to(source_frame)
    found = geometry.all_vertices()
    if found.shape != expected.shape or np.abs(found - expected).max() > 1e-3:
        raise request.Rejected("cannot_be_placed", "its constraints prevent scaling")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
