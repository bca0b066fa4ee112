"""A baked asset: the triangles of each frame in the world, with their surfaces.

The Blender process writes it as one `.npz` of plain arrays (`blender.baking`). Letters: F frames, N
vertices, M triangles, U UV sets. Coordinates are those of the world after normalization:
right-handed, +Z up. Colors are linear unless noted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Surface:
    """A Lambertian material with emission.

    Attributes:
        base_color: factor of base color and alpha, linear, [4].
        base_texture: index of the texture that multiplies it, or None.
        base_uv: index of its UV set.
        uses_colors: whether the corner colors multiply it as well.
        emission: factor of the emission, strength included, linear, [3].
        emission_texture: index of the texture that multiplies it, alpha ignored, or None.
        emission_uv: index of its UV set.
        alpha_texture: index of the texture whose alpha multiplies the alpha, or None; its UV set is
            `base_uv`.
        alpha_cutoff: alpha is 0 below it and 1 from it on; None for continuous alpha.
        unlit: whether only emission is rendered.
    """

    base_color: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 1.0)
    base_texture: int | None = None
    base_uv: int = 0
    uses_colors: bool = False
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emission_texture: int | None = None
    emission_uv: int = 0
    alpha_texture: int | None = None
    alpha_cutoff: float | None = None
    unlit: bool = False


@dataclass(frozen=True)
class MeshFrame:
    """The triangles of one frame; arrays that do not change are shared between frames.

    Attributes:
        vertices: float32, [N, 3].
        triangles: vertex indices, int32, [M, 3].
        normals: unit shading normals of the corners, float32, [M, 3, 3].
        uv: UV coordinates of the corners, u right and v up, repeating outside of [0, 1], float32,
            [U, M, 3, 2].
        colors: of the corners, with alpha, float32, [M, 3, 4]; white if the asset has none.
        surface: index of the surface, int32, [M].
    """

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    colors: np.ndarray
    surface: np.ndarray


FIELDS = ("vertices", "triangles", "normals", "uv", "colors", "surface")


@dataclass(frozen=True)
class BakedAsset:
    """F frames with common surfaces.

    Attributes:
        frames: F frames.
        surfaces: at least one.
        textures: sRGB with straight alpha, uint8, [height, width, 4] each, top row first.
    """

    frames: tuple[MeshFrame, ...]
    surfaces: tuple[Surface, ...]
    textures: tuple[np.ndarray, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether vertices and triangles correspond in all frames."""
        first = self.frames[0]
        return all(
            frame.vertices.shape == first.vertices.shape
            and (frame.triangles is first.triangles
                 or np.array_equal(frame.triangles, first.triangles))
            for frame in self.frames
        )  # fmt: skip


def read_baked(path: Path) -> BakedAsset:
    """Read a file of `blender.baking.bake`; pickled content is refused."""
    with np.load(path, allow_pickle=False) as arrays:
        surfaces: list[dict[str, Any]] = json.loads(str(arrays["surfaces"]))
        stored = {name: arrays[name] for name in arrays.files if name != "surfaces"}
    latest: dict[str, np.ndarray] = {}
    frames = []
    for frame in range(int(stored["frame_count"])):
        for field in FIELDS:  # an unchanged field is stored once
            latest[field] = stored.get(f"{field}_{frame}", latest.get(field))
        frames.append(MeshFrame(**latest))
    textures = [stored[f"texture_{i}"] for i in range(int(stored["texture_count"]))]
    return BakedAsset(
        tuple(frames), tuple(Surface(**_tuples(values)) for values in surfaces), tuple(textures)
    )


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
