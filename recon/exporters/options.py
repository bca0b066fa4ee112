"""What a user can choose about exports. Light to import: the command line reads the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from recon.errors import InputError

COLORS = ("texture", "vertices")


@dataclass(frozen=True)
class ExportOptions:
    """Choices for all formats; each format reads those that concern it.

    Attributes:
        frames: number of frames, evenly over the fitted times; those times themselves if None.
        axes: axes of `ply` and `splat`, a key of `recon.exporters.axes.AXES`; glTF has its own.
        faces: triangles of the mesh, at most; 4 or more.
        color: of the mesh: "texture" (baked, sRGB) or "vertices" (linear `COLOR_0`).
        texture_size: width and height of the texture in pixels, 16 to 8192.
        resolution: voxels along the longest side from which the mesh is made, 16 to 512.

    Raises:
        InputError: a number is out of its range or a colour not known.
    """

    frames: int | None = None
    axes: str = "y-down"
    faces: int = 20_000
    color: str = "texture"
    texture_size: int = 1024
    resolution: int = 160

    def __post_init__(self):
        if self.color not in COLORS:
            raise InputError(f"unknown colour {self.color!r}; expected one of {', '.join(COLORS)}")
        for name, low, high in (
            ("frames", 1, 10_000),
            ("faces", 4, 10_000_000),
            ("texture_size", 16, 8192),
            ("resolution", 16, 512),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"expected {name} from {low} to {high}, found {value}")
