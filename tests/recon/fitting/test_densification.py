"""Densification: relocation, cloning, splitting and pruning."""

import math

import pytest
import torch
from torch import Tensor, nn

from recon.deformation.bones import BoneDeformation
from recon.fitting.densification import (
    MAX_COPIES,
    SHARED_OPACITY_MIN,
    GrowAndPrune,
    Limits,
    Relocation,
    density_plan,
    reindex,
    relocation_plan,
    share_opacity,
    split,
)
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid.cameras import orbit_camera
from recon.rendering import render_gaussians
from recon.rotations import quats_to_matrices

CAP = 1000


def cloud(count: int = 60, seed: int = 0, opacity: float = 0.6) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    round_ones = gaussians_from_points(uniform(count, 3) - 0.5, uniform(count, 3), 0.06, opacity)
    return round_ones._replace(
        quats=uniform(count, 4) - 0.5, scales=round_ones.scales + uniform(count, 3) - 0.5
    )


def with_opacities(gaussians: Gaussians, opacities: Tensor) -> Gaussians:
    return gaussians._replace(opacities=torch.logit(opacities))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(gaussians: Gaussians) -> Tensor:
    cameras = [orbit_camera(azimuth, 10, 3.2, 33.8, 40, 40) for azimuth in (0, 120, 240)]
    return render_gaussians(gaussians, cameras, backend="reference").rgb


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(max(float((a - b).square().mean()), 1e-12))


def taken(gaussians: Gaussians, rows: Tensor) -> Gaussians:
    opacities, scales = share_opacity(gaussians, rows)
    return gaussians.map(lambda tensor: tensor[rows])._replace(opacities=opacities, scales=scales)


# -- reindex


def fitted(count: int = 12) -> tuple[list[nn.Parameter], torch.optim.Adam, BoneDeformation]:
    """Parameters, a deformation and an Adam that has made steps of different sizes."""
    gaussians = cloud(count)
    deformation = BoneDeformation.for_fit(gaussians, (0.0, 0.5, 1.0), bones=4)
    parameters = [nn.Parameter(tensor.clone()) for tensor in gaussians[:5]]
    owned = [*parameters, *deformation.gaussian_parameters()]
    optimizer = torch.optim.Adam([*parameters, *deformation.parameters()], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = torch.stack([(tensor.double().sin() ** 2).sum() for tensor in owned]).sum()
        loss.backward()
        optimizer.step()
    return owned, optimizer, deformation


def test_rows_moments_and_the_deformation_stay_in_step():
    owned, optimizer, deformation = fitted()
    before = [tensor.detach().clone() for tensor in owned]
    moments = [
        {key: optimizer.state[tensor][key].clone() for key in ("exp_avg", "exp_avg_sq")}
        for tensor in owned
    ]
    rows = torch.tensor([3, 3, 0, 11, 7])
    fresh = torch.tensor([False, True, False, True, False])
    objects = [id(tensor) for tensor in owned]
    reindex(owned, optimizer.state, rows, fresh)
    assert [id(tensor) for tensor in owned] == objects
    for tensor, old, moment in zip(owned, before, moments, strict=True):
        assert torch.equal(tensor, old[rows])
        for key, value in moment.items():
            expected = value[rows]
            expected[fresh] = 0
            assert torch.equal(optimizer.state[tensor][key], expected)
    assert deformation.logits.shape == (5, 4)


def test_a_step_after_reindexing_is_the_step_of_the_former_rows():
    plain, optimizer, _ = fitted()
    moved, other, _ = fitted()
    rows = torch.arange(12).flip(0)
    reindex(moved, other.state, rows, torch.zeros(12, dtype=torch.bool))
    for owned, adam in ((plain, optimizer), (moved, other)):
        adam.zero_grad()
        torch.stack([tensor.square().sum() for tensor in owned]).sum().backward()
        adam.step()
    for a, b in zip(moved, plain, strict=True):
        torch.testing.assert_close(a, b[rows])


def test_parameters_without_moments_are_reindexed_too():
    tensor = nn.Parameter(torch.arange(4.0))
    reindex([tensor], {}, torch.tensor([2, 2]), torch.tensor([True, False]))
    assert tensor.tolist() == [2.0, 2.0]


# -- relocation


def test_dead_gaussians_move_onto_live_ones_and_live_ones_stay():
    opacities = torch.full((40,), 0.5)
    dead = torch.arange(40) % 4 == 0
    opacities[dead] = 0.01
    rows = relocation_plan(torch.logit(opacities), Relocation(growth=1.0), 40, generator())
    assert len(rows) == 40
    assert torch.equal(rows[~dead], torch.arange(40)[~dead])
    assert not dead[rows].any()


def test_the_number_grows_by_the_factor_until_the_cap():
    opacities, policy = torch.zeros(100), Relocation(growth=1.05)
    assert len(relocation_plan(opacities, policy, CAP, generator())) == 105
    assert len(relocation_plan(opacities, policy, 102, generator())) == 102
    assert len(relocation_plan(opacities, policy, 50, generator())) == 100


def test_targets_are_drawn_in_proportion_to_opacity():
    opacities = torch.tensor([0.9, 0.3, 0.1])
    policy = Relocation(growth=1000.0)
    rows = relocation_plan(torch.logit(opacities), policy, 20000, generator())[3:]
    found = torch.bincount(rows, minlength=3) / len(rows)
    scale = opacities.sum()
    torch.testing.assert_close(found * len(rows) / 2997, opacities / scale, atol=0.03, rtol=0)


def test_nothing_changes_if_all_gaussians_are_dead():
    rows = relocation_plan(torch.full((10,), -9.0), Relocation(), CAP, generator())
    assert torch.equal(rows, torch.arange(10))


def test_the_same_generator_gives_the_same_plan():
    opacities = cloud(200).opacities.clone()
    opacities[::3] = -9
    plans = [relocation_plan(opacities, Relocation(), CAP, generator(s)) for s in (5, 5, 6)]
    assert torch.equal(plans[0], plans[1])
    assert not torch.equal(plans[0], plans[2])


@pytest.mark.parametrize("copies", [1, 2, 3, 7])
@pytest.mark.parametrize("opacity", [0.05, 0.3, 0.9])
def test_copies_together_are_as_opaque_as_the_original(copies: int, opacity: float):
    gaussians = with_opacities(cloud(1), torch.tensor([opacity]))
    logits, _ = share_opacity(gaussians, torch.zeros(copies, dtype=torch.long))
    left = (1 - logits.double().sigmoid()).prod()
    assert float(left) == pytest.approx(1 - opacity, abs=1e-5 if copies < 7 else 0.03)


@pytest.mark.parametrize("copies", [2, 3, 7])
@pytest.mark.parametrize("opacity", [0.1, 0.3, 0.9])
def test_copies_together_keep_the_integral_along_a_line(copies: int, opacity: float):
    """∫ 1 − (1 − o' exp(−x² / 2σ'²))^n dx = ∫ o exp(−x² / 2σ²) dx, by quadrature."""
    gaussians = with_opacities(cloud(1), torch.tensor([opacity]))
    logits, scales = share_opacity(gaussians, torch.zeros(copies, dtype=torch.long))
    sigma, shared = gaussians.scales[0, 0].exp().double(), scales[0, 0].exp().double()
    x = torch.linspace(-10, 10, 20001, dtype=torch.float64) * sigma
    one = opacity * torch.exp(-(x**2) / (2 * sigma**2))
    several = (
        1 - (1 - logits[0].double().sigmoid() * torch.exp(-(x**2) / (2 * shared**2))) ** copies
    )
    assert float(several.sum()) == pytest.approx(float(one.sum()), rel=1e-3)


def test_copies_of_a_faint_gaussian_have_the_smallest_opacity_of_a_copy():
    gaussians = with_opacities(cloud(1), torch.tensor([0.02]))
    logits, _ = share_opacity(gaussians, torch.zeros(7, dtype=torch.long))
    torch.testing.assert_close(logits.sigmoid(), torch.full((7,), SHARED_OPACITY_MIN))


def test_an_enormous_number_of_copies_stays_finite():
    gaussians = with_opacities(cloud(1), torch.tensor([0.99]))
    for copies in (MAX_COPIES, 5 * MAX_COPIES):
        logits, scales = share_opacity(gaussians, torch.zeros(copies, dtype=torch.long))
        assert logits.isfinite().all()
        assert scales.isfinite().all()


def test_rows_that_are_taken_once_keep_their_opacity_and_scale():
    gaussians = cloud()
    rows = torch.arange(60)
    opacities, scales = share_opacity(gaussians, rows)
    torch.testing.assert_close(opacities, gaussians.opacities)
    torch.testing.assert_close(scales, gaussians.scales)


def test_relocation_leaves_the_images_nearly_as_they_were():
    opacities = torch.full((60,), 0.6)
    opacities[::6] = 0.004
    gaussians = with_opacities(cloud(), opacities)
    rows = relocation_plan(gaussians.opacities, Relocation(growth=1.05), CAP, generator())
    before = images(gaussians)
    assert psnr(images(taken(gaussians, rows)), before) > 32
    naive = gaussians.map(lambda tensor: tensor[rows])
    assert psnr(images(taken(gaussians, rows)), before) > psnr(images(naive), before) + 6


# -- growth and pruning


def test_transparent_gaussians_are_pruned_and_others_kept_once():
    opacities = torch.full((60,), 0.5)
    opacities[10:20] = 0.01
    gaussians = with_opacities(cloud(), opacities)
    rows, halves = density_plan(gaussians, torch.zeros(60), GrowAndPrune(), Limits(CAP, 1.0))
    assert rows.tolist() == [*range(10), *range(20, 60)]
    assert not halves.any()


def test_gaussians_with_large_gradients_are_cloned_if_small_and_split_if_large():
    gaussians = cloud()
    scales = torch.full((60, 3), math.log(0.001))
    scales[30:] = math.log(0.5)
    gradients = torch.zeros(60)
    gradients[[5, 45]] = 1.0
    rows, halves = density_plan(
        gaussians._replace(scales=scales), gradients, GrowAndPrune(), Limits(CAP, 1.0)
    )
    counts = torch.bincount(rows, minlength=60)
    assert counts[5] == counts[45] == 2
    assert int(counts.sum()) == 62
    assert rows[halves].tolist() == [45, 45]


@pytest.mark.parametrize("cap", [0, 50, 60, 63, 120, 500])
def test_growth_stops_at_the_cap_and_the_largest_gradients_go_first(cap: int):
    gradients = torch.linspace(1, 2, 60)
    rows, _ = density_plan(cloud(), gradients, GrowAndPrune(), Limits(cap, 1.0))
    assert len(rows) == min(max(cap, 60), 120)
    doubled = (torch.bincount(rows, minlength=60) == 2).nonzero()[:, 0]
    assert doubled.tolist() == list(range(60 - len(doubled), 60))


def test_halves_are_sampled_from_the_density_of_the_split_gaussian():
    one = cloud(1, seed=3)
    many = one.map(lambda tensor: tensor.repeat(20000, *[1] * (tensor.ndim - 1)))
    means, scales = split(many, torch.ones(20000, dtype=torch.bool), generator())
    offsets = means - one.means
    axes = quats_to_matrices(one.quats)[0] * one.scales[0].exp()
    covariance = axes @ axes.T
    torch.testing.assert_close(torch.cov(offsets.T), covariance, atol=2e-4, rtol=0.05)
    torch.testing.assert_close(offsets.mean(0), torch.zeros(3), atol=3e-3, rtol=0)
    torch.testing.assert_close(scales.exp(), many.scales.exp() / 1.6)


def test_unsplit_gaussians_stay_and_the_same_generator_gives_the_same_halves():
    gaussians = cloud()
    halves = torch.arange(60) < 20
    results = [split(gaussians, halves, generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(results[0][0][20:], gaussians.means[20:])
    assert torch.equal(results[0][1][20:], gaussians.scales[20:])
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][0], results[2][0])


def test_empty_sets_of_gaussians_are_supported():
    empty = cloud(0)
    rows, halves = density_plan(empty, torch.zeros(0), GrowAndPrune(), Limits(CAP, 1.0))
    assert len(rows) == len(halves) == 0
    assert len(relocation_plan(empty.opacities, Relocation(), CAP, generator())) == 0
    assert split(empty, halves, generator())[0].shape == (0, 3)


def test_gradients_are_averaged_over_the_views_that_see_a_gaussian():
    policy, statistics = GrowAndPrune(), {}
    probe = policy.means2d_probe(2, torch.zeros(3, 3))
    gradient = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [0, 0]], [[0, 0], [1.0, 0.0], [0, 0]]])
    probe.grad = gradient / 2  # of the mean over two views
    policy.observe(statistics, probe, height=20, width=10)
    assert statistics["gradient_norm"].tolist() == pytest.approx([math.hypot(15, 40), 10, 0])
    assert statistics["view_count"].tolist() == [1, 2, 0]
    policy.observe(statistics, probe, height=20, width=10)
    assert statistics["view_count"].tolist() == [2, 4, 0]


def test_a_policy_that_needs_no_gradients_has_no_probe_and_no_statistics():
    policy, statistics = Relocation(), {}
    assert policy.means2d_probe(2, torch.zeros(3, 3)) is None
    policy.observe(statistics, None, height=20, width=10)
    assert statistics == {}
