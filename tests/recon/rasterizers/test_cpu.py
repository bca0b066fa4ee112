"""The kernel against the reference in float64: images and gradients, on every instruction set.

A pixel at which some Gaussian is within rounding of a threshold (1/255, the last transmittance) may
fall on either side of it in float32; such pixels are left out of the comparison and of the loss.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from recon.errors import BackendError
from recon.gaussians import Gaussians
from recon.grid.cameras import Camera, orbit_camera
from recon.native import library
from recon.native.build import variants
from recon.native.library import Kernels, built, kernels
from recon.rasterizers import Rendering, cpu
from recon.rasterizers.cpu import rasterize_cpu
from recon.rasterizers.interface import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from recon.rasterizers.reference import project, rasterize_reference
from recon.rendering import camera_tensors, render_gaussians

pytestmark = pytest.mark.skipif(not built(), reason="the CPU kernels were not compiled")

NAMES = ("means", "quats", "scales", "opacities", "colors", "backgrounds", "means2d")
VALUE_TOLERANCE = 5e-5
GRADIENT_TOLERANCE = 1e-3  # of the largest entry of each gradient


@pytest.fixture(params=sorted(variants()), autouse=True)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Runs each test once for each instruction set; leaves the processor's best one behind."""
    supported = ["generic", "avx2", "avx512"]
    monkeypatch.delenv("FOURDVD_ISA", raising=False)
    best = Kernels().variant
    if supported.index(request.param) > supported.index(best):
        pytest.skip(f"this processor has no {request.param}, its best is {best}")
    monkeypatch.setenv("FOURDVD_ISA", request.param)
    monkeypatch.setattr(cpu._Workspace, "_free", [])  # a workspace belongs to its variant
    kernels.cache_clear()
    assert kernels().variant == request.param
    yield
    kernels.cache_clear()


@pytest.fixture
def restored_threads() -> Iterator[None]:
    yield
    kernels().set_threads(0)


class Case(NamedTuple):
    """Arguments of a rasterizer, in float64."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    cameras: list[Camera]

    @property
    def size(self) -> tuple[int, int]:
        return self.cameras[0].height, self.cameras[0].width


def orbit(height: int, width: int, views: int = 2, distance: float = 3.2) -> list[Camera]:
    return [orbit_camera(50 * v, 15 * v, distance, 33.8, height, width) for v in range(views)]


def random_case(
    count: int = 40,
    height: int = 21,
    width: int = 37,
    seed: int = 0,
    sigma: tuple[float, float] = (0.02, 0.25),
    views: int = 2,
    distance: float = 3.2,
) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return Case(
        means=1.2 * uniform(count, 3) - 0.6,
        quats=uniform(count, 4) - 0.5,
        scales=sigma[0] + (sigma[1] - sigma[0]) * uniform(count, 3),
        opacities=uniform(count),
        colors=uniform(count, 3),
        cameras=orbit(height, width, views, distance),
    )


def needles() -> Case:
    case = random_case(24, 40, 40, seed=1)
    case.scales[:, 1:] = 1e-4
    case.scales[:, 0] = 0.4
    return case


def huge() -> Case:
    case = random_case(10, seed=2)
    case.scales[:6] += 4.0
    case.scales[8] = 50.0
    return case


def behind_the_camera() -> Case:
    case = random_case(30, seed=3)
    case.means[::2, 1] -= 6.0
    case.means[1] = torch.tensor([0.0, -3.2, 0.0])  # in the first camera's center
    case.means[3] = torch.tensor([0.01, -3.185, 0.0])  # just before the near plane
    return case


def off_screen() -> Case:
    case = random_case(30, seed=4)
    case.means[::3, 0] += 3.0
    case.means[1::3, 2] -= 2.5
    case.scales[::3] += 0.8  # so that some of them reach into the image
    return case


def transparent() -> Case:
    case = random_case(20, seed=5)
    case.opacities[:] = 0.0
    return case


def transparent_and_opaque() -> Case:
    case = random_case(30, seed=6)
    case.opacities[::3] = 0.0
    case.opacities[1::3] = 1.0
    return case


def at_one_depth() -> Case:
    case = random_case(30, seed=7, views=1)
    case.means[:, 1] = 0.0  # the plane that the first camera sees straight on
    return case


def colors_by_view() -> Case:
    case = random_case(30, seed=8, views=3)
    generator = torch.Generator().manual_seed(9)
    return case._replace(colors=torch.rand(3, 30, 3, generator=generator, dtype=torch.float64))


def opaque_stack() -> Case:
    case = random_case(60, seed=10, sigma=(0.3, 0.5))
    case.opacities[:] = 0.9
    return case


def from_inside() -> Case:
    return random_case(40, seed=11, distance=0.3)


CASES = {
    "random": random_case(),
    "many": random_case(300, 33, 50, seed=12, sigma=(0.01, 0.1)),
    "a width of whole vectors": random_case(20, 16, 32, seed=13),
    "needles": needles(),
    "huge": huge(),
    "behind the camera": behind_the_camera(),
    "off screen": off_screen(),
    "transparent": transparent(),
    "transparent and opaque": transparent_and_opaque(),
    "no Gaussians": random_case(0),
    "one Gaussian": random_case(1, seed=14),
    "at one depth": at_one_depth(),
    "one pixel": random_case(20, 1, 1, seed=15),
    "one row": random_case(20, 1, 40, seed=16),
    "one column": random_case(20, 40, 1, seed=17),
    "a high image": random_case(20, 300, 9, seed=18),
    "from inside": from_inside(),
    "colors by view": colors_by_view(),
    "an opaque stack": opaque_stack(),
}


def safe_pixels(case: Case) -> Tensor:
    """Where no decision of the reference depends on rounding, [V, H, W]."""
    height, width = case.size
    viewmats, Ks = camera_tensors(case.cameras, case.means)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], -1).reshape(-1, 1, 2) + 0.5
    masks = []
    for viewmat, K in zip(viewmats, Ks, strict=True):
        seen = project(case.means, case.quats, case.scales, viewmat, K, height, width)
        order = seen.depths.argsort(stable=True)
        order = order[seen.visible[order]]
        dx, dy = (pixels - seen.means2d[order]).unbind(-1)
        a, b, c = seen.conics[order].unbind(-1)
        alpha = case.opacities[order] * torch.exp(-(a * dx * dx + c * dy * dy) / 2 - b * dx * dy)
        margin = 2e-3
        unsafe = (alpha / ALPHA_MIN - 1).abs() < margin
        unsafe |= (alpha / ALPHA_MAX - 1).abs() < 1e-4
        drawn = torch.where(alpha >= ALPHA_MIN, alpha.clamp_max(ALPHA_MAX), 0)
        left = torch.cumprod(1 - drawn, dim=1)
        unsafe |= (left / TRANSMITTANCE_MIN - 1).abs() < 10 * margin
        masks.append(~unsafe.any(1).reshape(height, width))
    return torch.stack(masks)


def draw(function, case: Case, dtype: torch.dtype, **arguments: Tensor) -> Rendering:
    tensors = [tensor.to(dtype) for tensor in case[:5]]
    viewmats, Ks = camera_tensors(case.cameras, tensors[0])
    return function(*tensors, viewmats, Ks, *case.size, **arguments)


def drawn(tensors: Sequence[Tensor], case: Case, backgrounds: Tensor | None = None) -> Rendering:
    means, quats, scales, opacities, colors = tensors
    viewmats, Ks = camera_tensors(case.cameras, means)
    return rasterize_cpu(
        means, quats, scales, opacities, colors, viewmats, Ks, *case.size, backgrounds
    )


def loss(images: Rendering, mask: Tensor, outputs: tuple[str, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(100)
    total = images.rgb.new_zeros(())
    for name, image in images._asdict().items():
        weight = torch.rand(image.shape, generator=generator, dtype=torch.float64) - 0.3
        weight = weight * (mask[..., None] if image.ndim == 4 else mask)
        if name in outputs:
            total = total + (image * weight.to(image)).sum()
    return total


def gradients(
    function, case: Case, dtype: torch.dtype, outputs: tuple[str, ...] = Rendering._fields
) -> tuple[Rendering, dict[str, Tensor]]:
    leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in case[:5]]
    views = len(case.cameras)
    backgrounds = torch.linspace(0.1, 0.9, 3 * views, dtype=dtype).reshape(views, 3)
    probe = torch.zeros(views, len(case.means), 2, dtype=dtype)
    leaves += [backgrounds.requires_grad_(), probe.requires_grad_()]
    viewmats, Ks = camera_tensors(case.cameras, leaves[0])
    images = function(*leaves[:5], viewmats, Ks, *case.size, *leaves[5:])
    found = torch.autograd.grad(
        loss(images, safe_pixels(case), outputs), leaves, materialize_grads=True
    )
    return images, dict(zip(NAMES, found, strict=True))


def assert_gradients_agree(case: Case, outputs: tuple[str, ...]) -> None:
    _, expected = gradients(rasterize_reference, case, torch.float64, outputs)
    _, found = gradients(rasterize_cpu, case, torch.float32, outputs)
    for name in NAMES:
        scale = expected[name].abs().max().clamp_min(1e-6) if expected[name].numel() else 1.0
        error = (found[name] - expected[name]).abs().amax() / scale if found[name].numel() else 0
        assert error < GRADIENT_TOLERANCE, f"{name}: {error:.2e} of {scale:.2e}"


@pytest.mark.parametrize("name", CASES)
def test_the_images_are_those_of_the_reference(name: str):
    case = CASES[name]
    mask = safe_pixels(case)
    assert mask.double().mean() > 0.8
    views = len(case.cameras)
    backgrounds = torch.linspace(0, 1, 3 * views).reshape(views, 3)
    found = draw(rasterize_cpu, case, torch.float32, backgrounds=backgrounds)
    expected = draw(rasterize_reference, case, torch.float64, backgrounds=backgrounds.double())
    for a, b in zip(found, expected, strict=True):
        difference = (a - b).abs()[mask]
        assert difference.amax() < VALUE_TOLERANCE * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("name", CASES)
def test_the_gradients_are_those_of_the_reference(name: str):
    assert_gradients_agree(CASES[name], Rendering._fields)


@pytest.mark.parametrize("output", Rendering._fields)
def test_the_loss_may_depend_on_one_output_alone(output: str):
    assert_gradients_agree(CASES["random"], (output,))


def test_the_default_background_is_black():
    case = CASES["random"]
    black = torch.zeros(2, 3)
    found = draw(rasterize_cpu, case, torch.float32)
    assert torch.equal(found.rgb, draw(rasterize_cpu, case, torch.float32, backgrounds=black).rgb)


def test_without_gaussians_only_the_background_is_drawn():
    backgrounds = torch.rand(2, 3)
    images = draw(rasterize_cpu, CASES["no Gaussians"], torch.float32, backgrounds=backgrounds)
    assert torch.equal(images.rgb, backgrounds[:, None, None].expand(images.rgb.shape))
    assert not images.alpha.any()
    assert not images.depth.any()


def test_backward_passes_may_follow_two_forward_passes_in_any_order():
    """Workspaces of several forwards live beside each other."""
    cases = [CASES["random"], CASES["off screen"], CASES["many"]]
    alone = [gradients(rasterize_cpu, case, torch.float32)[1]["means"] for case in cases]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        leaves = [case.means.float().requires_grad_() for case in cases]
        losses = []
        for case, means in zip(cases, leaves, strict=True):
            rest = [tensor.float() for tensor in case[1:5]]
            images = drawn([means, *rest], case, torch.linspace(0.1, 0.9, 6).reshape(2, 3))
            losses.append(loss(images, safe_pixels(case), Rendering._fields))
        for index in order:
            losses[index].backward()
        for means, expected in zip(leaves, alone, strict=True):
            assert means.grad is not None
            assert torch.equal(means.grad, expected)


def test_a_second_backward_through_one_forward_gives_the_same():
    case = CASES["random"]
    means = case.means.float().requires_grad_()
    images = drawn([means, *(tensor.float() for tensor in case[1:5])], case)
    total = images.rgb.square().sum()
    first, second = (torch.autograd.grad(total, means, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_workspaces_of_other_sizes_can_be_reused():
    fresh = gradients(rasterize_cpu, CASES["random"], torch.float32)
    for name in ("many", "no Gaussians", "one pixel", "a high image", "colors by view"):
        gradients(rasterize_cpu, CASES[name], torch.float32)
    again = gradients(rasterize_cpu, CASES["random"], torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(fresh[0], again[0], strict=True))
    assert all(torch.equal(fresh[1][name], again[1][name]) for name in NAMES)


def test_memory_that_was_freed_is_allocated_again():
    case = random_case()
    before = draw(rasterize_cpu, case, torch.float32)
    assert cpu._Workspace._free
    cpu.free_workspaces()
    assert cpu._Workspace._free == []
    assert torch.equal(draw(rasterize_cpu, case, torch.float32).rgb, before.rgb)


def test_an_input_that_is_changed_before_the_backward_is_refused():
    case = CASES["random"]
    means = case.means.float()
    opacities = case.opacities.float().requires_grad_()
    rest = [case.quats.float(), case.scales.float(), opacities, case.colors.float()]
    images = drawn([means, *rest], case)
    with torch.no_grad():
        means += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        images.rgb.sum().backward()


def test_inputs_need_not_be_contiguous():
    case = CASES["random"]
    strided = case._replace(
        means=case.means.T.contiguous().T, colors=case.colors.repeat(1, 2)[:, :3]
    )
    found, expected = (draw(rasterize_cpu, c, torch.float32) for c in (strided, case))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_double_precision_is_refused():
    with pytest.raises(TypeError, match=r"float32 on the CPU, found torch\.float64"):
        draw(rasterize_cpu, CASES["random"], torch.float64)


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("name", ["many", "colors by view", "an opaque stack"])
def test_any_number_of_threads_gives_the_same_bits(name: str):
    results = []
    for threads in (1, 2, 3):
        kernels().set_threads(threads)
        results.append(gradients(rasterize_cpu, CASES[name], torch.float32))
    for images, found in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(images, results[0][0], strict=True))
        assert all(torch.equal(found[key], results[0][1][key]) for key in NAMES)


@pytest.mark.usefixtures("restored_threads")
def test_python_threads_may_rasterize_at_the_same_time():
    kernels().set_threads(2)
    names = ["random", "off screen", "colors by view", "an opaque stack"]
    expected = [gradients(rasterize_cpu, CASES[name], torch.float32)[1] for name in names]
    found: list[dict[str, Tensor]] = [{} for _ in names]

    def work(index: int) -> None:
        found[index] = gradients(rasterize_cpu, CASES[names[index]], torch.float32)[1]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(names))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for a, b in zip(found, expected, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in NAMES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "colors"])
def test_a_gaussian_that_is_not_finite_does_not_affect_others(field: str, value: float):
    """They may spoil pixels, not the process; Gaussians elsewhere are drawn as before."""
    case = random_case(12, 16, 24, seed=20)
    tensors = [tensor.clone() for tensor in case[:5]]
    tensors[Case._fields.index(field)][3] = value
    images, found = gradients_of_all(case._replace(**dict(zip(NAMES[:5], tensors, strict=True))))
    assert images.rgb.shape == (2, 16, 24, 3)
    assert found["means"].shape == (12, 3)
    after, _ = gradients_of_all(case)
    assert all(image.isfinite().all() for image in after)


def gradients_of_all(case: Case) -> tuple[Rendering, dict[str, Tensor]]:
    leaves = [tensor.float().requires_grad_() for tensor in case[:5]]
    images = drawn(leaves, case)
    total = torch.stack([image.sum() for image in images]).sum()
    return images, dict(zip(NAMES[:5], torch.autograd.grad(total, leaves), strict=True))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spherical_harmonics_agree_in_value_and_gradient(degree: int):
    case = CASES["random"]
    generator = torch.Generator().manual_seed(degree)
    count, coefficients = len(case.means), (degree + 1) ** 2
    sh = torch.randn(count, coefficients, 3, generator=generator, dtype=torch.float64)
    stored = Gaussians(
        case.means, case.quats, case.scales.log(), case.opacities.clamp(0.01, 0.99).logit(),
        0.4 * sh[:, :1] + 0.5, 0.2 * sh[:, 1:],
    )  # fmt: skip
    mask = safe_pixels(case._replace(opacities=stored.opacities.sigmoid()))
    results = []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        leaves = stored.map(
            lambda tensor, dtype=dtype: tensor.to(dtype, copy=True).requires_grad_()
        )
        images = render_gaussians(leaves, case.cameras, backend=backend)
        total = loss(images, mask, Rendering._fields)
        by_leaf = torch.autograd.grad(total, list(leaves), materialize_grads=True)
        results.append(([image.detach() for image in images], by_leaf))
    (found, by_found), (expected, by_expected) = results
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs()[mask].amax() < VALUE_TOLERANCE * max(1.0, float(b.abs().max()))
    for name, a, b in zip(Gaussians._fields, by_found, by_expected, strict=True):
        if b.numel():
            assert (a - b).abs().max() < GRADIENT_TOLERANCE * b.abs().max(), name


def test_kernels_that_were_not_built_are_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
):
    kernels.cache_clear()
    monkeypatch.setattr(library, "built", lambda: False)
    with pytest.raises(BackendError, match=r"install a C\+\+ compiler.*recon\.native\.build"):
        draw(rasterize_cpu, CASES["random"], torch.float32)
