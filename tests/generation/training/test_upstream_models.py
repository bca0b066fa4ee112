"""Upstream outputs of a training sample are what the pipeline generates for the same clip."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generation.clip.preparing import SquareClip
from generation.diffusion_pipeline import DiffusionPipeline
from generation.grid_sampler import COARSE_RUNS, Job, Stage, reduced, sample_reference_views
from generation.pipelines import open_pipeline
from generation.presets import make_plan, presets
from generation.settings import GenerateSettings
from generation.training.cascade_stages import CoarseStage, FineStage
from generation.training.clip_sampling import SampleRng
from generation.training.dataset import TrainingSample, composite_on_white
from generation.training.engine import train
from generation.training.stage_networks import open_base
from generation.training.unet_stages import ReferenceViewsStage
from generation.training.upstream_models import (
    UpstreamConfig,
    UpstreamModels,
    UpstreamOutputs,
    open_upstream,
    select_coarse_views,
    select_reference_views,
    view_indices,
)
from recon.errors import InputError, WeightsError
from recon.grid.grid import composite
from tests.generation.tiny_networks import tiny_clip
from tests.generation.tiny_trained import write_trained_cascade
from tests.generation.training.tiny_stages import (
    COARSE,
    ENGINE,
    FINE,
    ORBIT,
    batch_of,
    changed_by_a_step,
)

SIZE, ELEVATION_DEG, STEPS = 64, 20.0, 2
OURS = replace(COARSE, upstream_prob=1.0, orbit_views=4)


@pytest.fixture(scope="module")
def orbit(tiny_shards, tiny_vae, tmp_path_factory) -> Path:
    """A finished training of SV3D."""
    folder = tmp_path_factory.mktemp("orbit") / "out"
    train(ReferenceViewsStage(ORBIT, tiny_vae), ENGINE, tiny_shards, folder)
    return folder


@pytest.fixture(scope="module")
def coarse(tiny_shards, tiny_vae, tiny_base, orbit, tmp_path_factory) -> Path:
    """A finished training of the coarse stage, trained on SV3D's outputs."""
    folder = tmp_path_factory.mktemp("coarse") / "out"
    stage = CoarseStage(OURS, tiny_vae, tiny_base, reference_views=orbit)
    train(stage, ENGINE, tiny_shards, folder)
    return folder


class NoiseOfThePipeline(SampleRng):
    """The pipeline's noise of one clip: of the orbit, then of the coarse grid's first window."""

    def __init__(self):
        super().__init__(0, 0, range(1))
        self._seeds = iter((0, COARSE_RUNS + 1))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=torch.Generator().manual_seed(next(self._seeds)))


@pytest.mark.parametrize(("orbit_size", "atol"), [("low", 2e-3), ("high", 0.05)])
def test_views_and_coarse_grid_are_those_of_the_pipeline(tmp_path, monkeypatch, orbit_size, atol):
    monkeypatch.setitem(presets, "mini", replace(presets["mini"], orbit_size=None))
    folder = write_trained_cascade(tmp_path / "weights")
    clip = tiny_clip(5, SIZE * (1 if orbit_size == "low" else 2))
    job, references, expected = coarse_stage_of_the_pipeline(clip, folder)

    upstream = assembled(folder, upstream_steps=STEPS, orbit_size=orbit_size)
    outputs = upstream.generate(sample_of(composite(clip.images)), NoiseOfThePipeline())
    assert outputs.coarse is not None
    assert outputs.chosen.tolist() == [True]
    torch.testing.assert_close(outputs.reference_views[0, 0], job.video[0])
    assert references.std() > 0.05
    torch.testing.assert_close(outputs.reference_views[0, 1:], references, atol=2e-3, rtol=0)
    torch.testing.assert_close(outputs.coarse[0], expected, atol=atol, rtol=0)  # low is in bytes


def coarse_stage_of_the_pipeline(clip: SquareClip, weights: Path) -> tuple[Job, Tensor, Tensor]:
    """Sample the reference views and the coarse grid [T, V, 3, s, s] of a clip."""
    settings = GenerateSettings("mini", steps=STEPS, elevation_deg=ELEVATION_DEG, coarse_only=True)
    pipeline = open_pipeline(settings, weights)
    assert isinstance(pipeline, DiffusionPipeline)
    frames = torch.from_numpy(composite(clip.images)).permute(0, 3, 1, 2)
    job = Job(make_plan(settings, 5), frames.float() / 127.5 - 1)
    references = sample_reference_views(job, lambda: pipeline._networks("orbit", job).networks)
    coarse = Stage("coarse", SIZE, first_run=COARSE_RUNS)
    return job, references, pipeline._sample_stage(job, coarse, references)


def assembled(folder: Path, **settings: Any) -> UpstreamModels:
    """Open the upstream models whose files are all in one folder."""
    config = UpstreamConfig(upstream_prob=1.0, **settings)
    trainings = {"reference-views": folder, "coarse": folder}
    upstream = open_upstream(config, open_base(folder, folder), trainings)
    assert upstream is not None
    return upstream


def sample_of(video: np.ndarray) -> TrainingSample:
    """A batch of one clip [T, S, S, 3], without the images that upstream models generate."""
    images = torch.from_numpy(np.concatenate([video, np.full_like(video[..., :1], 255)], -1))
    seen = images.permute(0, 3, 1, 2)
    low = reduced(seen.float(), SIZE).round().to(torch.uint8)
    fields: Any = dict.fromkeys(TrainingSample._fields)
    fields |= {
        "reference_video": {"low": low[None]},
        "reference_image": {"low": low[:1], "high": seen[:1]},
        "elevation_rad": torch.full((1, 2), math.radians(ELEVATION_DEG)),
    }
    return TrainingSample(**fields)


def test_only_chosen_samples_are_conditioned_on_upstream_outputs(
    tiny_vae, tiny_base, tiny_shards, orbit
):
    stage = CoarseStage(
        replace(OURS, upstream_prob=0.5), tiny_vae, tiny_base, reference_views=orbit
    )
    batch, upstream = batch_of(stage, tiny_shards, 8), stage.module.upstream
    assert upstream is not None
    outputs = upstream.generate(batch, SampleRng(0, 0, range(8)))
    assert 0 < outputs.chosen.sum() < 8
    true = composite_on_white(batch.reference_views["low"]).rgb
    same = (select_reference_views(batch, "low", outputs) == true).flatten(2).all(2)
    known = view_indices(batch, 4) == 0
    assert torch.equal(same, known | ~outputs.chosen[:, None])


def test_a_sample_is_the_same_in_any_batch(tiny_vae, tiny_base, tiny_shards, orbit):
    stage = CoarseStage(
        replace(OURS, upstream_prob=0.5), tiny_vae, tiny_base, reference_views=orbit
    )
    together = stage._task(batch_of(stage, tiny_shards, 4), SampleRng(0, 0, range(4)))
    for place in range(4):
        batch = TrainingSample(*(cut(each, place) for each in batch_of(stage, tiny_shards, 4)))
        alone = stage._task(batch, rng := SampleRng(0, 0, [place]))
        expected, found = together.batch.conditionings[place], alone.batch.conditionings[0]
        # Matrix products of another batch size are summed in another order, through two networks:
        # single numbers differ by processor, the whole hardly does.
        assert found.reference is not None
        assert expected.reference is not None
        difference = (found.reference - expected.reference).norm() / expected.reference.norm()
        assert difference < 1e-5
        again = SampleRng(0, 0, [place])
        again.uniform()
        again.normal(4, 12, 4, 4)
        assert torch.equal(rng.uniform(), again.uniform())


def cut(value: Any, place: int) -> Any:
    """A batch of one sample."""
    if isinstance(value, dict):
        return {name: cut(each, place) for name, each in value.items()}
    return value[place : place + 1]


def test_coarse_views_are_those_of_the_batch(tiny_vae, tiny_base, tiny_shards):
    stage = FineStage(FINE, tiny_vae, tiny_base)
    batch = batch_of(stage, tiny_shards, 3)
    B, T, N = 3, FINE.frames, 4
    numbered = torch.arange(B * T * N).float().view(B, T, N, 1, 1, 1).expand(B, T, N, 3, 8, 8)
    outputs = UpstreamOutputs(torch.ones(B, dtype=torch.bool), numbered[:, 0], numbered)
    found = select_coarse_views(batch, outputs)
    for b in range(B):
        for t in range(T):
            for v, azimuth in enumerate(batch.azimuth_rad[b].tolist()):
                number = round(math.degrees(azimuth) / 90) % 4
                assert found[b, t * FINE.views + v, 0, 0, 0] == (b * T + t) * N + number


def test_the_fine_stage_gets_upsampled_views_and_the_true_reference_view(
    tiny_vae, tiny_base, tiny_shards, orbit, coarse
):
    settings = replace(FINE, views=4, upstream_prob=1.0, orbit_views=4)
    stage = FineStage(settings, tiny_vae, tiny_base, reference_views=orbit, coarse=coarse)
    batch = batch_of(stage, tiny_shards, 2)
    upstream = stage.module.upstream
    assert upstream is not None
    outputs = upstream.generate(batch, None)
    views = select_reference_views(batch, "high", outputs)
    true = composite_on_white(batch.reference_views["high"]).rgb
    known = view_indices(batch, 4) == 0
    assert known.sum() == 2
    assert torch.equal(views[known], true[known])
    assert not (views == true).flatten(2).all(2)[~known].any()
    assert views.shape == true.shape
    assert torch.equal(
        stage._coarse_latents(batch, None, outputs), stage._coarse_latents(batch, None, outputs)
    )
    changed = changed_by_a_step(stage, tiny_shards)
    assert changed
    assert all(name.startswith("branch.") for name in changed)


def test_a_coarse_stage_on_upstream_outputs_trains_its_lora_alone(
    tiny_vae, tiny_base, tiny_shards, orbit
):
    changed = changed_by_a_step(
        CoarseStage(OURS, tiny_vae, tiny_base, reference_views=orbit), tiny_shards
    )
    assert changed
    assert all("lora_" in name for name in changed)


def test_upstream_models_are_part_of_the_identity(tiny_vae, tiny_base, orbit, coarse):
    settings = replace(FINE, upstream_prob=0.5, orbit_views=4)
    stage = FineStage(settings, tiny_vae, tiny_base, reference_views=orbit, coarse=coarse)
    assert {"reference-views_sha256", "coarse_sha256", "upstream_prob"} <= stage.identity.keys()


def test_upstream_trainings_are_given_if_and_only_if_they_are_used(
    tiny_vae, tiny_base, orbit, coarse
):
    with pytest.raises(InputError, match="needs --reference-views"):
        CoarseStage(OURS, tiny_vae, tiny_base)
    with pytest.raises(InputError, match="not use --reference-views"):
        CoarseStage(COARSE, tiny_vae, tiny_base, reference_views=orbit)
    with pytest.raises(InputError, match="needs --coarse"):
        FineStage(replace(FINE, upstream_prob=0.1), tiny_vae, tiny_base, reference_views=orbit)
    with pytest.raises(WeightsError, match="does not exist"):
        CoarseStage(OURS, tiny_vae, tiny_base, reference_views=coarse)


def test_a_coarse_stage_of_another_base_is_refused(tiny_vae, tiny_base, orbit, coarse, tmp_path):
    other = write_trained_cascade(tmp_path / "other")
    with pytest.raises(WeightsError, match="base of sha256"):
        FineStage(
            replace(FINE, upstream_prob=0.5, orbit_views=4),
            tiny_vae, tiny_base, reference_views=orbit, coarse=other,
        )  # fmt: skip
