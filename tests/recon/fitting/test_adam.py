"""Adam agrees with PyTorch's, compiled and not."""

import pytest
import torch
from torch import nn

from recon.fitting import adam
from recon.fitting.adam import Adam
from recon.native.library import built, kernels

SHAPES = [(20000, 3), (7,), (), (1, 5, 2), (0, 4)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape, generator=seeded(i))) for i, shape in enumerate(SHAPES)]


def groups(values: list[nn.Parameter]) -> list[dict]:
    return [{"params": values[:2], "lr": 1e-2}, {"params": values[2:], "lr": 3e-4}]


def set_gradients(values: list[nn.Parameter], iteration: int) -> None:
    """Gradients of very different sizes; the second tensor has none in odd iterations."""
    for i, value in enumerate(values):
        generator = seeded(100 * iteration + i)
        gradient = torch.randn(value.shape, generator=generator)
        value.grad = gradient * 10 ** (8 * torch.rand(value.shape, generator=generator) - 8)
    if iteration % 2:
        values[1].grad = None


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_many_steps_agree_with_pytorch(threads: int, monkeypatch: pytest.MonkeyPatch):
    """Without threads the kernel is not used."""
    if threads and not built():
        pytest.skip("the CPU kernels were not compiled")
    if threads:
        kernels().set_threads(threads)
    else:
        monkeypatch.setattr(adam, "have_kernel", lambda *tensors: False)
    ours, theirs = parameters(), parameters()
    optimizer, reference = Adam(groups(ours)), torch.optim.Adam(groups(theirs), eps=1e-15)
    for iteration in range(12):
        for group in (*optimizer.param_groups, *reference.param_groups):
            group["lr"] *= 0.9
        set_gradients(ours, iteration)
        set_gradients(theirs, iteration)
        optimizer.step()
        reference.step()
    if threads:
        kernels().set_threads(0)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
        for key in ("exp_avg", "exp_avg_sq", "step"):
            torch.testing.assert_close(
                optimizer.state[mine][key], reference.state[other][key], rtol=1e-5, atol=1e-7
            )


def test_a_gradient_that_is_not_contiguous_is_read_in_its_order():
    value = nn.Parameter(torch.zeros(2, 3))
    value.grad = torch.tensor([[1.0, -1], [1, 1], [-1, 1]]).T
    Adam([{"params": [value], "lr": 0.5}]).step()
    torch.testing.assert_close(value.detach(), -0.5 * value.grad)


def test_tensors_in_double_precision_are_updated_without_the_kernel():
    value = nn.Parameter(torch.ones(3, dtype=torch.float64))
    value.grad = torch.ones_like(value)
    Adam([{"params": [value], "lr": 0.25}]).step()
    torch.testing.assert_close(value.detach(), torch.full((3,), 0.75, dtype=torch.float64))
