"""Memory, disk and time of a generation, estimated before any weight is read.

The networks are built at full size on the meta device, where tensors have shapes and no values.
One call of each kind is traced: the trace follows the memory of all tensors and counts floating-
point operations. Attention counts as one operation without a matrix of S × S, which the fused
kernels never allocate. Memory of the allocator, cuDNN and the CUDA context comes on top.

Letters: n frames of the clip, T frames and V views of a window, N samples of a call.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from generation.conditioning import Conditioning
from generation.models.structure_branch import Structure, StructureBranch, build_branch
from generation.models.sv4d import SV4DConfig
from generation.models.vae import LATENT_SIDE, decode_in_chunks, encode_in_chunks
from generation.networks import (
    LOW_MEMORY_TOKENS,
    Architecture,
    images_at_once,
    predictor,
    working_dtype,
)
from generation.presets import UNGUIDED, SamplingPlan
from generation.settings import GenerateSettings
from generation.windows import Window

PNG_BYTES_PER_PIXEL = 0.5  # RGBA; rendered objects on a plain background take 0.2 to 0.35
VIDEO_BYTES_PER_PIXEL = 0.02
EFFICIENCY = {"cpu": 0.45, "cuda": 0.4}  # see `measured_rate`
MEASURED_SECONDS = 0.3
ATTENTION = torch.ops.aten.scaled_dot_product_attention


class Estimate(NamedTuple):
    """Estimated memory, disk space and time of a generation.

    Attributes:
        device_memory_bytes: peak of weights and activations on the device.
        disk_bytes: size of the finished folder plus that of the saved state.
        flops: floating-point operations of all networks.
        seconds: time that these operations take.
    """

    device_memory_bytes: int
    disk_bytes: int
    flops: int
    seconds: float


class Cost(NamedTuple):
    """Cost of one network call or of one stage.

    Attributes:
        memory: peak memory in bytes: activations of a call; activations and weights of a stage.
        flops: floating-point operations.
    """

    memory: int
    flops: int


class Setting(NamedTuple):
    """Parameters that determine the cost of a network call, apart from the number of images.

    Attributes:
        architecture: the networks of the model.
        size: side of the images in pixels.
        dtype: floating-point type of the UNet and the image encoder.
        low_memory: see `generation.networks.Networks`.
        on_cpu: whether the networks run on a CPU.
        guided: whether classifier-free guidance is used.
    """

    architecture: Architecture
    size: int
    dtype: torch.dtype
    low_memory: bool = False
    on_cpu: bool = False
    guided: bool = True

    @property
    def tokens(self) -> int | None:
        """Maximum number of tokens per call of a layer; None for no limit.

        On a CPU it is limited, too, because that hardly changes the peak.
        """
        if self.low_memory:
            return LOW_MEMORY_TOKENS
        return 8 * LOW_MEMORY_TOKENS if self.on_cpu else None


def estimate(
    plan: SamplingPlan,
    settings: GenerateSettings,
    size: int,
    frames: int,
    rate_flops: float,
    architectures: Mapping[str, Architecture],
) -> Estimate:
    """Estimate memory, disk space and time of a generation.

    Args:
        plan: the plan of the generation.
        settings: the options; their device is resolved.
        size: side of the clip's images in pixels.
        frames: number of frames n of the clip.
        rate_flops: floating-point operations per second, e.g. from `measured_rate`.
        architectures: architecture of each model in `SamplingPlan.models`, by name.

    Returns:
        The estimate; its memory is the maximum over the orbit model and the stages.
    """
    base = architectures[plan.preset.model]
    setting = Setting(
        base,
        size,
        working_dtype(settings),
        settings.low_memory,
        on_cpu=settings.device == "cpu",
        guided=plan.preset.guided,
    )
    stages = _stages(plan, setting, frames)
    if plan.orbit_model is not None:
        orbit = setting._replace(
            architecture=architectures[plan.orbit_model],
            guided=plan.preset.orbit_guidance != UNGUIDED,
            size=min(size, plan.preset.orbit_size or size),
        )
        stages.append(_orbit(plan, orbit))
    flops = sum(stage.flops for stage in stages)
    return Estimate(
        max(stage.memory for stage in stages),
        _disk_bytes(plan, size, frames, base.unet.out_channels),
        flops,
        flops / rate_flops,
    )


def measured_rate(device: torch.device | str) -> float:
    """Measure the floating-point operations per second that the networks can be expected to reach.

    It is the best rate of a large matrix product (bfloat16 on CUDA, float32 on a CPU) times
    `EFFICIENCY`, the fraction that a UNet call reaches: its norms, activations and copies take time
    but are not counted as operations. For a CPU, `tests.benchmarks.unet` measured 0.45 with two
    threads and 0.77 with one, while other programs ran; the lower is used. CUDA's is an assumption.

    Args:
        device: the device of the networks; it is kept busy for `MEASURED_SECONDS`.
    """
    device = torch.device(device)
    on_cpu = device.type == "cpu"
    return EFFICIENCY["cpu" if on_cpu else "cuda"] * product_rate(
        device, torch.float32 if on_cpu else torch.bfloat16, 1024 if on_cpu else 8192
    )


@torch.inference_mode()
def product_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Measure the best rate of a product of two square matrices in operations per second."""
    matrix = torch.randn(side, side, device=device, dtype=dtype)  # ones cost a GPU less power
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


def _stages(plan: SamplingPlan, setting: Setting, frames: int) -> list[Cost]:
    """Estimate each stage."""
    if plan.coarse_size is None:
        return [_stage(plan, setting, frames)]
    coarse = setting._replace(size=min(plan.coarse_size, setting.size))
    stages = [_stage(plan, coarse, frames)]
    if plan.fine:
        stages.append(_fine_stage(plan, setting, coarse, frames))
    return stages


def _fine_stage(plan: SamplingPlan, setting: Setting, coarse: Setting, frames: int) -> Cost:
    """Estimate the fine stage: a grid, and the structure branch, whose features every step adds.

    The paper's branch is assumed, because the file that names its kind may not be downloaded yet.
    """
    V = len(plan.network_azimuths_deg)
    grid = _stage(plan, setting, frames)
    calls = Counter[int]()
    for window in plan.windows:
        calls[len(window.frames)] += _directions(window)
    costs = {T: branch_cost(T, V, setting, coarse.size) for T in calls}
    flops = sum(count * costs[T].flops for T, count in calls.items())
    flops += frames * V * encoding_cost(1, coarse).flops
    kept = _weight_bytes(_branch(setting.architecture), setting.dtype)
    kept += max(_directions(each) * costs[len(each.frames)].memory for each in plan.windows)
    return Cost(grid.memory + kept, grid.flops + flops)


def _stage(plan: SamplingPlan, setting: Setting, frames: int) -> Cost:
    """Estimate a grid: encode the input frames, sample the windows, decode the views."""
    V = len(plan.network_azimuths_deg)
    lengths = Counter(len(window.frames) for window in plan.windows)
    steps = {T: step_cost(T, V, setting) for T in lengths}
    flops = sum(count * plan.steps * steps[T].flops for T, count in lengths.items())
    references, decoded = _references(plan)
    flops += (frames + V * references) * encoding_cost(1, setting).flops
    flops += V * (frames + decoded) * decoding_cost(1, setting).flops
    flops += frames * token_cost(1, setting).flops
    step = max(step.memory for step in steps.values())
    return Cost(_peak(setting, step, frames, V), flops)


def _orbit(plan: SamplingPlan, setting: Setting) -> Cost:
    """Estimate the orbit model: encode one image, sample its orbit, decode the views kept."""
    V = len(plan.azimuths_deg)
    step = step_cost(1, len(plan.orbit_azimuths_deg), setting)
    flops = plan.orbit_steps * step.flops + V * decoding_cost(1, setting).flops
    flops += encoding_cost(1, setting).flops + token_cost(1, setting).flops
    return Cost(_peak(setting, step.memory, 1, V), flops)


def _peak(setting: Setting, step: int, frames: int, views: int) -> int:
    """Estimate the peak in bytes, with all networks on the device or only the active one."""
    chunk = images_at_once(setting.low_memory)
    video = frames * 3 * setting.size**2 * 4
    architecture = setting.architecture
    weights = [
        _weight_bytes(_unet(architecture), setting.dtype),
        _weight_bytes(_encoder(architecture), torch.float32),
        _weight_bytes(_image_encoder(architecture), setting.dtype),
        _weight_bytes(_decoder(architecture), torch.float32),
    ]
    work = [
        step,
        video + encoding_cost(min(max(frames, views), chunk), setting).memory,
        video + token_cost(min(frames, chunk), setting).memory,
        decoding_cost(views, setting).memory,
    ]
    if setting.low_memory and not setting.on_cpu:
        return max(map(sum, zip(weights, work, strict=True)))
    encoders = 1 + architecture.separate_reference_encoder
    return sum(weights) + (encoders - 1) * weights[1] + max(work)


def _directions(window: Window) -> int:
    """Count the directions of time in which the network denoises a window."""
    return 1 if window.kind == "anchor" else 2


def _references(plan: SamplingPlan) -> tuple[int, int]:
    """Count the reference frames that are encoded, and those whose views are decoded before."""
    used = [
        frame
        for window in plan.windows
        for frame in (window.reference, window.backward_reference)
        if frame is not None
    ]
    from_orbit = used.count(0) if plan.orbit_model else 0
    return len(used), len(used) - from_orbit


def _disk_bytes(plan: SamplingPlan, size: int, frames: int, latent_channels: int) -> int:
    """Estimate images and videos of all views, the clip, saved latents and reference views."""
    views, pixels = len(plan.azimuths_deg), size**2
    sides = [side // LATENT_SIDE for side in plan.stage_sizes(size)]
    V = len(plan.network_azimuths_deg)
    latents = sum(frames * V * latent_channels * side**2 * 4 for side in sides)
    references = views * 3 * pixels * 4 if plan.orbit_model else 0
    return disk_bytes(views, size, frames) + latents + references


def disk_bytes(views: int, size: int, frames: int) -> int:
    """Estimate the size of a grid folder: images and videos of all views, and the clip.

    Args:
        views: number of generated views.
        size: side of the images in pixels.
        frames: number of frames.
    """
    return round(frames * (views + 2) * size**2 * (PNG_BYTES_PER_PIXEL + VIDEO_BYTES_PER_PIXEL))


# -- calls


@cache
@torch.inference_mode()
def step_cost(T: int, V: int, setting: Setting) -> Cost:
    """Trace a denoising step: both halves of the guidance, together or one after the other.

    Args:
        T: number of frames; 1 for SV3D.
        V: number of views.
        setting: networks, image size and precision.
    """
    config = setting.architecture.unet
    side, N, c = setting.size // LATENT_SIDE, T * V, config.out_channels
    grid = isinstance(config, SV4DConfig)
    conditioning = Conditioning(
        _empty(N, c, side, side),
        _empty(T if grid else N, config.context_dim),
        _empty(N, config.adm_in_channels),
        _empty(V, c, side, side) if grid else None,
    )
    halves = 2 if setting.guided else 1
    together, calls = (1, halves) if setting.low_memory else (halves, 1)
    x, noise = _empty(together * N, config.in_channels, side, side), _empty(together * N)
    unet = _unet(setting.architecture).to(setting.dtype)

    def call() -> Tensor:
        return predictor(unet)(x, noise, [conditioning] * together)

    unet.limit_memory(None)  # the same work in fewer operations
    flops = count_flops(call)
    unet.limit_memory(setting.tokens)
    return Cost(peak_bytes(call), calls * flops)


@cache
@torch.inference_mode()
def branch_cost(T: int, V: int, setting: Setting, coarse_size: int) -> Cost:
    """Trace the structure branch for one window; its memory is that of the features it returns.

    The branch itself runs before the first step and peaks lower than a step of the UNet.

    Args:
        T: number of frames.
        V: number of views.
        setting: setting of the fine stage.
        coarse_size: side of the coarse stage's images in pixels.
    """
    side, coarse_side = setting.size // LATENT_SIDE, coarse_size // LATENT_SIDE
    c = setting.architecture.unet.out_channels
    structure = Structure(_empty(1, T, V, c, coarse_side, coarse_side), _empty(1, T, c, side, side))
    branch = _branch(setting.architecture).to(setting.dtype)
    added = branch(structure)(structure.video, None)
    kept = sum(feature.numel() * feature.element_size() for feature in added.values())
    return Cost(kept, count_flops(lambda: branch(structure)))


@cache
@torch.inference_mode()
def encoding_cost(images: int, setting: Setting) -> Cost:
    """Trace the encoding of images to latents."""
    x, chunk = _empty(images, 3, setting.size, setting.size), images_at_once(setting.low_memory)
    encoder = _encoder(setting.architecture)
    return _trace(lambda: encode_in_chunks(encoder, x, chunk))


@cache
@torch.inference_mode()
def decoding_cost(images: int, setting: Setting) -> Cost:
    """Trace the decoding of latents to images."""
    side, chunk = setting.size // LATENT_SIDE, images_at_once(setting.low_memory)
    x = _empty(images, setting.architecture.unet.out_channels, side, side)
    decoder = _decoder(setting.architecture)
    return _trace(lambda: decode_in_chunks(decoder, x, chunk))


@cache
@torch.inference_mode()
def token_cost(images: int, setting: Setting) -> Cost:
    """Trace the image encoder."""
    x = _empty(images, 3, setting.size, setting.size)
    image_encoder = _image_encoder(setting.architecture).to(setting.dtype)
    return _trace(lambda: image_encoder(x))


def _trace(run: Callable[[], Tensor]) -> Cost:
    return Cost(peak_bytes(run), count_flops(run))


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _weight_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) * dtype.itemsize


# -- networks on the meta device


@cache
def _unet(architecture: Architecture):
    with torch.device("meta"):
        return architecture.build_unet().eval()


@cache
def _branch(architecture: Architecture) -> StructureBranch:
    assert isinstance(architecture.unet, SV4DConfig)
    with torch.device("meta"):
        return build_branch("layerwise", architecture.unet).eval()


@cache
def _encoder(architecture: Architecture) -> nn.Module:
    with torch.device("meta"):
        return architecture.build_encoder().eval()


@cache
def _decoder(architecture: Architecture) -> nn.Module:
    with torch.device("meta"):
        return architecture.build_decoder().eval()


@cache
def _image_encoder(architecture: Architecture) -> nn.Module:
    with torch.device("meta"):
        return architecture.build_image_encoder().eval()


# -- tracing


class PeakMemory(TorchDispatchMode):
    """Track the memory of all tensors that are created while it is active.

    Memory that an operation allocates and frees internally is not counted.

    Args:
        device: type of the device whose tensors count.

    Attributes:
        live: bytes of the tensors that are alive.
        peak: the maximum of `live`.
    """

    def __init__(self, device: str):
        super().__init__()
        self.device = device
        self.live = self.peak = 0
        self._tracked: dict[int, weakref.ref[UntypedStorage]] = {}
        self._cached: dict[Hashable, Callable[[], Tensor]] = {}

    def __torch_dispatch__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = self._run(func, args, kwargs or {})
        for tensor in [result] if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.device.type == self.device:
                storage = tensor.untyped_storage()
                if id(storage) not in self._tracked and not _belongs_to_args(storage, args):
                    self._track(storage)
        return result

    def _run(self, func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """Run an operation; on the meta device, cache the shapes, as inferring them is slow."""
        if self.device != "meta" or kwargs:
            return func(*args, **kwargs)
        key = (func, _cache_key(args))
        if key in self._cached:
            return self._cached[key]()
        result = func(*args)
        if isinstance(result, Tensor) and not _belongs_to_args(result.untyped_storage(), args):
            self._cached[key] = partial(
                torch.empty_strided,
                result.shape,
                result.stride(),
                dtype=result.dtype,
                device=result.device,
            )
        return result

    def _track(self, storage: UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._tracked[key] = weakref.ref(storage, lambda _: self._untrack(key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _untrack(self, key: int, size: int) -> None:
        del self._tracked[key]
        self.live -= size


def peak_bytes(run: Callable[[], Any], device: str = "meta") -> int:
    """Return the peak memory of all tensors that a function creates, its result included."""
    with PeakMemory(device) as memory:
        result = run()
    del result
    return memory.peak


def count_flops(run: Callable[[], Any]) -> int:
    """Count the operations of the matrix products, convolutions and attentions of a function."""
    # Looked up by overload before the operation is decomposed, then by name.
    mapping = {ATTENTION: _attention_flops, ATTENTION.default: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


def _belongs_to_args(storage: UntypedStorage, args: Sequence[Any]) -> bool:
    """Return whether a storage belongs to an argument, so that nothing was allocated."""
    return any(
        isinstance(leaf, Tensor) and leaf.untyped_storage() is storage for leaf in tree_leaves(args)
    )


def _cache_key(value: Any) -> Hashable:
    """Return a cache key of arguments: all that the shapes of an operation's results depend on."""
    if isinstance(value, Tensor):
        return value.device.type, value.dtype, value.shape, value.stride()
    if isinstance(value, (list, tuple)):
        return tuple(map(_cache_key, value))
    return type(value), value


def _attention_flops(
    q: Sequence[int], k: Sequence[int], v: Sequence[int], *others: Any, **named: Any
) -> int:
    """Count the operations of q kᵀ and of its product with v, from shapes [..., S, d]."""
    sequences = torch.Size(q[:-1]).numel()
    return 2 * sequences * k[-2] * (q[-1] + v[-1])
