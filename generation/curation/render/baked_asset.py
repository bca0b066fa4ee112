"""A baked asset: the triangles of each frame in world coordinates, with their surfaces.

The Blender process writes it as one `.npz` of arrays (`blender.baking`). Letters: F frames, N
vertices, M triangles, U UV sets. The world is right-handed with +Z up, and the asset is normalized.
Colors are linear unless noted otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Surface:
    """A Lambertian material with emission.

    Attributes:
        base_color: factor of base color and alpha, linear, [4].
        base_texture: index of the texture that is multiplied with the base color; None for none.
        base_uv: index of the base texture's UV set.
        uses_colors: whether the corner colors are multiplied with the base color, too.
        emission: factor of the emission, including its strength, linear, [3].
        emission_texture: index of the texture whose colors are multiplied with the emission; None
            for none.
        emission_uv: index of the emission texture's UV set.
        alpha_texture: index of the texture whose alpha is multiplied with the alpha; None for none.
            Its UV set is `base_uv`.
        alpha_cutoff: threshold below which alpha is 0, else 1; None for continuous alpha.
        unlit: whether only emission is rendered.
        double_sided: whether images show its back, too. Both sides cast shadows.
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
    double_sided: bool = True


@dataclass(frozen=True)
class MeshFrame:
    """The triangles of one frame; arrays that do not change are shared between frames.

    Attributes:
        vertices: float32, [N, 3].
        triangles: vertex indices, int32, [M, 3].
        normals: unit shading normals of the corners, float32, [M, 3, 3].
        uv: UV coordinates of the corners, u right and v up, repeating outside of [0, 1], float32,
            [U, M, 3, 2].
        colors: RGBA of the corners, float32, [M, 3, 4]; white if the asset has none.
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
    """Triangles of F frames with common surfaces.

    Attributes:
        frames: triangles of the F frames.
        surfaces: surfaces of all frames, at least one.
        textures: sRGB with straight alpha, uint8, [height, width, 4] each, top row first.
    """

    frames: tuple[MeshFrame, ...]
    surfaces: tuple[Surface, ...]
    textures: tuple[np.ndarray, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether all frames have the same triangles and the same number of vertices."""
        first = self.frames[0]
        return all(
            frame.vertices.shape == first.vertices.shape
            and (frame.triangles is first.triangles
                 or np.array_equal(frame.triangles, first.triangles))
            for frame in self.frames
        )  # fmt: skip


def read_baked(path: Path) -> BakedAsset:
    """Read a file that `blender.baking.bake` wrote; pickled content is rejected."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
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


def write_baked(path: Path, asset: BakedAsset) -> None:
    """Write a file that `read_baked` reads."""
    arrays: dict[str, np.ndarray] = {}
    latest: dict[str, np.ndarray] = {}
    for number, frame in enumerate(asset.frames):
        for field in FIELDS:
            array = getattr(frame, field)
            if array is not latest.get(field):  # an unchanged field is stored once
                arrays[f"{field}_{number}"] = latest[field] = array
    arrays |= {f"texture_{i}": texture for i, texture in enumerate(asset.textures)}
    arrays["surfaces"] = np.array(json.dumps([asdict(surface) for surface in asset.surfaces]))
    arrays["frame_count"] = np.array(len(asset.frames))
    arrays["texture_count"] = np.array(len(asset.textures))
    np.savez(path, **arrays)  # type: ignore[arg-type]


def with_smaller_textures(asset: BakedAsset, side: int) -> BakedAsset:
    """Reduce textures to a longer side of at most `side` pixels; each channel is averaged alone."""
    textures = tuple(_reduced(texture, side) for texture in asset.textures)
    return replace(asset, textures=textures)


def with_shared_textures(assets: Sequence[BakedAsset]) -> list[BakedAsset]:
    """Let equal textures of several assets be the same arrays, to save memory."""
    known: dict[tuple[Any, ...], np.ndarray] = {}
    return [
        replace(
            asset,
            textures=tuple(known.setdefault((t.shape, t.tobytes()), t) for t in asset.textures),
        )
        for asset in assets
    ]


def _reduced(texture: np.ndarray, side: int) -> np.ndarray:
    height, width = texture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return texture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    channels = [Image.fromarray(np.ascontiguousarray(texture[..., c])) for c in range(4)]
    return np.stack([np.asarray(c.resize(size, Image.Resampling.BOX)) for c in channels], axis=-1)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
