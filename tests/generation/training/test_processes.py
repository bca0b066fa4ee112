"""Unsharded tensors pass unchanged, and unsupported launches are refused.

Those of several are in `test_sharded_training` and `test_two_processes`.
"""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from generation.training.processes import check_distribution, distribute_like, fill, gather
from recon.errors import InputError


def test_gather_and_fill_are_trivial_in_one_process():
    tensor = torch.zeros(2, 3)
    assert gather(tensor) is tensor
    fill(tensor, torch.ones(2, 3))
    assert torch.equal(tensor, distribute_like(torch.ones(2, 3), tensor))


@pytest.mark.parametrize(
    ("kind", "version", "sentence"),
    [("DEEPSPEED", None, "DEEPSPEED"), ("FSDP", 1, "--fsdp_version 2")],
)
def test_other_distributed_launches_are_refused(kind, version, sentence):
    plugin = version and SimpleNamespace(fsdp_version=version)
    accelerator = SimpleNamespace(
        distributed_type=SimpleNamespace(value=kind), state=SimpleNamespace(fsdp_plugin=plugin)
    )
    with pytest.raises(InputError, match=sentence):
        check_distribution(cast(Any, accelerator))


def test_weights_of_shards_cannot_be_averaged():
    accelerator = SimpleNamespace(
        distributed_type=SimpleNamespace(value="FSDP"),
        state=SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=2)),
    )
    check_distribution(cast(Any, accelerator))
    with pytest.raises(InputError, match=r"average_every = 0 for FSDP.*found 100"):
        check_distribution(cast(Any, accelerator), average_every=100)
