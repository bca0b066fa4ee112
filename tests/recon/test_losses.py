"""The image loss: the kernel against PyTorch in float64, and PyTorch against skimage."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from recon.losses import (
    LossWeights,
    image_loss,
    image_loss_cpu,
    image_loss_reference,
    ssim_map,
)
from recon.native.library import built, kernels

needs_kernels = pytest.mark.skipif(not built(), reason="the CPU kernels were not compiled")

V, HEIGHT, WIDTH = 3, 31, 26


class Case(NamedTuple):
    """Arguments of the loss; images in float64."""

    rgb: Tensor
    alpha: Tensor
    targets: list[Tensor]
    backgrounds: Tensor
    boxes: Tensor
    image_weights: Tensor
    weights: LossWeights


def case(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    targets = (256 * uniform(V, height, width, 4)).to(torch.uint8)
    targets[:, : height // 3, :, 3] = 0
    targets[:, -height // 3 :, :, 3] = 255
    return Case(
        rgb=uniform(V, height, width, 3),
        alpha=uniform(V, height, width),
        targets=list(targets),
        backgrounds=uniform(V, 3),
        boxes=torch.tensor([[0, 0, width, height]], dtype=torch.int32).repeat(V, 1),
        image_weights=0.5 + uniform(V),
        weights=LossWeights(),
    )


def evaluate(function: Callable, arguments: Case, dtype: torch.dtype) -> list[Tensor]:
    """Value, squared errors and gradients by rgb and alpha."""
    leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in arguments[:2]]
    loss = function(
        *leaves,
        arguments.targets,
        arguments.backgrounds.to(dtype),
        arguments.boxes,
        arguments.image_weights.to(dtype),
        arguments.weights,
    )
    by_leaf = torch.autograd.grad(3 * loss.total, leaves, materialize_grads=True)
    return [loss.total.detach(), loss.squared_error, *by_leaf]


def assert_implementations_agree(arguments: Case) -> None:
    expected = evaluate(image_loss_reference, arguments, torch.float64)
    found = evaluate(image_loss_cpu, arguments, torch.float32)
    for a, b in zip(found, expected, strict=True):
        scale = b.abs().max().clamp_min(1e-9)
        torch.testing.assert_close(a.double() / scale, b / scale, atol=1e-4, rtol=0)


BOXES = {
    "the whole image": [[0, 0, WIDTH, HEIGHT]] * V,
    "inside": [[8, 9, 20, 22], [3, 12, 14, 13], [10, 10, 11, 11]],
    "at the border": [[0, 0, 5, 6], [WIDTH - 4, 0, WIDTH, HEIGHT], [7, HEIGHT - 1, 12, HEIGHT]],
    "near the border": [[2, 3, 9, 9], [WIDTH - 8, 4, WIDTH - 3, 9], [4, HEIGHT - 7, 9, HEIGHT - 4]],
    "empty": [[0, 0, 0, 0], [5, 5, 5, 9], [0, 0, WIDTH, HEIGHT]],
}
WEIGHTS = [
    LossWeights(1.0, 0.0, 0.0),
    LossWeights(0.0, 1.0, 0.0),
    LossWeights(0.0, 0.0, 1.0),
    LossWeights(0.8, 0.2, 0.3),
]


@needs_kernels
@pytest.mark.parametrize("name", BOXES)
def test_the_kernel_agrees_with_the_reference_in_every_box(name: str):
    assert_implementations_agree(case()._replace(boxes=torch.tensor(BOXES[name])))


@needs_kernels
@pytest.mark.parametrize("weights", WEIGHTS, ids=["l1", "ssim", "alpha", "all"])
def test_the_kernel_agrees_with_the_reference_in_every_term(weights: LossWeights):
    assert_implementations_agree(case()._replace(weights=weights))


@needs_kernels
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (11, 11)])
def test_the_kernel_agrees_with_the_reference_in_every_size(size: tuple[int, int]):
    assert_implementations_agree(case(*size))


@needs_kernels
def test_the_kernel_agrees_on_images_that_are_nearly_right():
    arguments = case()
    target = torch.stack(arguments.targets).double() / 255
    over = target[..., :3] * target[..., 3:]
    over = over + (1 - target[..., 3:]) * arguments.backgrounds[:, None, None]
    noise = torch.linspace(-0.02, 0.0201, over.numel(), dtype=torch.float64).reshape(over.shape)
    assert_implementations_agree(
        arguments._replace(rgb=over + noise, alpha=target[..., 3] + noise[..., 0])
    )


@needs_kernels
def test_uninitialized_memory_has_no_effect():
    first = evaluate(image_loss_cpu, case(), torch.float32)
    evaluate(image_loss_cpu, case(50, 60, seed=1), torch.float32)
    evaluate(image_loss_cpu, case(2, 2, seed=2), torch.float32)
    again = evaluate(image_loss_cpu, case(), torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@needs_kernels
def test_any_number_of_threads_gives_the_same_bits():
    results = []
    for threads in (1, 2, 3):
        kernels().set_threads(threads)
        results.append(evaluate(image_loss_cpu, case(), torch.float32))
    kernels().set_threads(0)
    for found in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found, results[0], strict=True))


def test_the_gradient_of_the_reference_agrees_with_finite_differences():
    arguments = case(6, 7)._replace(boxes=torch.tensor([[1, 1, 6, 5]] * V))
    leaves = tuple(tensor.clone().requires_grad_() for tensor in arguments[:2])
    assert torch.autograd.gradcheck(
        lambda rgb, alpha: image_loss_reference(rgb, alpha, *arguments[2:]).total,
        leaves,
        fast_mode=True,
    )


def test_equal_images_have_no_loss():
    arguments = case()
    target = torch.stack(arguments.targets).double() / 255
    over = target[..., :3] * target[..., 3:]
    over = over + (1 - target[..., 3:]) * arguments.backgrounds[:, None, None]
    right = arguments._replace(rgb=over, alpha=target[..., 3])
    assert evaluate(image_loss_reference, right, torch.float64)[0] == pytest.approx(0, abs=1e-12)
    assert evaluate(image_loss, right, torch.float32)[0] == pytest.approx(0, abs=1e-6)


def test_an_image_of_weight_zero_gets_no_gradient_but_its_error_is_reported():
    arguments = case()
    arguments.image_weights[1] = 0
    _, squares, by_rgb, by_alpha = evaluate(image_loss, arguments, torch.float32)
    assert squares[1] > 0.01
    assert not by_rgb[1].any()
    assert not by_alpha[1].any()
    assert by_rgb[0].any()


def test_the_squared_error_is_that_of_the_composited_images():
    arguments = case()
    squares = evaluate(image_loss, arguments, torch.float32)[1]
    for view, target in enumerate(arguments.targets):
        straight = target.numpy() / 255
        alpha = straight[..., 3:]
        over = straight[..., :3] * alpha + (1 - alpha) * arguments.backgrounds[view].numpy()
        expected = np.mean((arguments.rgb[view].numpy() - over) ** 2)
        assert float(squares[view]) == pytest.approx(float(expected), rel=1e-5)


def test_the_similarity_map_is_that_of_skimage_in_the_interior():
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 3, 30, 33, generator=generator, dtype=torch.float64)
    y = (x + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    found = ssim_map(x, y)
    for view in range(2):
        result = structural_similarity(
            x[view].permute(1, 2, 0).numpy(),
            y[view].permute(1, 2, 0).numpy(),
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        expected = np.asarray(result[1])[5:-5, 5:-5]
        np.testing.assert_allclose(found[view].permute(1, 2, 0)[5:-5, 5:-5], expected, atol=1e-10)


def test_the_similarity_of_equal_images_is_one():
    x = case().rgb.permute(0, 3, 1, 2)
    torch.testing.assert_close(ssim_map(x, x), torch.ones_like(x))
