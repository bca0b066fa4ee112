"""What a user can choose about exports. Light to import: the command line reads the defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportOptions:
    """Choices for all formats; each format reads those that concern it.

    Attributes:
        frames: number of frames, evenly over the fitted times; the fitted times themselves if None.
        axes: axes of `ply` and `splat`, a key of `recon.export.axes.AXES`; glTF has its own.
        faces: triangles of the mesh, at most.
        color: of the mesh: "texture" (baked, sRGB) or "vertices" (linear `COLOR_0`).
        texture_size: width and height of the texture in pixels.
        resolution: voxels along the longest side from which the mesh is made.
    """

    frames: int | None = None
    axes: str = "y-down"
    faces: int = 20_000
    color: str = "texture"
    texture_size: int = 1024
    resolution: int = 160
