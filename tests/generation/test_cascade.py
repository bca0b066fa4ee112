"""The cascade from a clip to a grid: its two stages and its errors."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from generation.checkpoint import UNFINISHED, Checkpoint
from generation.conditioning import azimuth_rad, camera_vector, polar_rad
from generation.diffusion import karras_sigmas
from generation.diffusion_pipeline import DiffusionPipeline, SampledGrid
from generation.grid_sampler import (
    GridSampler,
    Job,
    Stage,
    enlarged,
    reduced,
    sample_reference_views,
)
from generation.pipeline import Generated
from generation.presets import make_plan, presets
from generation.settings import GenerateSettings
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from generation.weights.files import describe, save_weights
from generation.weights.model_weights import PublishedWeights
from generation.weights.store import find_cascade_file
from recon.errors import Interrupted, OutputExistsError, WeightsError
from recon.grid import read_grid
from recon.grid.cameras import viewing_angles_deg
from recon.grid.grid import composite
from tests.generation.models.random_weights import error, numbers
from tests.generation.tiny_cascade import write_trained
from tests.generation.tiny_networks import tiny_clip, tiny_weights

SIZE, COARSE = 64, 32


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Tiny sizes."""
    monkeypatch.setitem(presets, "4dvd", replace(presets["4dvd"], coarse_size=COARSE))


def settings(**others) -> GenerateSettings:
    return GenerateSettings(**{"model": "4dvd", "steps": 2, "views": 3, "size": SIZE} | others)


def pipeline_of(folder: Path, cascade: dict[str, Path], **others) -> DiffusionPipeline:
    return DiffusionPipeline(settings(**others), tiny_weights(folder, "sv3d_p", "sv4d"), cascade)


def make(
    folder: Path, cascade: dict[str, Path], T: int = 5, name: str = "grid", **others
) -> Generated:
    given = ("overwrite", "on_step", "should_stop")
    passed = {key: others.pop(key) for key in given if key in others}
    pipeline = pipeline_of(folder, cascade, **others)
    return pipeline.generate(tiny_clip(T, SIZE), folder / name, **passed)


def sampled(folder: Path, cascade: dict[str, Path], T: int, **plan) -> SampledGrid:
    pipeline = pipeline_of(folder, cascade)
    clip, found = pipeline.prepare(tiny_clip(T, SIZE), pipeline.settings)
    return pipeline.sample(clip, replace(found, **plan), Checkpoint())


def video_of(T: int) -> Tensor:
    frames = torch.from_numpy(composite(tiny_clip(T, SIZE).images)).permute(0, 3, 1, 2)
    return frames.float() / 127.5 - 1


def test_a_clip_becomes_a_grid_in_two_stages(tmp_path):
    steps: list[tuple[int, str]] = []
    made = make(
        tmp_path, write_trained(tmp_path), T=9, on_step=lambda s: steps.append((s.step, s.phase))
    )
    grid = read_grid(tmp_path / "grid")
    assert (grid.V, grid.T, grid.height) == (4, 9, SIZE)
    azimuths = [viewing_angles_deg(camera)[0] for camera in grid.cameras]
    assert azimuths == pytest.approx([0, 90, 180, 270])
    windows = ["frames 2–8", "frames 0–3", "frames 3–6", "frames 6–8"]
    titles = [
        "reference views",
        *(f"coarse {w}" for w in windows),
        *(f"fine {w}" for w in windows),
    ]
    assert steps == [(i + 1, titles[i // 2]) for i in range(18)]
    report = json.loads((tmp_path / "grid" / "generate.json").read_text())
    assert report == json.loads(json.dumps(made.report))
    assert report["model"] == "4dvd"
    assert set(report["weights"]) == {"sv3d_p", "sv4d", LORA_FILE, BRANCH_FILE}
    assert {"coarse sample", "fine sample", "fine decode"} <= report["seconds"].keys()


def test_view_0_of_the_grid_is_the_input(tmp_path):
    grid = make(tmp_path, write_trained(tmp_path)).grid
    seen = tiny_clip(5, SIZE).images
    opaque = seen[..., 3:] > 0
    assert (np.where(opaque, grid.images[grid.of_view(0)], 0) == np.where(opaque, seen, 0)).all()


@pytest.mark.parametrize("name", ["layerwise", "controlnet", "t2i_adapter"])
def test_untrained_lora_and_branch_leave_the_fine_stage_plain_sv4d(tmp_path, name):
    fine = sampled(tmp_path, write_trained(tmp_path, effect=0, name=name), T=9)
    plain = sampled(tmp_path, {}, T=9, coarse_size=None)
    assert torch.equal(fine.views, plain.views)


def test_a_stage_of_one_window_is_eulers_method_on_sv4d_with_the_input_view_first(tmp_path):
    """Compute two steps with guidance explicitly, for T = 5 and V = 4."""
    this = Job(make_plan(settings(), 5), video_of(5))
    weights = tiny_weights(tmp_path, "sv3d_p", "sv4d")
    networks, orbit = (
        weights[name].load(torch.device("cpu"), torch.float32) for name in ("sv4d", "sv3d_p")
    )
    references = sample_reference_views(this, lambda: orbit)
    sampler = GridSampler(this, Stage("grid", SIZE), networks, references)
    views = sampler.sample()
    T, V, h = 5, 4, SIZE // 8
    latents, tokens = networks.latents(this.video), networks.tokens(this.video)
    seen = networks.reference_latents(torch.cat([this.video[:1], references]))
    vector = camera_vector(polar_rad([10.0] * V), azimuth_rad([0, 90, 180, 270])).repeat(T, 1)
    bare = vector.clone()
    bare[:, :256] = 0
    sigmas = karras_sigmas(2).tolist()
    triangle = [0, 2 / 3, 2 / 3, 0]
    scale = torch.tensor([1 + (t / 4 + triangle[v]) / 2 for t in range(T) for v in range(V)])
    noise = torch.randn(T * V, 4, h, h, generator=torch.Generator().manual_seed(1))
    x = noise * math.sqrt(1 + sigmas[0] ** 2)

    def denoised(x: Tensor, sigma: float, share: float, camera: Tensor) -> Tensor:
        c = 1 / math.sqrt(1 + sigma**2)
        joined = torch.cat([x * c, share * latents.repeat_interleave(V, 0)], 1)
        noise_level = torch.full((T * V,), math.log(sigma) / 4)
        context, reference = share * tokens[None], share * seen[None]
        with torch.inference_mode():
            found = networks.unet(joined, noise_level, camera, context, reference)  # type: ignore[arg-type]
        return x * c**2 - sigma * c * found

    for sigma, after in itertools.pairwise(sigmas):
        without, following = denoised(x, sigma, 0, bare), denoised(x, sigma, 1, vector)
        goal = without + scale[:, None, None, None] * (following - without)
        x = goal + (x - goal) * after / sigma
    assert error(sampler.latents.flatten(0, 1), x) < 1e-3  # 700 times rounding: x at σ = 700
    assert torch.equal(views[:, 0], this.video)


def test_the_coarse_grid_decides_about_the_fine_one(tmp_path):
    """The coarse LoRA affects the fine grid only through the branch's input."""
    a, b = (sampled(tmp_path, write_trained(tmp_path, effect), 5).views for effect in (0.3, 0.6))
    assert (a - b).abs().max() > 1e-3


def test_reduced_images_are_means():
    video = video_of(5)
    small = reduced(video, COARSE)
    assert small.shape == (5, 3, COARSE, COARSE)
    assert small.mean().item() == pytest.approx(video.mean().item(), abs=1e-3)
    assert torch.equal(reduced(small, COARSE), small)
    ramp = torch.linspace(-1, 1, SIZE).expand(1, 3, SIZE, SIZE)
    inner = slice(2, -2)
    pairs = ramp.unflatten(-1, (COARSE, 2)).mean(-1)[:, :, ::2]
    torch.testing.assert_close(reduced(ramp, COARSE)[..., inner], pairs[..., inner])


def test_enlarged_views_are_the_same_views():
    views = numbers(2, 3, 3, 8, 8).clamp(-1, 1)
    assert enlarged(views, 8) is views
    large = enlarged(views, 32)
    assert large.shape == (2, 3, 3, 32, 32)
    assert float(large.abs().max()) <= 1
    flat = torch.full((1, 2, 3, 8, 8), 0.25)
    torch.testing.assert_close(enlarged(flat, 16), torch.full((1, 2, 3, 16, 16), 0.25))


def test_the_coarse_grid_alone_is_written_at_the_size_of_the_input(tmp_path):
    trained = write_trained(tmp_path)
    del trained[BRANCH_FILE]
    steps: list[int] = []
    made = make(tmp_path, trained, coarse_only=True, on_step=lambda each: steps.append(each.step))
    assert steps == [1, 2, 3, 4]
    assert (made.grid.V, made.grid.height) == (4, SIZE)
    assert BRANCH_FILE not in made.report["weights"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "roles"),
    [("controlnet", "reference_query"), ("t2i_adapter", "reference_query"),
     ("layerwise", "feature_query")],
)  # fmt: skip
def test_the_file_says_which_branch_it_is(tmp_path, name, roles):
    usual = make(tmp_path, write_trained(tmp_path), name="a").grid.images
    other = make(tmp_path, write_trained(tmp_path, name=name, roles=roles), name="b").grid.images
    assert (usual != other).any()


@pytest.mark.slow
def test_little_memory_makes_the_same_grid(tmp_path, monkeypatch):
    monkeypatch.setattr("generation.networks.LOW_MEMORY_TOKENS", 50)
    trained = write_trained(tmp_path, name="controlnet")
    usual = make(tmp_path, trained, name="a").grid.images
    little = make(tmp_path, trained, name="b", low_memory=True).grid.images
    assert np.abs(usual[..., :3].astype(int) - little[..., :3]).max() <= 1


@pytest.mark.parametrize(
    ("stop_after", "resumes_at", "saved"),
    [pytest.param(1, 1, set(), marks=pytest.mark.slow),
     (6, 5, {"reference_views", "coarse"}),
     pytest.param(11, 11, {"reference_views", "coarse"}, marks=pytest.mark.slow),
     (14, 13, {"reference_views", "coarse", "fine"})],
)  # fmt: skip
def test_a_run_resumed_in_any_stage_equals_an_uninterrupted_one(
    tmp_path, stop_after, resumes_at, saved
):
    trained = write_trained(tmp_path)
    whole = make(tmp_path, trained, T=9, name="whole", views=1).grid.images
    count = itertools.count(1)
    with pytest.raises(Interrupted):
        make(tmp_path, trained, T=9, views=1, should_stop=lambda: next(count) == stop_after)
    left = {path.name for path in (tmp_path / "grid" / UNFINISHED).iterdir()}
    assert left == {f"{name}.safetensors" for name in saved} | {"input"}
    steps: list[int] = []
    made = make(tmp_path, trained, T=9, views=1, on_step=lambda each: steps.append(each.step))
    assert steps == list(range(resumes_at, 19))
    assert (made.grid.images == whole).all()
    assert not (tmp_path / "grid" / UNFINISHED).exists()


def test_an_unfinished_run_with_other_trained_weights_is_kept(tmp_path):
    count = itertools.count(1)
    trained = write_trained(tmp_path)
    with pytest.raises(Interrupted):
        make(tmp_path, trained, should_stop=lambda: next(count) == 3)
    write_trained(tmp_path, effect=0.5)
    with pytest.raises(OutputExistsError):
        make(tmp_path, trained)
    make(tmp_path, trained, overwrite=True)


def test_files_for_another_base_are_refused_before_any_step(tmp_path):
    trained = write_trained(tmp_path, base_sha256=64 * "0")
    steps: list[int] = []
    with pytest.raises(WeightsError, match="base of sha256"):
        make(tmp_path, trained, on_step=lambda each: steps.append(each.step))
    assert not steps


def test_files_that_were_mixed_up_are_refused(tmp_path):
    trained = write_trained(tmp_path)
    mixed = dict(zip(trained, reversed(trained.values()), strict=True))
    with pytest.raises(WeightsError, match="expected weights of kind lora, found structure-branch"):
        make(tmp_path, mixed)


def test_a_branch_of_no_known_name_is_refused(tmp_path):
    trained = write_trained(tmp_path)
    file = describe(trained[BRANCH_FILE])
    config = replace(file.config, name="unet")
    save_weights(file.path, config, file.tensors(), file.requires, overwrite=True)
    with pytest.raises(WeightsError, match=r"4dvd_branch.*'unet'"):
        make(tmp_path, trained)


def test_files_are_found_in_the_named_folder_first(tmp_path, monkeypatch):
    named, general = tmp_path / "named", tmp_path / "general"
    monkeypatch.setenv("FOURDVD_WEIGHTS", str(general))
    for folder in (named, general):
        folder.mkdir()
        (folder / LORA_FILE).write_bytes(b"")
    (general / BRANCH_FILE).write_bytes(b"")
    assert find_cascade_file(LORA_FILE, "sv4d", named) == named / LORA_FILE
    assert find_cascade_file(BRANCH_FILE, "sv4d", named) == general / BRANCH_FILE
    (general / BRANCH_FILE).unlink()
    with pytest.raises(WeightsError, match="have published none") as caught:
        find_cascade_file(BRANCH_FILE, "sv4d", named)
    assert "fourdvd train" in (caught.value.hint or "")
    monkeypatch.delenv("FOURDVD_WEIGHTS")
    with pytest.raises(WeightsError, match="FOURDVD_WEIGHTS is not set"):
        find_cascade_file(BRANCH_FILE, "sv4d")


def test_weights_that_are_changed_in_memory_stay_as_they_are_in_the_file(tmp_path):
    """A LoRA is merged into tensors that are pages of the published file."""
    path = tmp_path / "weights.safetensors"
    save_file({"unet.weight": numbers(64, 64)}, path)
    before = path.read_bytes()
    file = PublishedWeights(path, None, None)  # type: ignore[arg-type]
    file.part("unet.", torch.float32, "cpu")["weight"].add_(1)
    assert path.read_bytes() == before
