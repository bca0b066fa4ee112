"""A sequence of meshes, one GLB or OBJ per frame, as DreamGaussian4D and ActionMesh write it.

The files are ordered by the numbers in their names; each may have its own topology. They are drawn
unlit, with their texture or the colors of their vertices; a mesh without either is gray. Several
textured meshes in a file are drawn with the colors that their textures have at the vertices.
Letters: P vertices, F triangles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from trimesh.sample import sample_surface

from recon.errors import InputError
from recon.evaluation.sequences import FrameFiles
from recon.exporters.conventions import rotation_to
from recon.grid import Camera
from recon.media import by_numbers
from recon.mesh.animated_mesh import AnimatedMesh
from recon.mesh.rendering import render_mesh

SUFFIXES = (".glb", ".obj")


def mesh_files_of(folder: Path) -> list[Path]:
    """Return the meshes of a folder in the order of their numbers; empty if there are none."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    return sorted(found, key=by_numbers)


def read_mesh_frame(path: Path, axes: str, scale: float) -> AnimatedMesh:
    """Read one file as a mesh of one frame in our world.

    Args:
        path: a GLB or OBJ file.
        axes: axes of the file, see `recon.exporters.conventions`.
        scale: size of our world relative to the file's, positive.

    Raises:
        InputError: the file cannot be read, has no triangles, or values that are not finite.
    """
    try:
        parts = trimesh.load_scene(path).dump()
    except Exception as error:  # its parsers raise whatever they meet
        raise InputError(f"{path}: expected a mesh ({error})") from error
    meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not meshes:
        raise InputError(f"{path}: expected a mesh with triangles, found none")
    vertices = np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float64)
    if not np.isfinite(vertices).all():
        raise InputError(f"{path}: the mesh has vertices that are not finite")
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=True)])
    positions = scale * vertices @ rotation_to(axes).numpy()  # the inverse, for points as rows
    uv, texture = _texture(meshes[0]) if len(meshes) == 1 else (None, None)
    colors = np.concatenate([_vertex_colors(mesh) for mesh in meshes]) if texture is None else None
    unlit = np.zeros_like(positions)  # normals, which are not used
    return AnimatedMesh(positions[None], unlit[None], positions, unlit, faces, colors, uv, texture)


class MeshFrame(NamedTuple):
    """The mesh of a file as a frame of a sequence; see `recon.evaluation.sequences.Frame`.

    Attributes:
        mesh: a mesh of one frame.
    """

    mesh: AnimatedMesh

    def samples(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw points evenly over the surface, [count, 3]."""
        surface = trimesh.Trimesh(self.mesh.positions[0], self.mesh.faces, process=False)
        return np.asarray(sample_surface(surface, count, seed=rng)[0])

    def draw(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Render rgb over white [H, W, 3] and alpha [H, W], in [0, 1]."""
        white, black = (render_mesh(self.mesh, 0, camera, [tone] * 3) for tone in (1.0, 0.0))
        return white, 1 - (white - black)[..., 0].clip(0, 1)


def mesh_sequence(files: list[Path], axes: str = "y-up", scale: float = 1.0) -> FrameFiles:
    """Describe a sequence of meshes; for the arguments see `read_mesh_frame`."""

    def read(path: Path) -> MeshFrame:
        return MeshFrame(read_mesh_frame(path, axes, scale))

    return FrameFiles(files, "mesh", read, low_pass=False)


def _texture(mesh: trimesh.Trimesh) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Texture coordinates from the upper left corner [P, 2], and the texture, if there is one."""
    visual = mesh.visual
    material = getattr(visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uv = getattr(visual, "uv", None)
    if image is None or uv is None:
        return None, None
    texture = np.asarray(image.convert("RGB"))
    return np.column_stack([uv[:, 0], 1 - uv[:, 1]]), texture


def _vertex_colors(mesh: trimesh.Trimesh) -> np.ndarray:
    """Colors of the vertices in [0, 1], [P, 3]; gray where the file has none."""
    visual: Any = mesh.visual
    if hasattr(visual, "to_color"):  # of a texture
        visual = visual.to_color()
    if visual is None or not visual.defined:
        return np.full((len(mesh.vertices), 3), 0.5)
    return np.asarray(visual.vertex_colors)[:, :3] / 255
