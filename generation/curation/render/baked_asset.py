"""An asset after import: the triangles of each frame in the world, with what they look like.

Blender's worker writes it to one `.npz` of plain arrays (`blender.baking`), the fast renderer reads
it. Letters: F frames, N vertices, M triangles, U sets of texture coordinates. Frame: world, right-
handed, +Z up, after normalisation. Colours are linear unless they say sRGB. What it does not know:
files of assets, light, cameras.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Surface:
    """A Lambertian material with its own emission.

    Attributes:
        base_colour: factor of the base colour and its alpha, linear, [4].
        base_texture: index of the texture that multiplies it, or None.
        base_uv: index of the set of texture coordinates for it.
        uses_colours: whether the triangles' corner colours multiply it as well.
        emission: factor of the emitted light, strength included, linear, [3].
        emission_texture: index of the texture that multiplies it (its alpha counts for nothing), or
            None.
        emission_uv: index of the set of texture coordinates for it.
        alpha_texture: index of the texture whose alpha channel multiplies the alpha, or None; its
            coordinates are `base_uv`.
        alpha_cutoff: alpha below it is nothing and alpha from it on is everything; None where alpha
            is a share.
        unlit: only emission is seen.
    """

    base_colour: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 1.0)
    base_texture: int | None = None
    base_uv: int = 0
    uses_colours: bool = False
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emission_texture: int | None = None
    emission_uv: int = 0
    alpha_texture: int | None = None
    alpha_cutoff: float | None = None
    unlit: bool = False


@dataclass(frozen=True)
class MeshFrame:
    """The triangles of one frame; arrays that do not change are the same object in every frame.

    Attributes:
        vertices: float32, [N, 3].
        triangles: indices of vertices, int32, [M, 3].
        normals: unit, of the corners, as they are shaded, float32, [M, 3, 3].
        uv: texture coordinates of the corners, u to the right and v up, textures repeat outside of
            [0, 1], float32, [U, M, 3, 2].
        colours: of the corners, with alpha, float32, [M, 3, 4]; white where the asset has none.
        surface: index of the surface, int32, [M].
    """

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    colours: np.ndarray
    surface: np.ndarray


FIELDS = ("vertices", "triangles", "normals", "uv", "colours", "surface")


@dataclass(frozen=True)
class BakedAsset:
    """F frames with common surfaces.

    Attributes:
        frames: F of them.
        surfaces: at least one.
        textures: sRGB with straight alpha, uint8, [height, width, 4] each, first row on top.
    """

    frames: tuple[MeshFrame, ...]
    surfaces: tuple[Surface, ...]
    textures: tuple[np.ndarray, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether the vertices and triangles of all frames are the same ones, moved."""
        first = self.frames[0]
        return all(
            frame.vertices.shape == first.vertices.shape
            and (frame.triangles is first.triangles
                 or np.array_equal(frame.triangles, first.triangles))
            for frame in self.frames
        )  # fmt: skip


def read_baked(path: Path) -> BakedAsset:
    """Reads what `blender.baking.write_baked` wrote; nothing in it is ever unpickled."""
    with np.load(path, allow_pickle=False) as arrays:
        surfaces: list[dict[str, Any]] = json.loads(str(arrays["surfaces"]))
        stored = {name: arrays[name] for name in arrays.files if name != "surfaces"}
    latest: dict[str, np.ndarray] = {}
    frames = []
    for frame in range(int(stored["frame_count"])):
        for field in FIELDS:  # a field that did not change is stored once
            latest[field] = stored.get(f"{field}_{frame}", latest.get(field))
        frames.append(MeshFrame(**latest))
    textures = [stored[f"texture_{i}"] for i in range(int(stored["texture_count"]))]
    return BakedAsset(
        tuple(frames), tuple(Surface(**_tuples(values)) for values in surfaces), tuple(textures)
    )


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
