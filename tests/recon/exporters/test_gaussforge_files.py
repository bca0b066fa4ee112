import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from recon.errors import BackendError, InputError, SceneError
from recon.exporters import packages
from recon.exporters.conventions import rotate_gaussians, rotation_to
from recon.exporters.folder import export
from recon.exporters.gaussforge_files import (
    SPZ_HEADER,
    compressed_ply_from_gaussians,
    gaussians_from_compressed_ply,
    gaussians_from_sog,
    gaussians_from_spz,
    sog_from_gaussians,
    spz_from_gaussians,
)
from recon.exporters.options import ExportOptions
from recon.exporters.ply import gaussians_from_ply
from recon.exporters.verification import verify_export
from recon.gaussians import Gaussians
from recon.rotations import quats_to_matrices
from recon.scene import Scene

TRANSFORM = Path(__file__).parent / "readers/node_modules/@playcanvas/splat-transform/bin/cli.mjs"
FORMATS = {
    "spz": (spz_from_gaussians, gaussians_from_spz),
    "sog": (sog_from_gaussians, gaussians_from_sog),
    "compressed-ply": (compressed_ply_from_gaussians, gaussians_from_compressed_ply),
}


def of_degree(gaussians: Gaussians, degree: int) -> Gaussians:
    return gaussians._replace(shN=gaussians.shN[:, : (degree + 1) ** 2 - 1].clamp(-0.9, 0.9))


def covariances(gaussians: Gaussians) -> torch.Tensor:
    turns = quats_to_matrices(gaussians.quats)
    return turns @ torch.diag_embed((2 * gaussians.scales).exp()) @ turns.transpose(1, 2)


def assert_same(found: Gaussians, expected: Gaussians) -> None:
    """Compare Gaussians in any order, up to the quantization of the formats."""
    order = torch.cdist(expected.means, found.means).argmin(dim=1)
    assert len(set(order.tolist())) == len(expected.means)
    found = found.map(lambda tensor: tensor[order])
    assert (found.means - expected.means).abs().max() < 2e-3
    size = covariances(expected).abs().amax(dim=(1, 2))
    assert ((covariances(found) - covariances(expected)).abs().amax(dim=(1, 2)) / size).max() < 0.1
    opacities = found.opacities.sigmoid(), expected.opacities.sigmoid()
    torch.testing.assert_close(*opacities, atol=0.004, rtol=0)
    torch.testing.assert_close(found.sh0, expected.sh0, atol=0.02, rtol=0)
    torch.testing.assert_close(found.shN, expected.shN, atol=0.08, rtol=0)


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_again(random_gaussians: Gaussians, name: str, degree: int):
    pytest.importorskip("gaussforge", reason="needs the extra [formats]")
    encode, decode = FORMATS[name]
    gaussians = of_degree(random_gaussians, degree)
    assert_same(decode(encode(gaussians)), gaussians)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("node") is None or not TRANSFORM.is_file(),
    reason="needs Node.js and `npm ci --prefix tests/recon/exporters/readers`",
)
@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_splat_transform_reads_the_same(
    random_gaussians: Gaussians, tmp_path: Path, name: str, degree: int
):
    """It reads every format to the axes of a PLY, so this also checks the axes of SPZ."""
    pytest.importorskip("gaussforge", reason="needs the extra [formats]")
    world = of_degree(random_gaussians, degree)
    file = tmp_path / f"scene.{name.replace('-', '.')}"
    encode, _ = FORMATS[name]
    file.write_bytes(encode(rotate_gaussians(world, rotation_to(ExportOptions().axes_of(name)))))
    command = ["node", TRANSFORM, "-w", file, tmp_path / "read.ply"]
    subprocess.run(command, check=True, capture_output=True)
    read = gaussians_from_ply((tmp_path / "read.ply").read_bytes())
    assert_same(read, rotate_gaussians(world, rotation_to("y-down")))


def test_renderings_agree_with_the_scene(scene: Scene, tmp_path: Path):
    pytest.importorskip("gaussforge", reason="needs the extra [formats]")
    export(scene, tmp_path, list(FORMATS), ExportOptions(frames=2))
    for result in verify_export(scene, tmp_path).values():
        assert result.worst_psnr > 40


def tiny_spz(version: int = 3) -> bytes:
    """One Gaussian at (1, −0.5, 0.25), turned by a quarter about +z, gray, opaque."""
    header = np.zeros(1, SPZ_HEADER)
    header["magic"], header["version"], header["count"] = b"NGSP", version, 1
    header["fraction_bits"] = 12
    means = b"".join(int(4096 * x).to_bytes(3, "little", signed=True) for x in (1, -0.5, 0.25))
    rotation = (3 << 30 | 511).to_bytes(4, "little")  # w is left out, x = y = 0, z = √½
    content = header.tobytes() + means + bytes([255, 128, 128, 128, 80, 96, 112]) + rotation
    return gzip.compress(content)


def test_spz_is_read_as_specified():
    """Independent of the package: bytes written by hand from the specification."""
    found = gaussians_from_spz(tiny_spz())
    np.testing.assert_allclose(found.means, [[1, -0.5, 0.25]])
    np.testing.assert_allclose(found.scales, [[-5, -4, -3]])
    np.testing.assert_allclose(found.quats, [[np.sqrt(0.5), 0, 0, np.sqrt(0.5)]], atol=1e-6)
    np.testing.assert_allclose(found.sh0, 0.0, atol=0.02)
    assert found.opacities[0].sigmoid() > 0.999


@pytest.mark.parametrize(
    "data",
    [b"", b"none", tiny_spz(4), gzip.compress(b"NGSP"), tiny_spz()[:-9]],
    ids=["empty", "text", "another-version", "only-a-name", "truncated"],
)
def test_other_data_is_not_read_as_spz(data: bytes):
    with pytest.raises(InputError, match="SPZ"):
        gaussians_from_spz(data)


@pytest.mark.parametrize("scale", [1e-3, 1e5])
def test_an_object_beyond_the_steps_of_spz_is_refused(random_gaussians: Gaussians, scale: float):
    far = random_gaussians._replace(means=scale * random_gaussians.means)
    with pytest.raises(SceneError, match="1/4096"):
        spz_from_gaussians(far)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_package_is_reported_before_anything_is_written(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match="gaussforge") as caught:
        export(scene, tmp_path / "out", ["ply", name])
    assert caught.value.hint == "pip install 'fourdvd[formats]'"
    assert not (tmp_path / "out").exists()
