"""Export options, without heavy imports, because the command line reads their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from recon.errors import InputError

COLORS = ("texture", "vertices")
EXPECTED_AXES = {
    "ply": "y-down", "splat": "y-down", "splat4d": "y-down", "zip": "y-down", "sog": "y-down",
    "compressed-ply": "y-down", "spz": "y-up", "glb": "y-up", "glb-splats": "y-up",
    "usd": "y-up", "4dgs": "y-up",
}  # fmt: skip
PLAYER, PLAYER_AXES = "html", "z-up"  # the page is its own viewer, so other axes have no use
PADDED = ("ply", "zip")  # formats to which `pad_sh` applies
ANIMATIONS = ("auto", "morph")
WITH_ROOT_MOTION = ("glb", "usd")  # formats that have a place for the motion and a camera


@dataclass(frozen=True)
class ExportOptions:
    """Options of all formats; each format reads those that concern it.

    Attributes:
        frames: number of frames, evenly spaced over the fitted times; None: the fitted times.
            A scene of one time has one.
        axes: "y-down", "y-up", "z-up", or "source" for those of the files that were fitted; None:
            those that readers of the format expect, see `axes_of`.
        faces: maximum number of triangles of the mesh, at least 4.
        color: color of the mesh: "texture" (baked, sRGB) or "vertices" (linear `COLOR_0`).
        texture_size: width and height of the texture in pixels, 16 to 8192.
        animation: animation of the mesh: "auto" (a skeleton if the motion is bones, else as
            "morph") or "morph" (glb: morph targets; usd: points over time).
        resolution: voxels along the longest side when the mesh is extracted, 16 to 512.
        pad_sh: whether `ply` and `zip` have the 62 properties of the original implementation, with
            zeros for normals and missing harmonics, which some readers expect.
        root_motion: whether the object moves as it did in the video, see
            `recon.exporters.root_motion`; None: where the scene knows that and the format has
            one, see `has_root_motion`.

    Raises:
        InputError: A number is out of its range, or the color or the animation is unknown.
    """

    frames: int | None = None
    axes: str | None = None
    faces: int = 20_000
    color: str = "texture"
    texture_size: int = 1024
    resolution: int = 160
    animation: str = "auto"
    pad_sh: bool = False
    root_motion: bool | None = None

    def __post_init__(self):
        for name, choices in (("color", COLORS), ("animation", ANIMATIONS)):
            if (value := getattr(self, name)) not in choices:
                expected = ", ".join(choices)
                raise InputError(f"unknown {name} {value!r}; expected one of {expected}")
        for name, low, high in (
            ("frames", 1, 10_000),
            ("faces", 4, 10_000_000),
            ("texture_size", 16, 8192),
            ("resolution", 16, 512),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"expected {name} from {low} to {high}, found {value}")

    def axes_of(self, format: str) -> str:
        """Return the axes of the files of a format: 3DGS viewers expect y-down, glTF is y-up."""
        if format == PLAYER:
            return PLAYER_AXES
        return self.axes or EXPECTED_AXES[format]

    def has_root_motion(self, format: str) -> bool:
        """Return whether the files of a format move the object as in the video, if possible."""
        if format == PLAYER:
            return False
        return format in WITH_ROOT_MOTION if self.root_motion is None else self.root_motion
