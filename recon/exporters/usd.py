"""USD: the moving Gaussians in one file, and the animated textured mesh in another.

`splats.usdc` has a `ParticleField3DGaussianSplat`, `mesh.usdz` a `Mesh` with its texture, which a
skeleton moves if the scene moves by bones. What changes has a time sample per frame, between which
USD interpolates; the rest is written once. Letters: T frames, N Gaussians, K higher harmonics,
P vertices. Axes: those that a stage can name, +Y up or +Z up.

Source: openusd.org, user guide of UsdVol, schema ParticleField3DGaussianSplat, OpenUSD 26.11.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.exporters.conventions import (
    exported_motion,
    frame_seconds,
    rotate_gaussians,
    rotation_to,
)
from recon.exporters.glb_mesh import JPEG_QUALITY, export_mesh
from recon.exporters.options import ExportOptions
from recon.exporters.root_motion import RootMotion
from recon.exporters.usd_camera import add_root_motion
from recon.exporters.usd_skin import add_skeleton, skinned_points
from recon.exporters.usd_stage import (
    ROOT,
    array_of,
    new_stage,
    opened,
    pxr,
    set_over_time,
    writing,
)
from recon.gaussians import Gaussians
from recon.media import encode_image
from recon.mesh.animated_mesh import AnimatedMesh
from recon.mesh.rig import Rig
from recon.output import temporary_folder
from recon.progress import OnStep, ignore_progress
from recon.scene import Scene
from recon.srgb import linear_from_srgb

SPLATS, MESH = "splats.usdc", "mesh.usdz"
SPLATS_PATH, MESH_PATH = f"{ROOT}/splats", f"{ROOT}/mesh"
EXTENT_SIGMAS = 3.0
REST_TIME = "restTime"


def usd_files(
    scene: Scene, times: np.ndarray, options: ExportOptions, on_step: OnStep = ignore_progress
) -> Iterator[tuple[str, bytes]]:
    """Yield the stage with the Gaussians, and the package with the mesh.

    Raises:
        InputError: The axes have neither +Y nor +Z up.
        BackendError: The installed OpenUSD is older than the schema of Gaussians.
        SceneError: The Gaussians enclose no surface.
    """
    axes = options.axes_of("usd")
    rotation = rotation_to(axes, scene.R_world_source)
    up = up_axis(rotation.numpy(), axes)
    codes = scene.fps * frame_seconds(scene, times)
    with torch.no_grad():
        frames = [rotate_gaussians(scene.at(float(time)), rotation) for time in times]
    motion = exported_motion(scene, times, options, "usd")
    yield SPLATS, usd_from_gaussians(frames, codes, scene.fps, up, motion)
    mesh, rig, rest_time = export_mesh(scene, times, options, axes, on_step)
    yield MESH, usd_from_mesh(mesh, codes, scene.fps, up, rig, rest_time, motion)


def up_axis(rotation: np.ndarray, axes: str) -> str:
    """Return the name of the axis that points up, "Y" or "Z".

    Args:
        rotation: rotation from the world to the axes, [3, 3].
        axes: their name, for the message.

    Raises:
        InputError: It is neither +Y nor +Z.
    """
    up = rotation @ np.array([0.0, 0.0, 1.0])
    for name, axis in (("Y", [0, 1, 0]), ("Z", [0, 0, 1])):
        if np.allclose(up, axis, atol=1e-6):
            return name
    raise InputError(f"expected y-up or z-up axes for USD, found {axes}; it can name no others")


def usd_from_gaussians(
    frames: Sequence[Gaussians],
    codes: np.ndarray,
    fps: float,
    up: str,
    motion: RootMotion | None = None,
) -> bytes:
    """Encode moving Gaussians as a stage; inverse of `gaussians_from_usd`.

    Args:
        frames: the Gaussians at each time, T of N.
        codes: time codes, ascending from 0, [T].
        fps: time codes per second.
        up: "Y" or "Z".
        motion: motion of the object at the time codes and camera of the video, in the same axes;
            the root of the stage carries it.
    """
    UsdVol, Vt = pxr("UsdVol"), pxr("Vt")
    stage = new_stage(codes, fps, up, pxr("UsdGeom").Xform)
    splats = UsdVol.ParticleField3DGaussianSplat.Define(stage, SPLATS_PATH)
    degree = frames[0].sh_degree
    splats.CreateRadianceSphericalHarmonicsDegreeAttr(degree)
    values = [_particles(gaussians) for gaussians in frames]
    attributes = {
        "means": (splats.CreatePositionsAttr(), Vt.Vec3fArray),
        "quats": (splats.CreateOrientationsAttr(), Vt.QuatfArray),
        "scales": (splats.CreateScalesAttr(), Vt.Vec3fArray),
        "opacities": (splats.CreateOpacitiesAttr(), Vt.FloatArray),
        "sh": (splats.CreateRadianceSphericalHarmonicsCoefficientsAttr(), Vt.Vec3fArray),
        "extent": (splats.CreateExtentAttr(), Vt.Vec3fArray),
    }
    for name, (attribute, kind) in attributes.items():
        set_over_time(attribute, kind, [value[name] for value in values], codes)
    if motion is not None:
        add_root_motion(stage, motion, codes, _size(values[0]["extent"]))
    with temporary_folder() as folder, writing():
        path = folder / SPLATS
        stage.GetRootLayer().Export(str(path))
        return path.read_bytes()


def gaussians_from_usd(data: bytes, frame: int) -> Gaussians:
    """Decode the Gaussians of one frame of a stage that `usd_from_gaussians` encoded.

    Raises:
        InputError: The data is no stage with Gaussians, or has fewer frames.
    """
    UsdVol = pxr("UsdVol")
    with temporary_folder() as folder:
        stage = opened(data, folder / SPLATS)  # kept, because prims do not keep it
        splats = UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath(SPLATS_PATH))
        if not splats:
            raise InputError(f"expected Gaussians at {SPLATS_PATH} of the USD stage")
        codes = splats.GetPositionsAttr().GetTimeSamples()
        if codes and frame >= len(codes):
            raise InputError(f"expected at least {frame + 1} frames in USD, found {len(codes)}")
        code = codes[frame] if codes else 0.0

        def values(attribute: Any) -> torch.Tensor:
            return torch.from_numpy(np.array(attribute.Get(code), dtype=np.float32))

        quats = splats.GetOrientationsAttr().Get(code)
        means = values(splats.GetPositionsAttr())
        sh = values(splats.GetRadianceSphericalHarmonicsCoefficientsAttr())
        sh = sh.reshape(len(means), -1, 3)
        return Gaussians(
            means=means,
            quats=torch.tensor([[q.GetReal(), *q.GetImaginary()] for q in quats]),
            scales=values(splats.GetScalesAttr()).log(),
            opacities=torch.logit(values(splats.GetOpacitiesAttr()), eps=1e-6),
            sh0=sh[:, :1],
            shN=sh[:, 1:],
        )


def usd_from_mesh(
    mesh: AnimatedMesh,
    codes: np.ndarray,
    fps: float,
    up: str,
    rig: Rig | None = None,
    rest_time: float | None = None,
    motion: RootMotion | None = None,
) -> bytes:
    """Encode an animated mesh as a package with its texture; inverse of `mesh_from_usd`.

    Args:
        mesh: mesh in the axes of the file.
        codes: time codes, ascending from 0, [T].
        fps: time codes per second.
        up: "Y" or "Z".
        rig: skeleton, in the same axes, and weights that move the mesh; None: its points have time
            samples.
        rest_time: noted as `restTime` in the layer's custom data; None: nothing is.
        motion: see `usd_from_gaussians`.
    """
    UsdGeom, UsdSkel, UsdUtils = pxr("UsdGeom"), pxr("UsdSkel"), pxr("UsdUtils")
    Sdf, Vt = pxr("Sdf"), pxr("Vt")
    stage = new_stage(codes, fps, up, UsdGeom.Xform if rig is None else UsdSkel.Root)
    if rest_time is not None:
        stage.GetRootLayer().customLayerData = {REST_TIME: float(rest_time)}
    shape = UsdGeom.Mesh.Define(stage, MESH_PATH)
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    counts = np.full(len(mesh.faces), 3, np.int32)
    shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(counts))
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.astype(np.int32).ravel()))
    points, normals = list(mesh.positions), list(mesh.normals)
    if rig is not None:
        extents = UsdGeom.Boundable(stage.GetDefaultPrim()).CreateExtentAttr()
        set_over_time(extents, Vt.Vec3fArray, [_box(frame) for frame in points], codes)
        points, normals = [mesh.rest], [mesh.rest_normals]
        add_skeleton(stage, shape, rig, codes)
    set_over_time(shape.CreatePointsAttr(), Vt.Vec3fArray, points, codes)
    set_over_time(shape.CreateNormalsAttr(), Vt.Vec3fArray, normals, codes)
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    boxes = [_box(frame) for frame in points]
    set_over_time(shape.CreateExtentAttr(), Vt.Vec3fArray, boxes, codes)
    _add_colors(stage, shape, mesh)
    if motion is not None:
        add_root_motion(stage, motion, codes, _size(_box(mesh.positions[0])))
    with temporary_folder() as folder, writing():
        layer, package = folder / "mesh.usdc", folder / MESH
        if mesh.texture is not None:
            jpeg = encode_image(mesh.texture, ".jpg", quality=JPEG_QUALITY, subsampling=0)
            (folder / "texture.jpg").write_bytes(jpeg)
        stage.GetRootLayer().Export(str(layer))
        UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(layer)), str(package))
        return package.read_bytes()


def mesh_from_usd(data: bytes, codes: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Decode the moving vertices of a package that `usd_from_mesh` encoded.

    A skeleton is evaluated by OpenUSD.

    Args:
        data: content of the file.
        codes: time codes, [T]; between its samples USD interpolates.

    Returns:
        Positions in the axes of the file, [T, P, 3], and the rest time of the mesh, if noted.

    Raises:
        InputError: The data is no such package.
    """
    UsdGeom, UsdSkel = pxr("UsdGeom"), pxr("UsdSkel")
    with temporary_folder() as folder:
        stage = opened(data, folder / MESH)
        shape = UsdGeom.Mesh(stage.GetPrimAtPath(MESH_PATH))
        if not shape:
            raise InputError(f"expected a mesh at {MESH_PATH} of the USD package")
        rest_time = stage.GetRootLayer().customLayerData.get(REST_TIME)
        if UsdSkel.Root(stage.GetDefaultPrim()):
            return skinned_points(stage, shape, codes), rest_time
        points = shape.GetPointsAttr()
        return np.stack([np.array(points.Get(float(code))) for code in codes]), rest_time


def _box(points: np.ndarray) -> np.ndarray:
    """Return the lower and the upper corner of the box around points [P, 3], [2, 3]."""
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _size(box: np.ndarray) -> float:
    return float(np.linalg.norm(box[1] - box[0]))


def _particles(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Convert parameters to those of the schema: linear scales, opacities in [0, 1]."""
    g = gaussians.map(lambda tensor: tensor.detach().float().cpu())
    means, scales = g.means.numpy(), g.scales.exp().numpy()
    reach = EXTENT_SIGMAS * scales.max(axis=1, keepdims=True)
    return {
        "means": means,
        "quats": F.normalize(g.quats, dim=-1).numpy(),
        "scales": scales,
        "opacities": g.opacities.sigmoid().numpy(),
        "sh": g.sh.reshape(-1, 3).numpy(),
        "extent": np.stack([(means - reach).min(axis=0), (means + reach).max(axis=0)]),
    }


def _add_colors(stage: Any, shape: Any, mesh: AnimatedMesh) -> None:
    """Color the mesh by its vertices, linear, or by an emissive texture, which needs no light."""
    UsdGeom, UsdShade, Sdf, Vt = pxr("UsdGeom"), pxr("UsdShade"), pxr("Sdf"), pxr("Vt")
    if mesh.vertex_colors is not None:
        colors = shape.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
        colors.Set(array_of(Vt.Vec3fArray, linear_from_srgb(mesh.vertex_colors)))
        return
    assert mesh.uv is not None
    types = Sdf.ValueTypeNames
    primvars = UsdGeom.PrimvarsAPI(shape)
    st = primvars.CreatePrimvar("st", types.TexCoord2fArray, UsdGeom.Tokens.vertex)
    st.Set(array_of(Vt.Vec2fArray, mesh.uv * [1, -1] + [0, 1]))  # t is up, v is down
    material = UsdShade.Material.Define(stage, f"{ROOT}/material")

    def shader(name: str, kind: str) -> Any:
        result = UsdShade.Shader.Define(stage, f"{ROOT}/material/{name}")
        result.CreateIdAttr(kind)
        return result

    reader = shader("coordinates", "UsdPrimvarReader_float2")
    reader.CreateInput("varname", types.String).Set("st")
    texture = shader("texture", "UsdUVTexture")
    texture.CreateInput("file", types.Asset).Set(Sdf.AssetPath("./texture.jpg"))
    texture.CreateInput("sourceColorSpace", types.Token).Set("sRGB")
    for wrap in ("wrapS", "wrapT"):
        texture.CreateInput(wrap, types.Token).Set("clamp")
    texture.CreateInput("st", types.Float2).ConnectToSource(
        reader.CreateOutput("result", types.Float2)
    )
    surface = shader("surface", "UsdPreviewSurface")
    surface.CreateInput("emissiveColor", types.Color3f).ConnectToSource(
        texture.CreateOutput("rgb", types.Float3)
    )
    surface.CreateInput("useSpecularWorkflow", types.Int).Set(1)
    for name in ("diffuseColor", "specularColor"):
        surface.CreateInput(name, types.Color3f).Set((0.0, 0.0, 0.0))
    surface.CreateInput("roughness", types.Float).Set(1.0)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)
