"""PLY files in another world are rendered as the scene they came from."""

import numpy as np
import pytest
import torch

from recon.errors import InputError
from recon.evaluation import evaluate
from recon.exporters.conventions import rotate_gaussians, rotation_to
from recon.exporters.ply import ply_from_gaussians
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid import grid_from_views, orbit_camera
from recon.grid.writing import write_posed_images
from recon.rendering import render_gaussians
from recon.similarity import Similarity


@pytest.fixture(scope="module")
def gaussians() -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    points = 0.2 * torch.randn(30, 3, generator=generator)
    return gaussians_from_points(points, torch.rand(30, 3, generator=generator), 0.06, 0.9)


@pytest.fixture
def truth(gaussians, tmp_path):
    """A grid folder of what two frames show: the Gaussians, and the same farther to the side."""
    cameras = [orbit_camera(azimuth, 10, 3.2, 33.8, 24, 24) for azimuth in (0, 100)]
    frames = [gaussians, gaussians._replace(means=gaussians.means + 0.1)]
    images = np.empty((2, 2, 24, 24, 4), np.uint8)
    for t, each in enumerate(frames):
        black = render_gaussians(each, cameras, (0, 0, 0))
        alpha = black.alpha[..., None]
        rgba = torch.cat([(black.rgb / alpha.clamp_min(1e-6)).clamp(0, 1), alpha], dim=-1)
        images[:, t] = (255 * rgba).round().to(torch.uint8).numpy()
    write_posed_images(grid_from_views(cameras, images), tmp_path)
    return tmp_path, frames


@pytest.mark.parametrize(("axes", "scale"), [("y-down", 1.0), ("y-up", 4.0), ("z-up", 0.5)])
def test_files_of_other_axes_and_units_show_the_truth(truth, tmp_path, axes, scale):
    folder, frames = truth
    (tmp_path / "ply").mkdir()
    for name, each in zip((9, 10), frames, strict=True):
        turned = rotate_gaussians(each, rotation_to(axes))
        small = Similarity(1 / scale, np.zeros(3)).gaussians(turned)
        (tmp_path / "ply" / f"model_{name}.ply").write_bytes(ply_from_gaussians(small))
    found = evaluate(tmp_path / "ply", folder, "cpu", axes=axes, scale=scale)
    assert len(found.images) == 4 and found.worst_psnr > 40
    assert found.notes == () and found.warnings == ()
    assert evaluate(tmp_path / "ply", folder, "cpu", axes=axes, scale=2 * scale).psnr < 30


def test_fewer_files_are_the_first_frames_and_more_are_refused(truth, tmp_path):
    folder, frames = truth
    sequence = tmp_path / "ply"
    sequence.mkdir()
    turned = rotate_gaussians(frames[0], rotation_to("y-down"))
    for number in range(3):
        (sequence / f"{number}.ply").write_bytes(ply_from_gaussians(turned))
    with pytest.raises(InputError, match=r"2 frames.*found 3"):
        evaluate(sequence, folder, "cpu")
    for number in (1, 2):
        (sequence / f"{number}.ply").unlink()
    found = evaluate(sequence, folder, "cpu")
    assert found.missing == 2 and found.worst_psnr > 40


def test_files_with_nan_or_of_another_kind_are_named(truth, tmp_path):
    folder, frames = truth
    path = tmp_path / "ply" / "0.ply"
    path.parent.mkdir()
    broken = frames[0]._replace(means=frames[0].means * float("nan"))
    path.write_bytes(ply_from_gaussians(broken))
    with pytest.raises(InputError, match=r"0\.ply.*not finite"):
        evaluate(path.parent, folder, "cpu")
    path.write_bytes(b"solid")
    with pytest.raises(InputError, match=r"0\.ply"):
        evaluate(path.parent, folder, "cpu")
