"""GLB: one animated mesh of fixed topology, with a morph target for each frame after the first.

The base mesh is the first frame, which readers without animation show. Target k is frame k + 1; a
LINEAR animation of the weights blends each frame into the next. At most two targets are active at a
time, which every importer supports. Lighting is baked into the colors, so the material is
unlit (KHR_materials_unlit; readers without it get a rough dielectric). Normals are included for
relighting. Letters: T frames, P vertices, F triangles. Axes: glTF's (+Y up), unless others are
asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from recon.errors import InputError
from recon.exporters.conventions import (
    frame_seconds,
    rotation_to,
)
from recon.exporters.gltf import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, GlbWriter, read_glb
from recon.exporters.options import ExportOptions
from recon.gaussians import Gaussians
from recon.media import decode_image, encode_image
from recon.mesh.animated_mesh import AnimatedMesh, textured_mesh, vertex_colored_mesh
from recon.mesh.extraction import extract_mesh
from recon.rendering import rendering_unit
from recon.scene import Scene
from recon.similarity import Similarity
from recon.srgb import linear_from_srgb, srgb_from_linear

UNLIT = "KHR_materials_unlit"
LINEAR_FILTER, CLAMP_TO_EDGE = 9729, 33071


def glb_files(
    scene: Scene, times: np.ndarray, options: ExportOptions
) -> Iterator[tuple[str, bytes]]:
    """Yield one GLB with the mesh at all times.

    Raises:
        SceneError: The Gaussians enclose no surface.
    """
    seconds = frame_seconds(scene, times)
    T_normal_world = _rounded_normalization(scene.gaussians)
    scene = scene.mapped(T_normal_world)
    surface = extract_mesh(scene.gaussians, options.faces, options.resolution)
    if options.color == "texture":
        mesh = textured_mesh(scene, surface, times, options.texture_size)
    else:
        mesh = vertex_colored_mesh(scene, surface, times)
    rotation = rotation_to(options.axes_of("glb"), scene.R_world_source).numpy()
    mesh = mesh._replace(positions=T_normal_world.inverse().points(mesh.positions))
    yield "scene.glb", glb_from_mesh(rotated_mesh(mesh, rotation), seconds)


def glb_from_mesh(mesh: AnimatedMesh, seconds: np.ndarray) -> bytes:
    """Encode an animated mesh as GLB; inverse of `mesh_from_glb`.

    Args:
        mesh: mesh in the axes of the file.
        seconds: presentation times of the frames, ascending from 0, [T].
    """
    writer = GlbWriter()
    positions, normals = mesh.positions.astype(np.float32), mesh.normals
    names = [f"frame_{frame:04d}" for frame in range(len(positions))]
    primitive = {
        "attributes": _attributes(writer, mesh, positions[0], normals[0]),
        "indices": writer.accessor(
            mesh.faces.astype(np.uint32).ravel(), ELEMENT_ARRAY_BUFFER, name="triangles"
        ),
        "material": 0,
    }
    entry: dict[str, Any] = {"name": "object", "primitives": [primitive]}
    if len(positions) > 1:
        primitive["targets"] = [
            _attributes(writer, None, positions[k] - positions[0], normals[k] - normals[0])
            for k in range(1, len(positions))
        ]
        entry |= {"weights": [0.0] * (len(names) - 1), "extras": {"targetNames": names[1:]}}
        writer.json["animations"] = [_animation(writer, seconds)]
    writer.json |= {
        "extensionsUsed": [UNLIT],
        "materials": [_material(writer, mesh.texture)],
        "meshes": [entry],
        "nodes": [{"name": "object", "mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    return writer.glb()


def mesh_from_glb(data: bytes) -> AnimatedMesh:
    """Decode a GLB that `glb_from_mesh` encoded, in the axes of the file.

    Raises:
        InputError: The data is not such a GLB.
    """
    glb = read_glb(data)
    try:
        primitive = glb.json["meshes"][0]["primitives"][0]
        base = {name: glb.array(index) for name, index in primitive["attributes"].items()}
        targets = primitive.get("targets", [])
        positions, normals = (
            np.stack([base[name], *(base[name] + glb.array(target[name]) for target in targets)])
            for name in ("POSITION", "NORMAL")
        )
        faces = glb.array(primitive["indices"]).astype(np.int64).reshape(-1, 3)
        texture = None
        if "TEXCOORD_0" in base:
            png = glb.view(glb.json["images"][0]["bufferView"])
            texture = decode_image(png, "PNG", mode="RGB")
    except (KeyError, IndexError) as error:
        raise InputError(
            f"expected a GLB with a mesh as exported by fourdvd ({error!r})"
        ) from error
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    colors = base.get("COLOR_0")
    return AnimatedMesh(
        positions,
        normals,
        faces,
        vertex_colors=None if colors is None else srgb_from_linear(colors),
        uv=base.get("TEXCOORD_0"),
        texture=texture,
    )


def _rounded_normalization(gaussians: Gaussians) -> Similarity:
    """Map to a common size and place, because programs for meshes have absolute tolerances.

    Scale and offset are rounded to powers of two and whole units, so that objects of a common size
    near the origin are left as they are.
    """
    unit = rendering_unit(gaussians)
    center = gaussians.means.detach().double().median(dim=0).values.cpu().numpy()
    return Similarity(1 / unit, -np.round(center / unit))


def rotated_mesh(mesh: AnimatedMesh, rotation: np.ndarray) -> AnimatedMesh:
    """Rotate a mesh about the origin by a matrix, [3, 3]."""
    return mesh._replace(positions=mesh.positions @ rotation.T, normals=mesh.normals @ rotation.T)


def _attributes(
    writer: GlbWriter, mesh: AnimatedMesh | None, positions: np.ndarray, normals: np.ndarray
) -> dict[str, int]:
    """Write the attributes of a morph target, or with a mesh those of the base mesh."""
    attributes = {
        "POSITION": writer.accessor(positions.astype(np.float32), ARRAY_BUFFER, bounds=True),
        "NORMAL": writer.accessor(normals.astype(np.float32), ARRAY_BUFFER),
    }
    if mesh is not None and mesh.uv is not None:
        attributes["TEXCOORD_0"] = writer.accessor(mesh.uv.astype(np.float32), ARRAY_BUFFER)
    if mesh is not None and mesh.vertex_colors is not None:
        linear = linear_from_srgb(mesh.vertex_colors).astype(np.float32)
        attributes["COLOR_0"] = writer.accessor(linear, ARRAY_BUFFER)
    return attributes


def _animation(writer: GlbWriter, seconds: np.ndarray) -> dict[str, Any]:
    """Animate the weights: all 0 at the first frame, then one target after another."""
    frames = len(seconds)
    weights = np.eye(frames, dtype=np.float32)[:, 1:]
    sampler = {
        "input": writer.accessor(seconds.astype(np.float32), bounds=True, name="seconds"),
        "output": writer.accessor(weights.ravel(), name="weights"),
        "interpolation": "LINEAR",
    }
    channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
    return {"name": "motion", "samplers": [sampler], "channels": [channel]}


def _material(writer: GlbWriter, texture: np.ndarray | None) -> dict[str, Any]:
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    if texture is not None:
        view = writer.buffer_view(encode_image(texture, ".png"))
        filters = {"magFilter": LINEAR_FILTER, "minFilter": LINEAR_FILTER}
        wraps = {"wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE}
        writer.json |= {
            "images": [{"name": "baked", "mimeType": "image/png", "bufferView": view}],
            "samplers": [filters | wraps],
            "textures": [{"sampler": 0, "source": 0}],
        }
        surface["baseColorTexture"] = {"index": 0}
    return {"name": "baked light", "pbrMetallicRoughness": surface, "extensions": {UNLIT: {}}}
