from pathlib import Path

import numpy as np
import pytest
import torch

from recon.errors import BackendError, InputError
from recon.exporters import packages
from recon.exporters.folder import export
from recon.exporters.packages import find_program
from recon.exporters.splat import drawing_order, gaussians_from_splat, splat_from_gaussians
from recon.exporters.splat4d import gaussians_from_splat4d, splat4d_from_gaussians
from recon.exporters.verification import verify_export
from recon.gaussians import Gaussians
from recon.scene import Scene
from recon.similarity import Similarity

needs_program = pytest.mark.skipif(
    find_program("splat4d") is None, reason="needs the extra [formats]"
)
SECONDS, FPS = np.arange(3) / 10, 10.0


def moving(gaussians: Gaussians) -> list[Gaussians]:
    step = torch.tensor([0.1, 0, 0])
    return [gaussians._replace(means=gaussians.means + frame * step) for frame in range(3)]


@needs_program
def test_frames_are_read_again_within_the_bounds(random_gaussians: Gaussians):
    frames = moving(random_gaussians)
    data = splat4d_from_gaussians(frames, SECONDS, FPS)
    size = float(torch.stack([random_gaussians.means.amax(0), -random_gaussians.means.amin(0)])
                 .sum(0).max())  # fmt: skip
    for index, gaussians in enumerate(frames):
        expected = gaussians_from_splat(splat_from_gaussians(gaussians))
        found = gaussians_from_splat4d(data, index)
        order = torch.cdist(expected.means, found.means).argmin(dim=1)
        assert len(set(order.tolist())) == len(expected.means)
        found = found.map(lambda tensor, order=order: tensor[order])
        assert (found.means - expected.means).abs().max() < 1.01 * size / 4000
        assert (found.scales - expected.scales).abs().max() < 0.011
        levels = 255 * (found.opacities.sigmoid() - expected.opacities.sigmoid()).abs()
        assert levels.max() < 1.1
        assert (found.quats * expected.quats).sum(dim=1).abs().min() > 0.97


@needs_program
@pytest.mark.parametrize("scale, place", [(1.0, 0.0), (1e-3, 0.02), (300.0, 2e4)])
def test_renderings_agree_with_the_scene_at_any_size(
    scene: Scene, tmp_path: Path, scale: float, place: float
):
    scene = scene.mapped(Similarity(scale, np.array([place, 0.0, 0.0])))
    export(scene, tmp_path, ["splat4d"])
    assert verify_export(scene, tmp_path)["splat4d"].worst_psnr > 40


@needs_program
def test_one_frame_is_enough(random_gaussians: Gaussians):
    data = splat4d_from_gaussians([random_gaussians], SECONDS[:1], FPS)
    assert len(gaussians_from_splat4d(data, 0).means) == 50


@needs_program
def test_other_data_and_missing_frames_are_refused(random_gaussians: Gaussians):
    data = splat4d_from_gaussians(moving(random_gaussians), SECONDS, FPS)
    for damaged, frame in ((b"", 0), (b"none", 0), (data[:100], 0), (data, 3)):
        with pytest.raises(InputError, match="splat4d"):
            gaussians_from_splat4d(damaged, frame)


def test_an_order_can_be_given_to_the_frames(random_gaussians: Gaussians):
    order = torch.arange(50)
    found = gaussians_from_splat(splat_from_gaussians(random_gaussians, order))
    assert torch.equal(found.means, random_gaussians.means)
    first = gaussians_from_splat(splat_from_gaussians(random_gaussians))
    assert torch.equal(first.means, random_gaussians.means[drawing_order(random_gaussians)])


def test_a_missing_program_is_reported(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packages, "find_program", lambda _: None)
    with pytest.raises(BackendError, match="splat4d") as caught:
        export(scene, tmp_path / "out", ["splat4d"])
    assert caught.value.hint == "pip install 'fourdvd[formats]'"
    assert not (tmp_path / "out").exists()
