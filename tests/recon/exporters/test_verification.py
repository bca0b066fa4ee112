from pathlib import Path

import numpy as np
import pytest

from recon.errors import InputError
from recon.exporters.folder import export
from recon.exporters.options import ExportOptions
from recon.exporters.verification import VerificationError, verify_export
from recon.scene import Scene
from recon.similarity import Similarity

SMALL = ExportOptions(faces=600, texture_size=64, resolution=40)


@pytest.mark.parametrize("scale, place", [(1.0, 0.0), (1e-4, 0.02), (300.0, 2e4)])
def test_renderings_of_every_format_agree_with_the_scene(
    scene: Scene, tmp_path: Path, scale: float, place: float
):
    scene = scene.mapped(Similarity(scale, np.array([place, 0.0, 0.0])))
    export(scene, tmp_path, ["ply", "splat", "glb-splats", "glb", "html"], SMALL)
    results = verify_export(scene, tmp_path)
    assert results["ply"].worst_psnr > 60
    assert results["glb-splats"].worst_psnr > 60
    assert results["splat"].worst_psnr > 40
    assert results["glb"].worst_psnr > 20
    assert results["html"].worst_psnr > 40
    assert results["ply"].images == 12


@pytest.mark.parametrize("axes", ["y-up", "z-up"])
def test_files_with_other_axes_are_rotated_back(scene: Scene, tmp_path: Path, axes: str):
    export(scene, tmp_path, ["ply"], ExportOptions(axes=axes))
    assert verify_export(scene, tmp_path)["ply"].worst_psnr > 60


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
