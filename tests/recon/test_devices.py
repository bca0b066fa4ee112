import importlib.util

import pytest
import torch

from recon.devices import resolve_device, usable_threads
from recon.errors import BackendError, InputError


@pytest.fixture
def machine(monkeypatch):
    """A machine with or without a CUDA device and gsplat."""

    def make(cuda: bool, gsplat: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        spec = object() if gsplat else None
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    return make


@pytest.mark.parametrize(
    ("cuda", "gsplat", "expected"),
    [(True, True, "cuda"), (True, False, "cpu"), (False, True, "cpu"), (False, False, "cpu")],
)
def test_auto_selects_cuda_only_if_it_is_usable(machine, cuda, gsplat, expected):
    machine(cuda, gsplat)
    assert resolve_device("auto") == expected


def test_cpu_is_selected_even_if_cuda_is_available(machine):
    machine(cuda=True, gsplat=True)
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize(("cuda", "what"), [(False, "CUDA build|NVIDIA"), (True, "gsplat")])
def test_unusable_cuda_is_an_error_that_says_what_to_do(machine, cuda, what):
    machine(cuda, gsplat=False)
    with pytest.raises(BackendError, match=what):
        resolve_device("cuda")


def test_other_names_are_refused():
    with pytest.raises(InputError, match="tpu"):
        resolve_device("tpu")


@pytest.mark.parametrize(
    ("variable", "threads"), [("1", 1), ("2,1", 2), ("99", 4), ("", 4), ("0", 4), ("all", 4)]
)
def test_threads_are_those_of_openmp_but_at_most_one_per_core(monkeypatch, variable, threads):
    monkeypatch.setattr("recon.devices.usable_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert usable_threads() == threads
