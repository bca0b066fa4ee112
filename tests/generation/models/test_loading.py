"""Tensors are loaded only into a module that they fit."""

import pytest
import torch

from generation.models.loading import load_module
from recon.errors import WeightsError


class Net(torch.nn.Module):
    def __init__(self, persistent: bool = True):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.register_buffer("scale", torch.ones(2), persistent)


def on_meta(persistent: bool = True) -> Net:
    with torch.device("meta"):
        return Net(persistent)


def test_a_module_on_the_meta_device_gets_the_tensors_themselves_and_no_gradients():
    tensors = {key: tensor.double() for key, tensor in Net().state_dict().items()}
    module = load_module(on_meta(), tensors)
    assert module.linear.weight.data_ptr() == tensors["linear.weight"].data_ptr()
    assert module.linear.weight.dtype == torch.float64
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert module.linear(torch.ones(1, 3, dtype=torch.float64)).shape == (1, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"linear.bias": None}, "1 missing \\(linear.bias\\)"),
        ({"linear.lora": torch.ones(1)}, "1 extra \\(linear.lora\\)"),
        ({"linear.bias": torch.ones(5)}, "linear.bias: expected 2, found 5"),
        ({"linear.bias": torch.tensor(1.0)}, "expected 2, found a single number"),
    ],
)
def test_tensors_that_do_not_fit_a_module_are_refused(change, said):
    tensors = Net().state_dict() | change
    with pytest.raises(WeightsError, match=f"do not fit Net; .*{said}"):
        load_module(on_meta(), {key: value for key, value in tensors.items() if value is not None})


def test_nothing_of_a_module_may_stay_on_the_meta_device():
    weights = {k: v for k, v in Net().state_dict().items() if k != "scale"}
    with pytest.raises(WeightsError, match="found none for scale"):
        load_module(on_meta(persistent=False), weights)
    module = on_meta()
    module.linear.table = torch.empty(4, device="meta")
    with pytest.raises(WeightsError, match=r"found none for linear\.table"):
        load_module(module, Net().state_dict())
