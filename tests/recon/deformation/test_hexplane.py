import pytest
import torch

from recon.deformation import load_deformation
from recon.deformation.hexplane import PLANES, HexPlaneDeformation
from recon.errors import SceneError
from recon.gaussians import Gaussians, gaussians_from_points

TIMES = (0.0, 0.5, 1.0)
BOUNDS = [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]


def cloud(count: int = 20) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(count, 3, generator=generator) - 0.5
    return gaussians_from_points(points, points.abs(), 0.05)


def small(seed: int = 0, fitted: bool = True, scale_head: bool = False) -> HexPlaneDeformation:
    """A small field; `fitted` puts noise everywhere, so that it moves."""
    torch.manual_seed(seed)
    module = HexPlaneDeformation(
        TIMES, BOUNDS, channels=4, resolution=(5, 6, 7, 3), hidden=8, scale_head=scale_head
    )
    if fitted:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


@pytest.mark.parametrize("scale_head", [False, True])
def test_hexplane_is_the_identity_at_initialization(scale_head: bool):
    gaussians = cloud()
    module = small(fitted=False, scale_head=scale_head)
    for time in (0.0, 0.3, 1.0):
        moved = module(gaussians, time)
        assert all(torch.equal(a, b) for a, b in zip(moved, gaussians, strict=True))


def test_the_heads_get_gradients_at_initialization():
    module = small(fitted=False)
    moved = module(cloud(), 0.3)
    (moved.means.sum() + moved.quats.sum()).backward()
    for head in ("translation", "rotation"):
        gradient = module.get_parameter(f"{head}.2.weight").grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def bilinear(plane: torch.Tensor, u: float, v: float) -> torch.Tensor:
    """Value of plane [C, R_v, R_u] at u, v in [0, 1], corners at the ends."""
    rows, columns = plane.shape[1:]
    y, x = v * (rows - 1), u * (columns - 1)
    y0, x0 = min(int(y), rows - 2), min(int(x), columns - 2)
    fy, fx = y - y0, x - x0
    upper = (1 - fx) * plane[:, y0, x0] + fx * plane[:, y0, x0 + 1]
    lower = (1 - fx) * plane[:, y0 + 1, x0] + fx * plane[:, y0 + 1, x0 + 1]
    return (1 - fy) * upper + fy * lower


def test_the_features_are_products_of_bilinear_samples_of_every_level():
    module = small()
    point, time = torch.tensor([0.3, -0.52, 0.81]), 0.35
    places = [*((point + 1) / 2).tolist(), time]
    expected = []
    for level in module.levels:
        product = torch.ones(4)
        for (a, b), plane in zip(PLANES, level.parameters(), strict=True):
            product = product * bilinear(plane.detach(), places[a], places[b])
        expected.append(product)
    torch.testing.assert_close(module.features(point[None], time)[0], torch.cat(expected))


def test_the_second_level_is_twice_as_fine_in_space_and_not_in_time():
    shapes = [[tuple(p.shape) for p in level.parameters()] for level in small().levels]
    assert shapes[0] == [(4, 6, 5), (4, 7, 5), (4, 7, 6), (4, 3, 5), (4, 3, 6), (4, 3, 7)]
    assert shapes[1] == [(4, 12, 10), (4, 14, 10), (4, 14, 12), (4, 3, 10), (4, 3, 12), (4, 3, 14)]


def test_scales_change_only_with_a_scale_head():
    gaussians = cloud()
    moved, scaled = small()(gaussians, 0.4), small(scale_head=True)(gaussians, 0.4)
    assert (moved.means - gaussians.means).abs().max() > 1e-2
    assert (moved.quats - gaussians.quats).abs().max() > 1e-2
    assert torch.equal(moved.scales, gaussians.scales)
    assert not torch.equal(scaled.scales, gaussians.scales)
    torch.testing.assert_close(moved.quats.norm(dim=-1), torch.ones(20))


def test_outside_the_box_the_border_features_are_used():
    features = small().features(torch.tensor([[1.0, 0.2, 0.3], [7.0, 0.2, 0.3]]), 0.5)
    assert torch.equal(features[0], features[1])


def test_the_box_of_a_fit_contains_all_gaussians():
    gaussians = cloud()
    module = HexPlaneDeformation.for_fit(gaussians, TIMES)
    low, high = module.bounds
    assert (gaussians.means > low).all()
    assert (gaussians.means < high).all()


def test_a_single_gaussian_and_a_single_time_are_enough():
    gaussians = cloud(1)
    module = HexPlaneDeformation.for_fit(gaussians, (0.0,))
    moved = module(gaussians, 0.0)
    assert torch.equal(moved.means, gaussians.means)
    assert module.regularization(gaussians, 0.0).isfinite()


def test_regularization_is_zero_for_flat_planes_and_even_time():
    module = small()
    with torch.no_grad():
        for level in module.levels:
            for axes, plane in zip(PLANES, level.parameters(), strict=True):
                plane.fill_(0.7)
                if axes[1] == 3:
                    plane.add_(torch.arange(3.0)[None, :, None])
    assert module.regularization(cloud(), 0.5).item() == pytest.approx(0, abs=1e-12)
    assert small().regularization(cloud(), 0.5) > 0


def test_values_and_gradients_agree_with_finite_differences():
    module = small().double()
    means = cloud(3).means.double().requires_grad_()
    gaussians = cloud(3).map(torch.Tensor.double)
    assert torch.autograd.gradcheck(
        lambda means: module(gaussians._replace(means=means), 0.35)[:2], (means,)
    )


def test_the_parameter_groups_hold_every_parameter_once():
    module = small(scale_head=True)
    grouped = [id(p) for group in module.parameter_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in module.parameters())


@pytest.mark.parametrize("scale_head", [False, True])
def test_what_was_saved_is_loaded_bit_by_bit(scale_head: bool):
    gaussians = cloud()
    module = small(scale_head=scale_head)
    loaded = load_deformation("hexplane", module.configuration(), module.state_dict())
    for time in (0.0, 0.1, 0.77):
        pairs = zip(module(gaussians, time), loaded(gaussians, time), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert loaded.configuration() == module.configuration()


def test_tensors_of_the_wrong_shape_or_name_are_refused():
    module = small()
    configuration, tensors = module.configuration(), module.state_dict()
    with pytest.raises(SceneError, match="missing"):
        load_deformation("hexplane", configuration, {})
    with pytest.raises(SceneError, match="has shape"):
        load_deformation("hexplane", {**configuration, "hidden": 9}, tensors)
    with pytest.raises(SceneError, match=r"unexpected.*more"):
        load_deformation("hexplane", configuration, {**tensors, "more": torch.zeros(1)})


@pytest.mark.parametrize(
    "change",
    [
        {"bounds": [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]},
        {"bounds": [[0.0, 0.0], [1.0, 1.0]]},
        {"bounds": [[0.0, 0.0, float("nan")], [1.0, 1.0, 1.0]]},
        {"channels": 0},
        {"levels": 0},
        {"resolution": [4, 4, 4]},
        {"times": []},
    ],
)
def test_a_configuration_that_is_not_valid_is_refused(change: dict):
    module = small()
    with pytest.raises(ValueError, match="expected"):
        load_deformation("hexplane", module.configuration() | change, module.state_dict())
