"""What a generation will take, known before any weight is read.

The networks of full size run on the meta device, one call of each kind, and are observed (see
`generation.observation`); nothing here repeats what they are made of.

Letters: n frames of the clip, T times and V views of a pass, S pixels of an image's side. What it
does not know: what the allocator, cuDNN and the CUDA context take on top.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from generation.conditioning import Conditioning
from generation.models.image_encoders import (
    CLIPImageEncoder,
    ConvImageEncoder,
)
from generation.models.structure_branch import Structure, StructureBranch, build_branch
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from generation.models.vae import (
    LATENT_SIDE,
    decode_in_chunks,
    encode_in_chunks,
)
from generation.networks import (
    LOW_MEMORY_TOKENS,
    Architecture,
    images_at_once,
    predictor,
    working_dtype,
)
from generation.observation import count_flops, peak_bytes
from generation.presets import UNGUIDED, Plan
from generation.settings import GenerateSettings
from generation.windows import Window

PNG_BYTES_PER_PIXEL = 0.5  # RGBA; rendered objects before nothing take 0.2 to 0.35
VIDEO_BYTES_PER_PIXEL = 0.02
EFFICIENCY = {"cpu": 0.45, "cuda": 0.4}  # see `measured_rate`
MEASURED_SECONDS = 0.3


class Estimate(NamedTuple):
    """What a generation takes.

    Attributes:
        device_memory_bytes: peak of weights and activations on the device.
        disk_bytes: of the finished folder and, beside it, the saved state.
        flops: of everything the networks do, both halves of the guidance included.
        seconds: for that.
    """

    device_memory_bytes: int
    disk_bytes: int
    flops: int
    seconds: float


class Cost(NamedTuple):
    """Of one call.

    Attributes:
        memory: bytes of what is made on the way, at the peak; weights and input excluded.
        flops: floating-point operations.
    """

    memory: int
    flops: int


class Setting(NamedTuple):
    """What memory and work depend on, beside the number of images.

    Attributes:
        size: S.
        dtype: type of UNet and image encoder.
        low_memory: see `generation.networks.Networks`.
        on_cpu: whether layers take their tokens in pieces in any case.
        architecture: the networks of the model.
        guided: whether there is a half without conditioning.
    """

    size: int
    dtype: torch.dtype
    low_memory: bool
    on_cpu: bool
    architecture: Architecture = Architecture(UNetConfig())
    guided: bool = True

    @property
    def latent_channels(self) -> int:
        """Of the autoencoder."""
        return self.architecture.unet.out_channels

    @property
    def tokens(self) -> int | None:
        """Through a layer at once. On a CPU it is fewer, which hardly changes the peak."""
        if self.low_memory:
            return LOW_MEMORY_TOKENS
        return 8 * LOW_MEMORY_TOKENS if self.on_cpu else None


def estimate(
    plan: Plan,
    settings: GenerateSettings,
    size: int,
    frames: int,
    rate_flops: float,
    architectures: Mapping[str, Architecture],
) -> Estimate:
    """What a generation will take.

    Args:
        plan: of `generation.presets.make_plan`.
        settings: the same that made the plan.
        size: S.
        frames: n.
        rate_flops: floating-point operations in a second, e.g. from `measured_rate`.
        architectures: networks of each model that `Plan.models` names.

    Returns:
        The estimate; of all stages, SV3D's orbit and the grids, the largest memory.
    """
    setting = Setting(
        size, working_dtype(settings), settings.low_memory, settings.device == "cpu",
        guided=plan.preset.guided,
    )  # fmt: skip
    base, orbit = plan.preset.model, plan.orbit_model
    plan = plan.with_network(architectures[base].unet)
    setting = setting._replace(architecture=architectures[base])
    stages = _grid_stages(plan, setting, frames)
    if orbit is not None:
        config = architectures[orbit].unet
        setting = setting._replace(
            guided=plan.preset.orbit_guidance != UNGUIDED,
            size=min(size, plan.preset.orbit_size or size),
            architecture=architectures[orbit],
        )
        stages.append(_orbit_stage(plan, config, setting))
    flops = sum(stage.flops for stage in stages)
    return Estimate(
        max(stage.memory for stage in stages),
        _disk_bytes(plan, size, frames),
        flops,
        flops / rate_flops,
    )


def measured_rate(device: torch.device | str) -> float:
    """Floating-point operations in a second that the networks can be expected to reach.

    The best rate of a product of large matrices, bfloat16 on CUDA and float32 on a CPU, times
    `EFFICIENCY`: the share of it that a UNet call reaches, because norms, activations and copies
    do no counted work. A CPU's share was between 0.45 (two threads) and 0.77 (one) in runs of
    `tests.benchmarks.unet` beside other programs, of which this is the lower; CUDA's is assumed.

    Args:
        device: where the networks will work; is kept busy for `MEASURED_SECONDS`.
    """
    device = torch.device(device)
    on_cpu = device.type == "cpu"
    return EFFICIENCY["cpu" if on_cpu else "cuda"] * product_rate(
        device, torch.float32 if on_cpu else torch.bfloat16, 1024 if on_cpu else 8192
    )


@torch.inference_mode()
def product_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Floating-point operations in a second of a product of two square matrices, at its best."""
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    result = torch.empty_like(matrix)
    deadline, best = time.perf_counter() + MEASURED_SECONDS, float("inf")
    while time.perf_counter() < deadline:
        began = time.perf_counter()
        torch.mm(matrix, matrix, out=result)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


# -- stages


def _grid_stages(plan: Plan, setting: Setting, frames: int) -> list[Cost]:
    """The grid, or the grids of the cascade."""
    if plan.coarse_size is None:
        return [_grid_stage(plan, setting, frames)]
    small = setting._replace(size=min(plan.coarse_size, setting.size))
    stages = [_grid_stage(plan, small, frames)]
    if plan.fine:
        stages.append(_fine_stage(plan, setting, small, frames))
    return stages


def _fine_stage(plan: Plan, setting: Setting, small: Setting, frames: int) -> Cost:
    """SV4D's grid and what the structure branch adds: itself, and its features in every step.

    The branch is taken to be the paper's; which it is stands in a file that may not be there yet.
    """
    V, config = len(plan.network_azimuths_deg), plan.preset.config
    grid = _grid_stage(plan, setting, frames)
    calls = Counter[int]()
    for each in plan.windows:
        calls[len(each.frames)] += _directions(each)
    costs = {T: branch_cost(config, T, V, setting, small.size) for T in calls}
    flops = sum(count * costs[T].flops for T, count in calls.items())
    flops += frames * V * encoding_cost(1, small).flops
    held = _weight_bytes(_branch(config), setting.dtype)
    held += max(_directions(each) * costs[len(each.frames)].memory for each in plan.windows)
    return Cost(grid.memory + held, grid.flops + flops)


def _grid_stage(plan: Plan, setting: Setting, frames: int) -> Cost:
    """Input frames in, views out; between them the passes."""
    V, config = len(plan.network_azimuths_deg), plan.preset.config
    steps = {T: step_cost(config, T, V, setting) for T in _lengths(plan)}
    flops = sum(
        passes * plan.steps * steps[T].flops for T, passes in _lengths(plan).items()
    )  # a step of a pass with two references has one of them
    seen, made = _references(plan)
    flops += (frames + V * seen) * encoding_cost(1, setting).flops
    flops += V * (frames + made) * decoding_cost(1, setting).flops
    flops += frames * token_cost(1, setting).flops
    step = max(step.memory for step in steps.values())
    separate = setting.architecture.separate_reference_encoder
    return Cost(_peak(config, setting, step, frames, V, 1 + separate), flops)


def _orbit_stage(plan: Plan, config: UNetConfig, setting: Setting) -> Cost:
    """One image in, some views of its orbit out."""
    V = len(plan.azimuths_deg)
    step = step_cost(config, 1, len(plan.orbit_azimuths_deg), setting)
    flops = plan.orbit_steps * step.flops + V * decoding_cost(1, setting).flops
    flops += encoding_cost(1, setting).flops + token_cost(1, setting).flops
    return Cost(_peak(config, setting, step.memory, 1, V, 1), flops)


def _peak(
    config: UNetConfig, setting: Setting, step: int, frames: int, views: int, encoders: int
) -> int:
    """Bytes on the device: with everything on it, or with what works only."""
    at_once = images_at_once(setting.low_memory)
    video = frames * 3 * setting.size**2 * 4
    weights = [
        _weight_bytes(_unet(config), setting.dtype),
        _weight_bytes(_encoder(setting.architecture), torch.float32),
        _weight_bytes(_image_encoder(setting.architecture), setting.dtype),
        _weight_bytes(_decoder(setting.architecture), torch.float32),
    ]
    work = [
        step,
        video + encoding_cost(min(max(frames, views), at_once), setting).memory,
        video + token_cost(min(frames, at_once), setting).memory,
        decoding_cost(views, setting).memory,
    ]
    if setting.low_memory and not setting.on_cpu:
        return max(map(sum, zip(weights, work, strict=True)))
    return sum(weights) + (encoders - 1) * weights[1] + max(work)


def _directions(this: Window) -> int:
    """In how many directions of time the network sees a pass."""
    return 1 if this.backward_reference is None else 2


def _lengths(plan: Plan) -> Counter[int]:
    """T of the passes and how many have it."""
    return Counter(len(each.frames) for each in plan.windows)


def _references(plan: Plan) -> tuple[int, int]:
    """Frames whose views are shown to the network again, and those of them that are decoded."""
    shown = [
        frame
        for each in plan.windows
        for frame in (each.reference, each.backward_reference)
        if frame is not None
    ]
    from_orbit = shown.count(0) if plan.orbit_azimuths_deg else 0
    return len(shown), len(shown) - from_orbit


def _disk_bytes(plan: Plan, size: int, frames: int) -> int:
    """Images and videos of all views, the clip, latents of the state and its orbit."""
    views, pixels = len(plan.azimuths_deg), size**2
    images = (frames * (views + 2)) * pixels * (PNG_BYTES_PER_PIXEL + VIDEO_BYTES_PER_PIXEL)
    sides = [size // LATENT_SIDE] if plan.fine else []
    if plan.coarse_size is not None:
        sides.append(min(plan.coarse_size, size) // LATENT_SIDE)
    kept = len(plan.network_azimuths_deg)
    channels = plan.preset.config.out_channels
    latents = sum(frames * kept * channels * side**2 * 4 for side in sides)
    orbit = views * 3 * pixels * 4 if plan.orbit_azimuths_deg else 0
    return round(images) + latents + len(sides) * orbit


# -- calls


@cache
@torch.inference_mode()
def step_cost(config: UNetConfig, T: int, V: int, setting: Setting) -> Cost:
    """Of a step of the sampler: both halves of the guidance, together or one after the other.

    Args:
        config: of the UNet.
        T: times; 1 for SV3D.
        V: views.
        setting: the rest.
    """
    side, F, c = setting.size // LATENT_SIDE, T * V, config.out_channels
    grid = isinstance(config, SV4DConfig)
    conditioning = Conditioning(
        _empty(F, c, side, side),
        _empty(T if grid else F, config.context_dim),
        _empty(F, config.adm_in_channels),
        _empty(V, c, side, side) if grid else None,
    )
    halves = 2 if setting.guided else 1
    together, calls = (1, halves) if setting.low_memory else (halves, 1)
    N = together * F
    x, noise = _empty(N, config.in_channels, side, side), _empty(N)
    unet = _unet(config).to(setting.dtype)

    def call() -> Tensor:
        return predictor(unet)(x, noise, [conditioning] * together)

    unet.limit_memory(None)  # as much work, in fewer pieces
    flops = count_flops(call)
    unet.limit_memory(setting.tokens)
    return Cost(peak_bytes(call), calls * flops)


@cache
@torch.inference_mode()
def branch_cost(config: SV4DConfig, T: int, V: int, setting: Setting, coarse_size: int) -> Cost:
    """Of the structure branch for one pass; its memory is what the sampler's steps keep of it.

    At its own peak, before the first step, it takes less than a step of the UNet does.

    Args:
        config: of the UNet.
        T: times.
        V: views.
        setting: of the fine stage.
        coarse_size: pixels of a side of the coarse views.
    """
    side, coarse_side, c = (
        setting.size // LATENT_SIDE,
        coarse_size // LATENT_SIDE,
        config.out_channels,
    )
    structure = Structure(
        _empty(1, T, V, c, coarse_side, coarse_side),
        _empty(1, T, c, side, side),
    )
    branch = _branch(config).to(setting.dtype)
    added = branch(structure)(structure.video, None)
    kept = sum(feature.numel() * feature.element_size() for feature in added.values())
    return Cost(kept, count_flops(lambda: branch(structure)))


@cache
@torch.inference_mode()
def encoding_cost(images: int, setting: Setting) -> Cost:
    """Of making latents of images."""
    x, chunk = _empty(images, 3, setting.size, setting.size), images_at_once(setting.low_memory)
    encoder = _encoder(setting.architecture)
    return _cost(lambda: encode_in_chunks(encoder, x, chunk))


@cache
@torch.inference_mode()
def decoding_cost(images: int, setting: Setting) -> Cost:
    """Of making images of latents."""
    side, chunk = setting.size // LATENT_SIDE, images_at_once(setting.low_memory)
    x = _empty(images, setting.latent_channels, side, side)
    decoder = _decoder(setting.architecture)
    return _cost(lambda: decode_in_chunks(decoder, x, chunk))


@cache
@torch.inference_mode()
def token_cost(images: int, setting: Setting) -> Cost:
    """Of making CLIP tokens of images."""
    x = _empty(images, 3, setting.size, setting.size)
    image_encoder = _image_encoder(setting.architecture).to(setting.dtype)
    return _cost(lambda: image_encoder(x))


def _cost(run: Callable[[], Tensor]) -> Cost:
    return Cost(peak_bytes(run), count_flops(run))


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


# -- networks without numbers


@cache
def _unet(config: UNetConfig) -> SV3DUNet | SV4DUNet:
    with torch.device("meta"):
        return Architecture(config).build_unet().eval()


@cache
def _branch(config: SV4DConfig) -> StructureBranch:
    with torch.device("meta"):
        return build_branch("layerwise", config).eval()


@cache
def _encoder(architecture: Architecture) -> nn.Module:
    with torch.device("meta"):
        return architecture.build_encoder().eval()


@cache
def _decoder(architecture: Architecture) -> nn.Module:
    with torch.device("meta"):
        return architecture.build_decoder().eval()


@cache
def _image_encoder(architecture: Architecture) -> CLIPImageEncoder | ConvImageEncoder:
    with torch.device("meta"):
        return architecture.build_image_encoder().eval()


def _weight_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) * dtype.itemsize
