import pytest
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.exporters.splat import gaussians_from_splat, splat_from_gaussians
from recon.gaussians import Gaussians, sh0_to_rgb
from recon.rotations import quats_to_matrices


def by_height(gaussians: Gaussians) -> Gaussians:
    order = gaussians.means[:, 2].argsort()
    return gaussians.map(lambda tensor: tensor[order])


def test_a_splat_file_has_32_bytes_per_gaussian(random_gaussians: Gaussians):
    assert len(splat_from_gaussians(random_gaussians)) == 32 * 50


def test_values_read_back_are_within_their_precision(random_gaussians: Gaussians):
    read = by_height(gaussians_from_splat(splat_from_gaussians(random_gaussians)))
    expected = by_height(random_gaussians)
    assert torch.equal(read.means, expected.means)
    torch.testing.assert_close(read.scales, expected.scales, atol=1e-6, rtol=0)
    half = 0.5 / 255 + 1e-6
    assert (read.opacities.sigmoid() - expected.opacities.sigmoid()).abs().max() < half
    rgb = sh0_to_rgb(expected.sh0).clamp(0, 1)
    assert (sh0_to_rgb(read.sh0) - rgb).abs().max() < half
    turns = quats_to_matrices(read.quats) - quats_to_matrices(F.normalize(expected.quats, dim=-1))
    assert turns.abs().max() < 0.03


def test_the_most_visible_gaussians_come_first(random_gaussians: Gaussians):
    read = gaussians_from_splat(splat_from_gaussians(random_gaussians))
    visibility = read.scales.sum(dim=1).exp() * read.opacities.sigmoid()
    assert visibility[:10].min() > visibility[-10:].max()


def test_a_length_that_is_no_multiple_of_32_is_refused():
    with pytest.raises(InputError, match="33"):
        gaussians_from_splat(bytes(33))
