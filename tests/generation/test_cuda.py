"""The networks on a CUDA device: the CPU's results, and the estimated memory."""

from dataclasses import replace

import pytest
import torch

from generation.cost import estimate
from generation.presets import make_plan
from generation.settings import GenerateSettings
from generation.weights.model_weights import find_architecture
from tests.generation.parity_fixtures import BUNDLED, Fixture, call, error, read_network
from tests.generation.test_pipeline import make

pytestmark = pytest.mark.gpu

FIXTURE = Fixture(BUNDLED / "unet" / "sv4d2_8views.json")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.mark.parametrize(
    ("dtype", "rms"), [(torch.float32, 2e-4), (torch.bfloat16, 0.1), (torch.float16, 0.05)]
)
def test_parity_of_a_network_call_on_cuda(dtype: torch.dtype, rms: float):
    meta, tensors = FIXTURE.meta, FIXTURE.tensors(".io.safetensors")
    network = read_network(FIXTURE).to("cuda", dtype)
    network.to_channels_last()
    case = list(meta["cases"])[-1]
    io = {key.removeprefix(f"{case}."): value.cuda() for key, value in tensors.items()}
    assert error(call(network, meta, io).float().cpu(), io["out"].cpu())[1] < rms
    network.limit_memory(100)
    assert error(call(network, meta, io).float().cpu(), io["out"].cpu())[1] < rms


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_generation_on_cuda_is_that_of_the_cpu(tmp_path, monkeypatch, low_memory: bool):
    settings = GenerateSettings(
        model="sv4d2_8views", steps=2, views=2, precision="float32", size=64
    )
    on_cpu = make(tmp_path, settings, name="cpu").grid.images
    on_cuda = replace(settings, device="cuda", low_memory=low_memory)
    made = make(tmp_path, on_cuda, name="cuda").grid.images
    assert abs(made[..., :3].astype(int) - on_cpu[..., :3]).max() <= 2


@pytest.mark.slow
@pytest.mark.parametrize(("views", "low_memory"), [(4, False), (16, False), (16, True)])
@torch.inference_mode()
def test_the_peak_of_a_full_size_call_is_as_estimated_and_below_30_gb(views, low_memory):
    settings = GenerateSettings(model="sv4d", views=views, low_memory=low_memory, device="cuda")
    todo = make_plan(settings, 5)
    architectures = {name: find_architecture(name) for name in todo.models}
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            network = architectures["sv4d"].build_unet().eval()
        finally:
            torch.set_default_dtype(torch.float32)
    network.to_channels_last()
    network.limit_memory(2 * 72 * 72 if low_memory else None)
    b, N = (1, 5 * views) if low_memory else (2, 2 * 5 * views)
    torch.cuda.reset_peak_memory_stats()
    network(
        torch.randn(N, 8, 72, 72, device="cuda"),
        torch.zeros(N, device="cuda"),
        torch.randn(N, 1280, device="cuda"),
        torch.randn(b, 5, 1024, device="cuda"),
        torch.randn(b, views, 4, 72, 72, device="cuda"),
    )
    peak = torch.cuda.max_memory_allocated()
    expected = estimate(todo, settings, 576, 5, 1e14, architectures).device_memory_bytes
    assert peak < 30e9
    assert peak < 1.3 * expected
