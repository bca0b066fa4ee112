import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from generation.curation.filters.motion import STILL, dis_flow, measure_motion
from generation.curation.filters.networks import raft_flow
from generation.curation.filters.thresholds import Thresholds
from recon.errors import BackendError, WeightsError
from tests.generation.curation.filters.discs import altered, clips, steady, textured_disc

LIMITS = Thresholds()


@pytest.mark.parametrize("step", [0.5, 1.5, 3.0])
def test_the_motion_of_a_translation_is_its_length(step):
    grid = textured_disc(steady(6, step))
    found = clips(grid)
    assert found[0] is not None
    expected = step / found[0].diagonal_px
    motion = measure_motion(found, dis_flow())
    assert motion.motion == pytest.approx(expected, rel=0.12)
    assert motion.peak == pytest.approx(expected, rel=0.25)
    assert motion.smoothness == pytest.approx(2, abs=0.15)


def test_flow_is_the_displacement_from_the_first_to_the_second_image():
    found = clips(textured_disc([(48.0, 44.0), (50.0, 47.0)]))[0]
    assert found is not None
    flow = dis_flow()(found.gray[0], found.gray[1])
    inside = found.alpha[0] > 0.99
    assert flow[inside].mean(axis=0) == pytest.approx([3.0, 2.0], abs=0.3)


def test_motion_does_not_depend_on_the_resolution():
    grid = textured_disc(steady(5, 3.0), radius=24)
    large = measure_motion(clips(grid), dis_flow())
    shrunk = [None if clip is None else clip.shrunk(40) for clip in clips(grid)]
    small = measure_motion(shrunk, dis_flow())
    assert small.motion == pytest.approx(large.motion, rel=0.2)


def test_rendering_noise_is_no_motion():
    def noisy(images: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 6, images[..., :3].shape)
        images[..., :3] = (images[..., :3] + noise).clip(0, 255)
        return images

    motion = measure_motion(clips(altered(textured_disc(steady(6, 0.0)), noisy)), dis_flow())
    assert LIMITS.min_motion is not None
    assert motion.motion < LIMITS.min_motion


def test_an_object_that_jumps_once_does_not_move():
    path = [(48.0, 44.0)] * 7 + [(48.0, 50.0)] * 6
    motion = measure_motion(clips(textured_disc(path)), dis_flow())
    assert motion.motion == pytest.approx(0, abs=1e-3)
    assert motion.peak > 0.05


def test_frames_out_of_order_are_not_smooth():
    order = np.random.default_rng(1).permutation(10)
    path = [steady(10, 2.0)[place] for place in order]
    motion = measure_motion(clips(textured_disc(path)), dis_flow())
    assert LIMITS.min_smoothness is not None
    assert (
        motion.smoothness
        < 1.3
        < measure_motion(clips(textured_disc(steady(10, 2.0))), dis_flow()).smoothness
    )


def test_a_single_frame_or_an_empty_grid_has_no_motion():
    assert measure_motion(clips(textured_disc([(48.0, 48.0)])), dis_flow()) == STILL
    assert measure_motion([None, None], dis_flow()) == STILL


class ShiftFinder(torch.nn.Module):
    """Stand-in for RAFT that checks the size of its input and returns a constant displacement."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(2))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        assert first.shape == second.shape == (1, 3, 128, 136)
        assert (first.min(), first.max()) == (-1, 1)
        field = self.shift[None, :, None, None].expand(1, 2, 128, 136)
        return [torch.zeros_like(field), field]


def test_raft_gets_padded_images_in_its_range_and_its_last_estimate_is_used(tmp_path, monkeypatch):
    published = types.SimpleNamespace(raft_large=ShiftFinder)
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", published)
    save_file({"shift": torch.tensor([3.0, 4.0])}, tmp_path / "raft.safetensors")
    image = np.eye(70, 131, dtype=np.float32)
    flow = raft_flow(tmp_path / "raft.safetensors")(image, image)
    assert flow.shape == (70, 131, 2)
    assert (flow == [3, 4]).all()
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors"):
        raft_flow(tmp_path / "other.safetensors")


def test_raft_without_torchvision_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", None)
    with pytest.raises(BackendError, match="pip install torchvision"):
        raft_flow(tmp_path / "raft.pth")
