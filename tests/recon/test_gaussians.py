import pytest
import torch

from recon.activations import activated
from recon.gaussians import gaussians_from_points, rgb_to_sh0, sh0_to_rgb
from recon.rotations import quats_to_matrices


def test_colors_survive_the_round_trip_through_the_coefficient():
    rgb = torch.rand(7, 3, dtype=torch.float64)
    torch.testing.assert_close(sh0_to_rgb(rgb_to_sh0(rgb)), rgb)
    assert rgb_to_sh0(torch.tensor(0.5)).item() == 0


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_points_become_isotropic_gaussians_of_the_given_degree(degree: int):
    points, rgb = torch.randn(6, 3), torch.rand(6, 3)
    gaussians = gaussians_from_points(points, rgb, 0.03, opacity=0.7, sh_degree=degree)
    assert gaussians.sh_degree == degree
    assert gaussians.sh.shape == (6, (degree + 1) ** 2, 3)
    assert torch.equal(gaussians.means, points)
    torch.testing.assert_close(quats_to_matrices(gaussians.quats), torch.eye(3).expand(6, 3, 3))
    scales, opacities, colors = activated(gaussians, torch.eye(4)[None])
    torch.testing.assert_close(scales, torch.full((6, 3), 0.03))
    torch.testing.assert_close(opacities, torch.full((6,), 0.7))
    torch.testing.assert_close(colors.expand(1, 6, 3), rgb[None], atol=1e-6, rtol=0)


def test_every_point_may_have_its_own_standard_deviation():
    sigma = torch.tensor([0.1, 0.2, 0.4])
    gaussians = gaussians_from_points(torch.zeros(3, 3), torch.zeros(3, 3), sigma)
    torch.testing.assert_close(gaussians.scales.exp(), sigma[:, None].expand(3, 3))


def test_the_gaussians_do_not_share_memory_with_the_points():
    points, rgb = torch.zeros(2, 3), torch.full((2, 3), 0.5)
    gaussians = gaussians_from_points(points, rgb, 0.1)
    gaussians.means.add_(1)
    gaussians.scales[0, 0] = 5
    assert points.max() == 0
    assert (gaussians.scales == 5).sum() == 1


def test_no_points_make_no_gaussians():
    gaussians = gaussians_from_points(torch.empty(0, 3), torch.empty(0, 3), 0.1, sh_degree=2)
    assert [len(tensor) for tensor in gaussians] == [0] * 6


def test_map_applies_the_function_to_every_tensor():
    gaussians = gaussians_from_points(torch.rand(4, 3), torch.rand(4, 3), 0.1, sh_degree=1)
    first = gaussians.map(lambda tensor: tensor[:1].double())
    assert all(len(tensor) == 1 and tensor.dtype == torch.float64 for tensor in first)
    assert first.sh_degree == 1
