import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recon.errors import BackendError, InputError
from recon.exporters import packages
from recon.exporters.conventions import frame_seconds, rotation_to
from recon.exporters.folder import export
from recon.exporters.options import ExportOptions
from recon.exporters.root_motion import scene_root_motion
from recon.exporters.usd import (
    gaussians_from_usd,
    mesh_from_usd,
    up_axis,
    usd_files,
    usd_from_gaussians,
    usd_from_mesh,
)
from recon.exporters.verification import verify_export
from recon.gaussians import Gaussians
from recon.mesh.animated_mesh import AnimatedMesh
from recon.rotations import quats_to_matrices
from recon.scene import Scene
from recon.srgb import linear_from_srgb
from tests.recon.exporters.test_root_motion import make_source

REASON = "needs the extra [formats]"
Usd: Any = pytest.importorskip("pxr.Usd", reason=REASON)
UsdGeom: Any = pytest.importorskip("pxr.UsdGeom", reason=REASON)
UsdShade: Any = pytest.importorskip("pxr.UsdShade", reason=REASON)
UsdVol: Any = pytest.importorskip("pxr.UsdVol", reason=REASON)

SMALL = ExportOptions(faces=600, texture_size=64, resolution=40)
CODES = np.array([0.0, 2.0])


def opened(data: bytes, path: Path) -> Any:
    path.write_bytes(data)
    return Usd.Stage.Open(str(path))


def square() -> AnimatedMesh:
    """Two textured triangles that face +Z and move by 1 along +X."""
    corners = np.array([[0.0, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]])
    normals = np.tile([0.0, 0, 1], (4, 1))
    moved = corners + np.array([1.0, 0, 0])
    return AnimatedMesh(
        np.stack([corners, moved]), np.stack([normals, normals]), corners, normals,
        np.array([[0, 1, 2], [0, 2, 3]]), uv=corners[:, :2] * [1, -1] + [0, 1],
        texture=np.full((16, 16, 3), 200, np.uint8),
    )  # fmt: skip


def test_what_is_written_is_read_again(random_gaussians: Gaussians):
    moved = random_gaussians._replace(means=random_gaussians.means + 1)
    data = usd_from_gaussians([random_gaussians, moved], CODES, 24.0, "Y")
    for frame, expected in enumerate((random_gaussians, moved)):
        found = gaussians_from_usd(data, frame)
        torch.testing.assert_close(found.means, expected.means)
        torch.testing.assert_close(found.scales, expected.scales)
        torch.testing.assert_close(found.sh, expected.sh)
        torch.testing.assert_close(found.opacities, expected.opacities, atol=1e-4, rtol=0)
        turns = quats_to_matrices(found.quats), quats_to_matrices(expected.quats)
        torch.testing.assert_close(*turns, atol=1e-5, rtol=0)


def test_a_stage_has_the_attributes_of_the_schema(random_gaussians: Gaussians, tmp_path: Path):
    """Read through the schema itself: units, order and layout, not our reader."""
    moved = random_gaussians._replace(means=random_gaussians.means + 1)
    file = tmp_path / "splats.usdc"
    file.write_bytes(usd_from_gaussians([random_gaussians, moved], CODES, 24.0, "Y"))
    stage = Usd.Stage.Open(str(file))
    splats = UsdVol.ParticleField3DGaussianSplat(stage.GetDefaultPrim().GetChild("splats"))
    assert splats.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 3
    assert splats.GetPositionsAttr().GetTimeSamples() == [0.0, 2.0]
    assert not splats.GetScalesAttr().GetTimeSamples()
    first = random_gaussians.map(lambda tensor: tensor[0])
    assert np.allclose(splats.GetScalesAttr().Get()[0], first.scales.exp())
    assert np.isclose(splats.GetOpacitiesAttr().Get()[0], first.opacities.sigmoid())
    coefficients = splats.GetRadianceSphericalHarmonicsCoefficientsAttr().Get()
    assert len(coefficients) == 16 * 50
    assert np.allclose(coefficients[:16], torch.cat([first.sh0, first.shN]))
    quat = splats.GetOrientationsAttr().Get()[0]
    wxyz = first.quats / first.quats.norm()
    assert np.allclose([quat.GetReal(), *quat.GetImaginary()], wxyz, atol=1e-6)
    halfway = np.array(splats.GetPositionsAttr().Get(1.0))
    assert np.allclose(halfway, random_gaussians.means + 0.5, atol=1e-6)


@pytest.mark.parametrize("up", ["Y", "Z"])
@pytest.mark.parametrize("name", ["splats", "mesh"])
def test_a_stage_names_its_units(random_gaussians: Gaussians, tmp_path: Path, name: str, up: str):
    if name == "splats":
        data, suffix = usd_from_gaussians([random_gaussians] * 2, CODES, 24.0, up), "usdc"
    else:
        data, suffix = usd_from_mesh(square(), CODES, 24.0, up), "usdz"
    stage = opened(data, tmp_path / f"{name}.{suffix}")
    assert UsdGeom.GetStageUpAxis(stage) == up
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert stage.GetTimeCodesPerSecond() == stage.GetFramesPerSecond() == 24
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, 2)
    low, high = UsdGeom.Boundable(stage.GetPrimAtPath(f"/scene/{name}")).GetExtentAttr().Get(0.0)
    assert all(np.array(low) <= np.array(high))


@pytest.mark.parametrize("axes, up", [("y-up", "Y"), ("z-up", "Z")])
def test_axes_are_named_by_what_points_up(axes: str, up: str):
    assert up_axis(rotation_to(axes).numpy(), axes) == up


def test_a_stage_passes_the_validators_of_openusd(tmp_path: Path, random_gaussians: Gaussians):
    validation = pytest.importorskip("pxr.UsdValidation")
    validators = validation.ValidationRegistry().GetOrLoadAllValidators()
    context = validation.ValidationContext(validators)
    for data, suffix in (
        (usd_from_gaussians([random_gaussians], CODES[:1], 24.0, "Y"), "usdc"),
        (usd_from_mesh(square(), CODES, 24.0, "Y"), "usdz"),
    ):
        found = context.Validate(opened(data, tmp_path / f"scene.{suffix}"))
        assert not [error.GetMessage() for error in found]


def test_the_mesh_has_a_texture_that_needs_no_light(tmp_path: Path):
    stage = opened(usd_from_mesh(square(), CODES, 24.0, "Y"), tmp_path / "mesh.usdz")
    prim = stage.GetPrimAtPath("/scene/mesh")
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    surface = UsdShade.Shader(material.ComputeSurfaceSource()[0].GetPrim())
    (connected,), _ = surface.GetInput("emissiveColor").GetConnectedSources()
    asset = UsdShade.Shader(connected.source.GetPrim()).GetInput("file").Get()
    assert asset.resolvedPath.endswith("mesh.usdz[texture.jpg]")
    st = UsdGeom.PrimvarsAPI(prim).GetPrimvar("st").Get()
    assert np.allclose(st[0], [0, 1])  # the texture's upper left


def test_vertex_colors_are_linear(tmp_path: Path):
    colors = np.full((4, 3), 0.8)
    mesh = square()._replace(uv=None, texture=None, vertex_colors=colors)
    stage = opened(usd_from_mesh(mesh, CODES, 24.0, "Y"), tmp_path / "mesh.usdz")
    found = UsdGeom.Mesh(stage.GetPrimAtPath("/scene/mesh")).GetDisplayColorAttr().Get()
    assert np.allclose(found, linear_from_srgb(colors))


def test_vertices_move_between_the_frames():
    data = usd_from_mesh(square(), CODES, 24.0, "Y", rest_time=0.5)
    positions, rest_time = mesh_from_usd(data, np.array([0.0, 1.0, 2.0]))
    expected = square().positions
    assert np.allclose(positions, [expected[0], expected.mean(axis=0), expected[1]])
    assert rest_time == 0.5
    assert mesh_from_usd(usd_from_mesh(square(), CODES, 24.0, "Y"), CODES)[1] is None


@pytest.mark.slow
def test_renderings_and_vertices_agree_with_the_scene(scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["usd"], SMALL)
    result = verify_export(scene, tmp_path)["usd"]
    assert result.worst_psnr > 60
    assert result.mean_vertex_error is not None and result.mean_vertex_error < 0.002


def test_other_axes_and_other_data_are_refused(scene: Scene, tmp_path: Path):
    with pytest.raises(InputError, match="y-up or z-up"):
        export(scene, tmp_path / "out", ["usd"], ExportOptions(axes="y-down"))
    assert not (tmp_path / "out/usd").exists()
    with pytest.raises(InputError, match="y-up or z-up"):
        up_axis(np.diag([1.0, -1.0, -1.0]), "source")
    for data in (b"", b"none"):
        with pytest.raises(InputError, match="USD"):
            gaussians_from_usd(data, 0)
        with pytest.raises(InputError, match="USD"):
            mesh_from_usd(data, CODES)


def test_a_missing_package_is_reported(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match="pxr") as caught:
        export(scene, tmp_path / "out", ["usd"])
    assert caught.value.hint == "pip install 'fourdvd[formats]'"


def test_the_root_moves_in_front_of_the_camera_of_the_video(scene: Scene, tmp_path: Path):
    source = make_source(2, T=len(scene.times))
    scene = dataclasses.replace(scene, source_camera=source)
    points = scene.gaussians.means.double().numpy()
    motion = scene_root_motion(scene, scene.times)
    assert motion is not None
    files = dict(usd_files(scene, scene.times, dataclasses.replace(SMALL, axes="z-up")))
    codes = scene.fps * frame_seconds(scene, scene.times)
    for name, data in files.items():
        stage = opened(data, tmp_path / name)
        root, camera = stage.GetDefaultPrim(), UsdGeom.Camera(stage.GetPrimAtPath("/source"))
        for frame, code in enumerate(codes):
            lens = camera.GetCamera(float(code))
            to_clip = lens.frustum.ComputeViewMatrix() * lens.frustum.ComputeProjectionMatrix()
            placed = UsdGeom.XformCache(float(code)).GetLocalToWorldTransform(root)
            rows = np.concatenate([points, np.ones((len(points), 1))], axis=1)
            clip = rows @ np.array(placed) @ np.array(to_clip)
            device = clip[:, :2] / clip[:, 3:]
            size = np.array([source.camera.width, source.camera.height])
            found = (device * [1, -1] + 1) / 2 * size
            pose = motion.poses[frame]
            expected, _ = motion.camera.project(points @ pose[:3, :3].T + pose[:3, 3])
            np.testing.assert_allclose(found, expected, atol=0.01)
    still = dataclasses.replace(SMALL, root_motion=False)
    stage = opened(next(usd_files(scene, scene.times, still))[1], tmp_path / "still.usdc")
    assert not stage.GetPrimAtPath("/source")
