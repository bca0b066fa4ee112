import gc
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from generation import cost as module
from generation.cost import (
    Estimate,
    PeakMemory,
    Setting,
    count_flops,
    estimate,
    measured_rate,
    peak_bytes,
    step_cost,
)
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from generation.networks import Architecture
from generation.pipelines import open_pipeline
from generation.presets import SamplingPlan, make_plan
from generation.settings import GenerateSettings
from generation.weights.model_weights import find_architecture
from tests.generation.tiny_networks import TINY, tiny_clip
from tests.generation.tiny_trained import GRID, write_trained_cascade

SIZE, RATE = 128, 1e12
SMALL = replace(SV4DConfig(), **TINY | {"model_channels": 64, "channel_mult": (1, 2, 2, 2)})
NETWORKS = Architecture(SMALL)


def grid_input(T: int, V: int, side: int, device: str) -> tuple[torch.Tensor, ...]:
    """Inputs of SMALL for both halves of the guidance."""
    N = 2 * T * V
    shapes = (
        (N, SMALL.in_channels, side, side),
        (N,),
        (N, SMALL.adm_in_channels),
        (2, T, SMALL.context_dim),
        (2, V, 4, side, side),
    )
    return tuple(torch.ones(shape, device=device) for shape in shapes)


def allocated_peak(run) -> int:
    """Return the peak bytes that the CPU's allocator reports."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = run()
    del result
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [event for event in events if event.name() == "[memory]"]
    live = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        live += change.nbytes()  # type: ignore[attr-defined]
        peak = max(peak, live)
    return peak


def architectures(todo: SamplingPlan, folder: Path | None = None) -> dict[str, Architecture]:
    """Return the architectures of a plan's models, with a small UNet for a published base."""
    found = {name: find_architecture(name, folder) for name in todo.models}
    if folder is None:
        base = todo.preset.model
        found[base] = replace(found[base], unet=SMALL)
    return found


def estimated(frames: int = 9, low_memory: bool = False, precision: str = "auto") -> Estimate:
    settings = GenerateSettings(
        "sv4d2_8views", device="cuda", low_memory=low_memory, precision=precision
    )
    todo = make_plan(settings, frames)
    return estimate(todo, settings, SIZE, frames, RATE, architectures(todo))


@pytest.mark.parametrize("tokens", [256, 10**9])
def test_memory_traced_on_meta_is_that_of_a_cpu_run(tokens):
    unet = SV4DUNet(SMALL).eval()
    unet.limit_memory(tokens)
    inputs = grid_input(3, 4, 16, "cpu")
    with torch.inference_mode():
        unet(*inputs)  # threads and their buffers come to be
        allocated = allocated_peak(lambda: unet(*inputs))
        on_cpu = peak_bytes(lambda: unet(*inputs), "cpu")
        unet.to("meta")
        meta = grid_input(3, 4, 16, "meta")
        on_meta = peak_bytes(lambda: unet(*meta))
    assert on_cpu == pytest.approx(allocated, rel=0.15)
    assert on_meta == pytest.approx(allocated, rel=0.2)


def test_freed_memory_is_not_counted():
    with torch.inference_mode(), PeakMemory("cpu") as memory:
        first = torch.ones(1000)
        second = first * 2
        del first
        third = second.view(10, 100)[3] + 1
        del second
    assert memory.live == third.untyped_storage().nbytes() == 400
    assert memory.peak == 8000
    del third
    gc.collect()
    assert memory.live == 0


def test_existing_memory_and_views_of_it_are_not_counted():
    x = torch.ones(8, 8)
    assert peak_bytes(lambda: x.T[1:].unflatten(1, (2, 4)), "cpu") == 0


def test_repeated_operations_on_meta_are_counted_again():
    x = torch.empty(100, device="meta")
    assert peak_bytes(lambda: [x + 1, x + 1, x + 1]) == 1200


def test_flops_of_layers_are_those_counted_by_hand():
    with torch.device("meta"):
        convolution, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 16)
        image, tokens = torch.empty(2, 3, 10, 12), torch.empty(5, 7, 8)
        q, k = torch.empty(2, 4, 9, 16), torch.empty(2, 4, 11, 16)
    attention = nn.functional.scaled_dot_product_attention
    with torch.inference_mode():
        assert count_flops(lambda: convolution(image)) == 2 * (2 * 10 * 12) * 8 * (3 * 9)
        assert count_flops(lambda: linear(tokens)) == 2 * 35 * 8 * 16
        assert count_flops(lambda: attention(q, k, k)) == 2 * 2 * (2 * 4) * 9 * 11 * 16


def test_flops_do_not_depend_on_chunks_or_on_separate_halves_of_guidance():
    costs = [
        step_cost(2, 3, Setting(NETWORKS, SIZE, torch.float32, low_memory, on_cpu))
        for low_memory, on_cpu in ((False, False), (False, True), (True, False))
    ]
    assert costs[0].flops == costs[1].flops
    assert costs[2].flops == pytest.approx(costs[0].flops, rel=1e-3)


@pytest.mark.slow
def test_low_memory_and_half_precision_need_less_memory():
    usual, low, wide = estimated(), estimated(low_memory=True), estimated(precision="float32")
    assert low.device_memory_bytes < 0.7 * usual.device_memory_bytes
    assert wide.device_memory_bytes > 1.4 * usual.device_memory_bytes
    assert low.disk_bytes == usual.disk_bytes


def test_activations_grow_with_the_frames_of_a_call_and_weights_do_not():
    costs = [step_cost(T, 4, Setting(NETWORKS, SIZE, torch.bfloat16)) for T in (4, 8)]
    assert costs[1].memory == pytest.approx(2 * costs[0].memory, rel=0.05)
    assert costs[1].flops == pytest.approx(2 * costs[0].flops, rel=0.05)


def test_work_and_disk_grow_with_the_clip_and_memory_hardly():
    short, long = estimated(9), estimated(17)  # two and four windows of five frames
    assert long.flops == pytest.approx(2 * short.flops, rel=0.05)
    assert long.disk_bytes == pytest.approx(17 / 9 * short.disk_bytes, rel=0.05)
    assert long.device_memory_bytes == pytest.approx(short.device_memory_bytes, rel=0.02)
    assert long.seconds == long.flops / RATE


@pytest.mark.slow
def test_the_orbit_model_adds_its_work_and_the_larger_peak_counts():
    settings = GenerateSettings(model="sv4d", device="cuda")
    both = make_plan(settings, 5)
    alone = replace(both, orbit_model=None, orbit_azimuths_deg=())
    with_orbit, without = (
        estimate(each, settings, SIZE, 5, RATE, architectures(each)) for each in (both, alone)
    )
    sv3d = architectures(both)["sv3d_u"]
    orbit = step_cost(1, 21, Setting(sv3d, SIZE, torch.bfloat16))
    assert with_orbit.flops - without.flops == pytest.approx(both.steps * orbit.flops, rel=0.05)
    assert with_orbit.device_memory_bytes > without.device_memory_bytes + orbit.memory / 2
    assert with_orbit.disk_bytes > without.disk_bytes


@pytest.mark.slow
def test_an_estimate_allocates_no_weights():
    step_cost.cache_clear()
    module._unet.cache_clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    settings = GenerateSettings("sv4d2", device="cuda")
    todo = make_plan(settings, 5)
    full_size = {name: find_architecture(name) for name in todo.models}
    result = estimate(todo, settings, SIZE, 5, RATE, full_size)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert result.device_memory_bytes > 5e9
    assert after - before < 300_000  # KiB


def test_an_orbit_of_the_small_network_runs():
    small = Architecture(replace(UNetConfig(adm_in_channels=256), **TINY))
    assert step_cost(1, 21, Setting(small, SIZE, torch.float32)).memory > 0
    assert isinstance(module._unet(small), SV3DUNet)


def test_the_measured_rate_of_this_machine_is_positive():
    assert 1e8 < measured_rate("cpu") < 1e14


@pytest.mark.slow
def test_the_cascade_takes_its_two_grids_and_the_branch():
    def cost(**others) -> Estimate:
        settings = GenerateSettings(model="4dvd", device="cuda", views=3, **others)
        todo = make_plan(settings, 9)
        return estimate(todo, settings, 320, 9, RATE, architectures(todo))

    both, coarse = cost(), cost(coarse_only=True)
    settings = GenerateSettings(model="4dvd", device="cuda", views=3)
    todo = make_plan(settings, 9)
    alone = replace(todo, coarse_size=None)
    fine = estimate(alone, settings, 320, 9, RATE, architectures(alone))
    networks = architectures(todo)
    setting = Setting(networks["sv4d"], 320, torch.bfloat16)
    costs = {T: module.branch_cost(T, 4, setting, 256) for T in (3, 4, 5)}
    orbit = step_cost(1, 21, setting._replace(architecture=networks["sv3d_p"])).flops * 20
    branches = costs[5].flops + 2 * (2 * costs[4].flops + costs[3].flops)
    encoded = 9 * 4 * module.encoding_cost(1, setting._replace(size=256)).flops
    expected = coarse.flops + fine.flops - orbit + branches + encoded
    assert both.flops == pytest.approx(expected, rel=0.01)
    assert both.disk_bytes > fine.disk_bytes
    with_branch, without = (module._stages(each, setting, 9)[-1].memory for each in (todo, alone))
    parameters = sum(
        parameter.numel() for parameter in module._branch(networks["sv4d"]).parameters()
    )
    assert with_branch - without == 2 * parameters + 2 * costs[4].memory


def test_memory_of_a_branch_is_that_of_its_features():
    setting = Setting(NETWORKS, SIZE, torch.bfloat16)
    widths = ((64, 16), (64, 16), (64, 8), (128, 8), (128, 4), (128, 4), (128, 2), (128, 2),
              (128, 4), (128, 8), (128, 16))  # fmt: skip
    numbers = sum(width * side**2 for width, side in widths)
    assert module.branch_cost(2, 3, setting, SIZE).memory == 2 * 6 * numbers


@pytest.fixture(scope="module")
def cascade(tmp_path_factory) -> Path:
    return write_trained_cascade(tmp_path_factory.mktemp("cascade"))


@pytest.mark.parametrize("coarse_only", [pytest.param(False, marks=pytest.mark.slow), True])
def test_flops_of_a_trained_cascade_are_those_counted_while_it_runs(cascade, tmp_path, coarse_only):
    settings = GenerateSettings("mini", steps=1, views=1, coarse_only=coarse_only, size=SIZE)
    todo = make_plan(settings, 7)
    pipeline = open_pipeline(settings, cascade)
    done = count_flops(lambda: pipeline.generate(tiny_clip(7, SIZE), tmp_path / "grid"))
    found = estimate(todo, settings, SIZE, 7, RATE, architectures(todo, cascade))
    assert found.flops == pytest.approx(done, rel=0.05)
    assert found.seconds == found.flops / RATE


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.slow)])
def test_memory_of_a_trained_cascade_grows_with_the_size_and_not_with_the_clip(cascade, device):
    def memory(size: int, frames: int) -> int:
        settings = GenerateSettings("mini", device=device, views=3)
        todo = make_plan(settings, frames)
        found = estimate(todo, settings, size, frames, RATE, architectures(todo, cascade))
        return found.device_memory_bytes

    assert 0 < 2 * memory(64, 5) < memory(128, 5) < memory(256, 5) / 2
    assert memory(128, 21) == pytest.approx(memory(128, 9), rel=0.1)


def test_without_guidance_a_step_takes_half():
    setting = Setting(Architecture(GRID), SIZE, torch.float32)
    both, one = (step_cost(2, 3, setting._replace(guided=each)) for each in (True, False))
    assert both.flops == pytest.approx(2 * one.flops, rel=1e-3)
    assert both.memory > 1.5 * one.memory
