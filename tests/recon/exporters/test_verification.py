import dataclasses
from pathlib import Path

import numpy as np
import pytest

from recon.errors import InputError, VerificationError
from recon.exporters.folder import export
from recon.exporters.glb_mesh import mesh_from_glb
from recon.exporters.glb_splats import gaussians_from_glb
from recon.exporters.options import ExportOptions
from recon.exporters.ply import gaussians_from_ply
from recon.exporters.splat import gaussians_from_splat
from recon.exporters.verification import verify_export
from recon.grid.orientation import rotation_from_up
from recon.scene import Scene
from recon.similarity import Similarity

SMALL = ExportOptions(faces=600, texture_size=64, resolution=40)


@pytest.mark.parametrize("scale, place", [(1.0, 0.0), (1e-4, 0.02), (300.0, 2e4)])
def test_renderings_of_every_format_agree_with_the_scene(
    scene: Scene, tmp_path: Path, scale: float, place: float
):
    scene = scene.mapped(Similarity(scale, np.array([place, 0.0, 0.0])))
    export(scene, tmp_path, ["ply", "zip", "splat", "glb-splats", "glb", "html"], SMALL)
    results = verify_export(scene, tmp_path)
    assert results["ply"].worst_psnr > 60
    assert results["zip"] == results["ply"]._replace(bytes=results["zip"].bytes)
    assert results["glb-splats"].worst_psnr > 60
    assert results["splat"].worst_psnr > 40
    assert results["glb"].worst_psnr > 20
    assert results["html"].worst_psnr > 40
    assert results["ply"].images == 12


@pytest.mark.parametrize("axes", ["y-up", "z-up", "y-down", "source"])
def test_files_with_other_axes_are_rotated_back(scene: Scene, tmp_path: Path, axes: str):
    scene.R_world_source = rotation_from_up("x")
    options = dataclasses.replace(SMALL, axes=axes, frames=2)
    export(scene, tmp_path, ["ply", "splat", "glb-splats", "glb"], options)
    results = verify_export(scene, tmp_path)
    assert results["ply"].worst_psnr > 60 and results["glb-splats"].worst_psnr > 60
    assert results["splat"].worst_psnr > 40 and results["glb"].worst_psnr > 20


def test_every_format_can_have_the_axes_of_the_fitted_files(scene: Scene, tmp_path: Path):
    """The object is highest along +Z here, which is the source's +X."""
    scene.R_world_source = rotation_from_up("x")
    names = ["ply", "splat", "glb-splats", "glb"]
    export(scene, tmp_path, names, dataclasses.replace(SMALL, axes="source", frames=1))
    read = {
        "ply": lambda data: gaussians_from_ply(data).means.numpy(),
        "splat": lambda data: gaussians_from_splat(data).means.numpy(),
        "glb-splats": lambda data: gaussians_from_glb(data).means.numpy(),
        "glb": lambda data: mesh_from_glb(data).positions[0],
    }
    for name in names:
        (file,) = (tmp_path / name).iterdir()
        extents = np.ptp(read[name](file.read_bytes()), axis=0)
        assert extents[0] > extents[2] > extents[1]  # 0.4, 0.3 and 0.2


def test_files_of_another_scene_fail_the_verification(scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["ply"])
    scene.gaussians = scene.gaussians._replace(scales=scene.gaussians.scales + 0.5)
    with pytest.raises(VerificationError, match="45 dB"):
        verify_export(scene, tmp_path)


def test_a_changed_file_fails_the_verification(scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["splat"])
    (tmp_path / "splat/frame_0002.splat").write_bytes(bytes(32))
    with pytest.raises(VerificationError, match=r"frame_0002\.splat is not the file"):
        verify_export(scene, tmp_path)


def test_a_missing_file_fails_the_verification(scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["splat"])
    (tmp_path / "splat/frame_0002.splat").unlink()
    with pytest.raises(VerificationError, match=r"frame_0002\.splat is missing"):
        verify_export(scene, tmp_path)


def test_a_format_that_was_not_exported_cannot_be_verified(scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["splat"])
    with pytest.raises(InputError, match=r"exported formats .*'ply'"):
        verify_export(scene, tmp_path, ["ply"])
