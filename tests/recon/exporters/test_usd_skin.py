"""A skinned mesh in USD, evaluated by OpenUSD, moves as its rig does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recon.deformation.bones import BoneDeformation
from recon.errors import InputError
from recon.exporters.folder import export
from recon.exporters.options import ExportOptions
from recon.exporters.usd import mesh_from_usd, usd_from_mesh
from recon.exporters.usd_skin import joint_paths
from recon.exporters.usd_stage import pxr
from recon.exporters.verification import verify_export
from recon.mesh.animated_mesh import AnimatedMesh
from recon.mesh.rig import Rig
from recon.mesh.skeleton import rigid_inverse
from tests.recon.mesh.test_skeleton import FRAMES, REST, arm, built
from tests.recon.player.conftest import make_scene

Usd: Any = pytest.importorskip("pxr.Usd", reason="needs the extra [formats]")
CODES = np.arange(FRAMES, dtype=float)


def rigged() -> tuple[AnimatedMesh, Rig]:
    """The arm as a mesh of loose triangles."""
    _, weights, positions = arm()
    skeleton = built()
    of_joints = np.zeros((len(REST), len(skeleton.names)))
    of_joints[:, 1:] = weights[:, skeleton.bones[1:]]
    up = np.tile([0.0, 0, 1], (len(REST), 1))
    faces = np.arange(len(REST)).reshape(-1, 3)
    colors = np.full((len(REST), 3), 0.5)
    normals = np.tile(up, (FRAMES, 1, 1))
    mesh = AnimatedMesh(positions, normals, REST, up, faces, vertex_colors=colors)
    return mesh, Rig(skeleton, of_joints)


def opened(data: bytes, folder: Path) -> Any:
    path = folder / "mesh.usdz"
    path.write_bytes(data)
    return Usd.Stage.Open(str(path))


def test_openusd_moves_the_vertices_as_the_rig_does():
    mesh, rig = rigged()
    found, rest_time = mesh_from_usd(usd_from_mesh(mesh, CODES, 24.0, "Z", rig, 0.5), CODES)
    motions = rig.skeleton.poses @ rigid_inverse(rig.skeleton.rest)
    points = np.column_stack([REST, np.ones(len(REST))])
    expected = np.einsum("pj,tjab,pb->tpa", rig.weights, motions[..., :3, :], points)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(found, mesh.positions, atol=2e-6)
    assert rest_time == 0.5


def test_a_rotation_goes_the_short_way_between_the_frames():
    mesh, rig = rigged()
    data = usd_from_mesh(mesh, CODES, 24.0, "Z", rig)
    found, _ = mesh_from_usd(data, np.array([2.0, 2.5, 3.0]))
    middle = (found[0] + found[2]) / 2
    assert np.abs(found[1] - middle).max() < 0.02


def test_the_mesh_is_bound_below_a_root_of_skeletons(tmp_path: Path):
    UsdGeom, UsdSkel = pxr("UsdGeom"), pxr("UsdSkel")
    mesh, rig = rigged()
    stage = opened(usd_from_mesh(mesh, CODES, 24.0, "Z", rig), tmp_path)
    root = stage.GetDefaultPrim()
    assert UsdSkel.Root(root)
    skeleton = UsdSkel.Skeleton(root.GetChild("skeleton"))
    assert list(skeleton.GetJointsAttr().Get()) == joint_paths(rig.skeleton)
    shape = UsdGeom.Mesh(root.GetChild("mesh"))
    np.testing.assert_allclose(shape.GetPointsAttr().Get(), REST, atol=1e-6)
    assert not shape.GetPointsAttr().GetTimeSamples()
    weights = UsdSkel.BindingAPI(shape.GetPrim()).GetJointWeightsPrimvar()
    sums = np.array(weights.Get()).reshape(-1, weights.GetElementSize()).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    low, high = UsdGeom.Boundable(root).GetExtentAttr().Get(3.0)
    np.testing.assert_allclose(low, mesh.positions[3].min(axis=0), atol=1e-6)
    np.testing.assert_allclose(high, mesh.positions[3].max(axis=0), atol=1e-6)


def test_joints_have_paths_that_usd_allows():
    paths = joint_paths(built())
    assert paths[:2] == ["root", "root/body"]
    assert len(set(paths)) == len(paths)
    assert all(pxr("Sdf").Path(path).IsPrimPath() for path in paths)


def test_a_skinned_stage_passes_the_validators_of_openusd(tmp_path: Path):
    validation = pytest.importorskip("pxr.UsdValidation")
    mesh, rig = rigged()
    stage = opened(usd_from_mesh(mesh, CODES, 24.0, "Z", rig), tmp_path)
    validators = validation.ValidationRegistry().GetOrLoadAllValidators()
    found = validation.ValidationContext(validators).Validate(stage)
    assert not [error.GetMessage() for error in found]


def test_a_mesh_without_its_skeleton_is_refused(tmp_path: Path):
    mesh, rig = rigged()
    stage = opened(usd_from_mesh(mesh, CODES, 24.0, "Z", rig), tmp_path)
    stage.RemovePrim("/scene/skeleton")
    layer = tmp_path / "mesh.usdc"
    stage.GetRootLayer().Export(str(layer))
    package = tmp_path / "other.usdz"
    pxr("UsdUtils").CreateNewUsdzPackage(pxr("Sdf").AssetPath(str(layer)), str(package))
    with pytest.raises(InputError, match="skeleton"):
        mesh_from_usd(package.read_bytes(), CODES)


@pytest.mark.slow
def test_verification_compares_the_skin_with_the_scene(tmp_path: Path):
    scene = make_scene("bones", count=300)
    assert isinstance(scene.deformation, BoneDeformation)
    small = ExportOptions(faces=600, texture_size=64, resolution=40)
    export(scene, tmp_path, ["usd", "glb"], small)
    found = verify_export(scene, tmp_path)
    usd, glb = found["usd"].mean_vertex_error, found["glb"].mean_vertex_error
    assert usd == pytest.approx(glb, rel=0.01)
