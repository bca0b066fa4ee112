"""GLB: one animated mesh of fixed topology, moved by a skeleton or by morph targets.

A scene that moves by bones gets a skin: the mesh once, and the joints' translations and rotations,
which is small and can be edited. Other motions, or all on request, get a morph target for each
frame after the first: the base mesh is the first frame, target k is frame k + 1, and a LINEAR
animation of the weights blends each frame into the next; at most two targets are active at a time,
which every importer supports. Lighting is baked into the colors, so the material is unlit
(KHR_materials_unlit; readers without it get a rough dielectric). Normals are included for
relighting. Letters: T frames, P vertices, F triangles. Axes: glTF's (+Y up), unless others are
asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from recon.deformation.bones import BoneDeformation
from recon.errors import InputError
from recon.exporters.conventions import exported_motion, frame_seconds, rotation_to
from recon.exporters.glb_camera import add_camera, move_node
from recon.exporters.glb_skin import add_skeleton, skin_attributes
from recon.exporters.gltf import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, GlbWriter, read_glb
from recon.exporters.gltf_playback import frame_times_of, play
from recon.exporters.options import ExportOptions
from recon.exporters.root_motion import RootMotion
from recon.gaussians import Gaussians
from recon.media import decode_image, encode_image
from recon.mesh.animated_mesh import AnimatedMesh, moving_mesh, textured_mesh, vertex_colored_mesh
from recon.mesh.rig import Rig, RigErrors, rig_errors, rig_mesh
from recon.mesh.surface import extract_surface, most_open_time
from recon.mesh.texture import unwrap
from recon.progress import OnStep, Progress, Whole, ignore_progress
from recon.rendering import rendering_unit
from recon.scene import Scene
from recon.similarity import Similarity
from recon.srgb import linear_from_srgb, srgb_from_linear

UNLIT = "KHR_materials_unlit"
LINEAR_FILTER, CLAMP_TO_EDGE = 9729, 33071
JPEG_QUALITY = 95  # without chroma subsampling; about 50 dB PSNR at a third of a PNG
TEXTURE_FORMATS = ("JPEG", "PNG")  # written now, and by the first versions
LEVELS_OF_UV = 65535
LARGEST_ERROR = 0.1  # of a vertex, relative to the object; examples have .02 to .05

_log = logging.getLogger(__name__)


def glb_files(
    scene: Scene, times: np.ndarray, options: ExportOptions, on_step: OnStep = ignore_progress
) -> Iterator[tuple[str, bytes]]:
    """Yield one GLB with the mesh at all times; `on_step` as in `export_mesh`.

    Raises:
        SceneError: The Gaussians enclose no surface.
    """
    mesh, rig, rest_time = export_mesh(scene, times, options, options.axes_of("glb"), on_step)
    motion = exported_motion(scene, times, options, "glb")
    yield "scene.glb", glb_from_mesh(mesh, frame_seconds(scene, times), rig, rest_time, motion)


def export_mesh(
    scene: Scene,
    times: np.ndarray,
    options: ExportOptions,
    axes: str,
    on_step: OnStep = ignore_progress,
) -> tuple[AnimatedMesh, Rig | None, float | None]:
    """Extract the mesh of a scene, color it and move it.

    Args:
        scene: the scene.
        times: times in [0, 1], [T].
        options: options of the mesh.
        axes: see `rotation_to`.
        on_step: called before each part of the work, with its name as the phase; its steps are
            hundredths of the whole.

    Returns:
        The mesh in those axes, its skeleton (None: the motion or the options ask for none), and
        the time of the pose in which it was extracted (None: the canonical pose).

    Raises:
        SceneError: The Gaussians enclose no surface.
    """
    R_file_world = rotation_to(axes, scene.R_world_source).numpy()
    T_normal_world = _rounded_normalization(scene.gaussians)
    scene = scene.mapped(T_normal_world)
    whole = Whole({"pose": 4.0, "surface": 3.0, "mesh": 7.0, "skeleton": 2.0}, on_step)
    rest_time = most_open_time(scene, options.resolution, whole.part("pose"))
    whole.part("surface")(Progress("extracting the surface", 0, None))
    surface = extract_surface(scene, rest_time, options.faces, options.resolution)
    if options.color == "texture":
        mesh = textured_mesh(scene, surface, times, options.texture_size, whole.part("mesh"))
    else:
        mesh = vertex_colored_mesh(scene, surface, times, whole.part("mesh"))
    rig = None
    if _is_rigged(scene, times, options):
        assert isinstance(scene.deformation, BoneDeformation)
        whole.part("skeleton")(Progress("building the skeleton", 0, None))
        rig = rig_mesh(scene.deformation, surface, mesh, times)
        _warn_of_errors(rig_errors(rig, mesh, scene, surface, times))
    back = T_normal_world.inverse()
    mesh = rotated_mesh(_mapped(mesh, back), R_file_world)
    if rig is not None:
        rig = rig._replace(skeleton=rig.skeleton.mapped(back).rotated(R_file_world))
    return mesh, rig, rest_time


def _warn_of_errors(errors: RigErrors) -> None:
    """Warn of a skeleton that moves the mesh visibly otherwise than the scene."""
    if max(errors) < LARGEST_ERROR:
        return
    at_frames = errors.at_frames >= LARGEST_ERROR
    advice = "--mesh-animation morph follows it" if at_frames else "more --frames follow it better"
    _log.warning(
        "the skeleton moves some vertices of the mesh up to %.0f %% of the object's size away from "
        "the motion of the scene%s; %s",
        100 * max(errors),
        "" if at_frames else ", between the frames",
        advice,
    )


def exact_motion(
    scene: Scene, times: np.ndarray, options: ExportOptions, rest_time: float | None
) -> np.ndarray:
    """Return where the vertices of an exported mesh are in the scene.

    Args:
        scene: the scene.
        times: times in [0, 1], [T].
        options: the options of the export.
        rest_time: time of the pose in which the mesh was extracted; None: the canonical pose.

    Returns:
        World coordinates in the order of the file, [T, P, 3].
    """
    T_normal_world = _rounded_normalization(scene.gaussians)
    scene = scene.mapped(T_normal_world)
    surface = extract_surface(scene, rest_time, options.faces, options.resolution)
    textured = options.color == "texture"
    unwrapped = unwrap(surface.mesh, options.texture_size) if textured else None
    positions = moving_mesh(scene, surface, times, unwrapped).positions
    return T_normal_world.inverse().points(positions)


def glb_from_mesh(
    mesh: AnimatedMesh,
    seconds: np.ndarray,
    rig: Rig | None = None,
    rest_time: float | None = None,
    motion: RootMotion | None = None,
) -> bytes:
    """Encode an animated mesh as GLB; inverse of `mesh_from_glb`.

    Args:
        mesh: mesh in the axes of the file.
        seconds: presentation times of the frames, ascending from 0, [T].
        rig: skeleton, in the same axes, and weights that move the mesh; None: morph targets do.
        rest_time: noted as `restTime` in the mesh's extras, for `rest_time_of`.
        motion: motion of the object at the frames and camera of the video, in the same axes; the
            root joint carries it, or without a skeleton the node of the mesh.
    """
    writer = GlbWriter()
    positions, normals = mesh.positions, mesh.normals
    base, base_normals = positions[0], normals[0]
    if rig is not None:
        base, base_normals = mesh.rest, mesh.rest_normals
    primitive = {
        "attributes": _shape(writer, base, base_normals) | _surface_attributes(writer, mesh),
        "indices": writer.accessor(_indices(mesh), ELEMENT_ARRAY_BUFFER, name="triangles"),
        "material": 0,
    }
    extras: dict[str, Any] = {"restTime": rest_time}
    entry: dict[str, Any] = {"name": "object", "primitives": [primitive], "extras": extras}
    node: dict[str, Any] = {"name": "object", "mesh": 0}
    writer.json |= {
        "extensionsUsed": [UNLIT],
        "materials": [_material(writer, mesh.texture)],
        "meshes": [entry],
        "nodes": [node],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    if rig is not None:
        primitive["attributes"] |= skin_attributes(writer, rig.weights)
        node["skin"] = 0
        writer.json["scenes"][0]["nodes"].append(len(writer.json["nodes"]))
        add_skeleton(writer, rig if motion is None else _moved(rig, motion), seconds)
    elif len(positions) > 1:
        names = [f"frame_{frame:04d}" for frame in range(1, len(positions))]
        base = base.astype(np.float32)  # so that the targets make up for its rounding
        primitive["targets"] = [
            _shape(writer, now - base, direction - base_normals)
            for now, direction in zip(positions[1:], normals[1:], strict=True)
        ]
        entry["weights"] = [0.0] * len(names)
        extras["targetNames"] = names
        writer.json["animations"] = [_animation(writer, seconds)]
        if motion is not None:
            move_node(writer, 0, motion.poses)
    if motion is not None:
        add_camera(writer, motion.camera, float(np.linalg.norm(np.ptp(positions[0], axis=0))))
    return writer.glb()


def _moved(rig: Rig, motion: RootMotion) -> Rig:
    """Move all joints with the object; relative to its parent, only the root moves."""
    poses = motion.poses[:, None] @ rig.skeleton.poses
    return rig._replace(skeleton=rig.skeleton._replace(poses=poses))


def mesh_from_glb(data: bytes, seconds: np.ndarray | None = None) -> AnimatedMesh:
    """Decode a GLB that `glb_from_mesh` encoded, in the axes of the file.

    Args:
        data: content of the file.
        seconds: times in its animation, [T]; None: those of its frames.

    Raises:
        InputError: The data is not such a GLB.
    """
    glb = read_glb(data)
    try:
        primitive = glb.json["meshes"][0]["primitives"][0]
        attributes = primitive["attributes"]
        played = play(glb, frame_times_of(glb) if seconds is None else seconds)
        faces = glb.array(primitive["indices"]).astype(np.int64).reshape(-1, 3)
        uv = colors = texture = None
        if "TEXCOORD_0" in attributes:
            uv = glb.array(attributes["TEXCOORD_0"])
            image = glb.view(glb.json["images"][0]["bufferView"])
            texture = decode_image(image, TEXTURE_FORMATS, mode="RGB")
        if "COLOR_0" in attributes:
            colors = srgb_from_linear(glb.array(attributes["COLOR_0"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"expected a GLB with a mesh as exported by fourdvd ({error!r})"
        ) from error
    return AnimatedMesh(
        played.positions,
        played.normals,
        played.rest,
        played.rest_normals,
        faces,
        vertex_colors=colors,
        uv=uv,
        texture=texture,
    )


def rest_time_of(data: bytes) -> float | None:
    """Return the time of the pose in which the mesh of a GLB was extracted; None: canonical."""
    return read_glb(data).json["meshes"][0]["extras"]["restTime"]


def _is_rigged(scene: Scene, times: np.ndarray, options: ExportOptions) -> bool:
    bones = isinstance(scene.deformation, BoneDeformation)
    return bones and len(times) > 1 and options.animation == "auto"


def _mapped(mesh: AnimatedMesh, similarity: Similarity) -> AnimatedMesh:
    return mesh._replace(
        positions=similarity.points(mesh.positions), rest=similarity.points(mesh.rest)
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
    return mesh._replace(
        positions=mesh.positions @ rotation.T,
        normals=mesh.normals @ rotation.T,
        rest=mesh.rest @ rotation.T,
        rest_normals=mesh.rest_normals @ rotation.T,
    )


def _shape(writer: GlbWriter, positions: np.ndarray, normals: np.ndarray) -> dict[str, int]:
    """Write positions and normals, of the base mesh or of a morph target."""
    return {
        "POSITION": writer.accessor(positions.astype(np.float32), ARRAY_BUFFER, bounds=True),
        "NORMAL": writer.accessor(normals.astype(np.float32), ARRAY_BUFFER),
    }


def _surface_attributes(writer: GlbWriter, mesh: AnimatedMesh) -> dict[str, int]:
    """Write the texture coordinates (16 bits) or the colors of the vertices."""
    attributes = {}
    if mesh.uv is not None:
        levels = np.rint(LEVELS_OF_UV * np.clip(mesh.uv, 0, 1)).astype(np.uint16)
        attributes["TEXCOORD_0"] = writer.accessor(levels, ARRAY_BUFFER, normalized=True)
    if mesh.vertex_colors is not None:
        linear = linear_from_srgb(mesh.vertex_colors).astype(np.float32)
        attributes["COLOR_0"] = writer.accessor(linear, ARRAY_BUFFER)
    return attributes


def _indices(mesh: AnimatedMesh) -> np.ndarray:
    """Return the indices of all triangles, with 16 bits where those suffice."""
    small = mesh.rest.shape[0] < 2**16  # the index 65535 is reserved
    return mesh.faces.astype(np.uint16 if small else np.uint32).ravel()


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
        data = encode_image(texture, ".jpg", quality=JPEG_QUALITY, subsampling=0)
        view = writer.buffer_view(data)
        filters = {"magFilter": LINEAR_FILTER, "minFilter": LINEAR_FILTER}
        wraps = {"wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE}
        writer.json |= {
            "images": [{"name": "baked", "mimeType": "image/jpeg", "bufferView": view}],
            "samplers": [filters | wraps],
            "textures": [{"sampler": 0, "source": 0}],
        }
        surface["baseColorTexture"] = {"index": 0}
    return {"name": "baked light", "pbrMetallicRoughness": surface, "extensions": {UNLIT: {}}}
