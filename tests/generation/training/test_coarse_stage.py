"""The coarse stage trains a LoRA and nothing else, and its file goes on the base again."""

from dataclasses import replace

import pytest
import torch

from generation.training.coarse_stage import CoarseStage
from generation.training.draws import Draws
from generation.training.engine import train
from generation.training.stage_networks import open_base
from generation.training.whole_stages import BaseStage
from generation.weights.catalogue import LORA_FILE
from generation.weights.files import load_lora
from recon.errors import InputError, WeightsError
from tests.generation.training.tiny_stages import (
    BASE,
    COARSE,
    ENGINE,
    VAE,
    batch_of,
    changed_by_a_step,
    losses_on_one_sample,
)


def test_a_fresh_lora_has_the_loss_of_the_base(tiny_vae, tiny_base, tiny_shards):
    stage = CoarseStage(COARSE, tiny_vae, tiny_base)
    base = BaseStage(replace(BASE, views=4), tiny_vae, start=tiny_base)
    batch = batch_of(stage, tiny_shards)
    found, expected = (each.loss(batch, Draws(0, 0, range(2))).loss for each in (stage, base))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_step_changes_the_lora_alone(tiny_vae, tiny_base, tiny_shards):
    changed = changed_by_a_step(CoarseStage(COARSE, tiny_vae, tiny_base), tiny_shards)
    assert changed
    assert all("lora_" in name for name in changed)  # A has no gradient before B has numbers


def test_one_sample_is_learnt_to_some_extent(tiny_vae, tiny_base, tiny_shards):
    stage = CoarseStage(replace(COARSE, drop=0.0, rank=8), tiny_vae, tiny_base)
    losses = losses_on_one_sample(stage, tiny_shards, 30, 1e-2)
    assert losses[-1] < 0.9 * losses[0]


def test_training_writes_a_lora_for_this_base(tiny_vae, tiny_base, tiny_shards, tmp_path):
    stage = CoarseStage(COARSE, tiny_vae, tiny_base)
    trained = train(stage, ENGINE, tiny_shards, tmp_path / "out")
    base = open_base(tiny_base, stage.module.space)
    load_lora(trained.weights / LORA_FILE, base.unet, base.sha256)
    batch, again = batch_of(stage, tiny_shards), CoarseStage(COARSE, tiny_vae, tiny_base)
    before = again.loss(batch, Draws(0, 0, range(2))).loss.item()
    again.module.unet = base.unet
    assert again.loss(batch, Draws(0, 0, range(2))).loss.item() != before
    with pytest.raises(WeightsError, match=f"found {base.sha256}"):
        load_lora(trained.weights / LORA_FILE, open_base(tiny_base, stage.module.space).unet, "0")


def test_a_base_for_another_autoencoder_is_refused(tiny_vae, tiny_base, tiny_shards, tmp_path):
    from generation.training.autoencoder import AutoencoderStage

    train(AutoencoderStage(VAE, seed=1), ENGINE, tiny_shards, tmp_path / "vae")
    with pytest.raises(WeightsError, match="vae of sha256"):
        CoarseStage(COARSE, tmp_path / "vae", tiny_base)
    with pytest.raises(WeightsError, match="not there"):
        CoarseStage(COARSE, tiny_vae, tmp_path)


def test_the_seed_decides_the_lora(tiny_vae, tiny_base):
    first, same, other = (
        torch.cat(
            [
                each.detach().flatten()
                for each in CoarseStage(COARSE, tiny_vae, tiny_base, seed).module.parameters()
                if each.requires_grad
            ]
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_rank_below_one_is_refused():
    with pytest.raises(InputError, match="rank"):
        replace(COARSE, rank=0)
