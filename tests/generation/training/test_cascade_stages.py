"""Coarse and fine stage train their additions and leave the base unchanged."""

from dataclasses import replace

import pytest
import torch

from generation.training.cascade_stages import CoarseStage, FineStage, box_blur
from generation.training.clip_sampling import SampleRng
from generation.training.engine import train
from generation.training.stage_networks import open_base
from generation.training.unet_stages import BaseStage
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from generation.weights.files import load_branch, load_lora
from recon.errors import InputError, WeightsError
from tests.generation.training.tiny_stages import (
    BASE,
    COARSE,
    ENGINE,
    FINE,
    VAE,
    batch_of,
    changed_by_a_step,
    losses_on_one_sample,
)


def test_an_untrained_lora_has_the_loss_of_the_base(tiny_vae, tiny_base, tiny_shards):
    stage = CoarseStage(COARSE, tiny_vae, tiny_base)
    base = BaseStage(replace(BASE, views=4), tiny_vae, start=tiny_base)
    batch = batch_of(stage, tiny_shards)
    found, expected = (each.loss(batch, SampleRng(0, 0, range(2))).loss for each in (stage, base))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_step_changes_the_lora_alone(tiny_vae, tiny_base, tiny_shards):
    changed = changed_by_a_step(CoarseStage(COARSE, tiny_vae, tiny_base), tiny_shards)
    assert changed
    assert all("lora_" in name for name in changed)  # A has no gradient before B has numbers


@pytest.mark.slow
def test_the_lora_can_overfit_a_single_sample(tiny_vae, tiny_base, tiny_shards):
    stage = CoarseStage(replace(COARSE, cond_drop_prob=0.0, rank=8), tiny_vae, tiny_base)
    losses = losses_on_one_sample(stage, tiny_shards, 30, 1e-2)
    assert losses[-1] < 0.9 * losses[0]


def test_training_writes_a_lora_for_this_base(tiny_vae, tiny_base, tiny_shards, tmp_path):
    stage = CoarseStage(COARSE, tiny_vae, tiny_base)
    trained = train(stage, ENGINE, tiny_shards, tmp_path / "out")
    base = open_base(tiny_base, tiny_vae)
    load_lora(trained.weights / LORA_FILE, base.unet, base.sha256)
    batch, again = batch_of(stage, tiny_shards), CoarseStage(COARSE, tiny_vae, tiny_base)
    before = again.loss(batch, SampleRng(0, 0, range(2))).loss.item()
    again.module.unet = base.unet
    assert again.loss(batch, SampleRng(0, 0, range(2))).loss.item() != before
    with pytest.raises(WeightsError, match=f"found {base.sha256}"):
        load_lora(trained.weights / LORA_FILE, open_base(tiny_base, tiny_vae).unet, "0")


def test_a_base_for_another_autoencoder_is_refused(tiny_vae, tiny_base, tiny_shards, tmp_path):
    from generation.training.autoencoder import AutoencoderStage

    train(AutoencoderStage(VAE, seed=1), ENGINE, tiny_shards, tmp_path / "vae")
    with pytest.raises(WeightsError, match="vae of sha256"):
        CoarseStage(COARSE, tmp_path / "vae", tiny_base)
    with pytest.raises(WeightsError, match="does not exist"):
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


BRANCHES = ("layerwise", "controlnet", "t2i_adapter")
UNDISTURBED = replace(FINE, coarse_blur=0.0, coarse_noise=0.0)


@pytest.fixture(params=BRANCHES)
def stage(request, tiny_vae, tiny_base) -> FineStage:
    return FineStage(FINE, tiny_vae, tiny_base, branch=request.param)


def test_a_step_changes_the_branch_alone(stage, tiny_shards):
    changed = changed_by_a_step(stage, tiny_shards)
    assert changed
    assert all(name.startswith("branch.") for name in changed)


def test_training_writes_a_branch_that_loads_again(stage, tiny_shards, tmp_path):
    trained = train(stage, ENGINE, tiny_shards, tmp_path / "out")
    name, config = stage.module.branch.name, stage.module.unet.config
    sha256 = stage.identity["base_sha256"]
    branch = load_branch(trained.weights / BRANCH_FILE, config, sha256)
    assert branch.name == name
    assert set(branch.state_dict()) == set(stage.module.branch.state_dict())
    assert trained.scores["psnr"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("roles", ["reference_query", "feature_query"])
def test_the_branch_can_overfit_a_single_sample(roles, tiny_vae, tiny_base, tiny_shards):
    settings = replace(UNDISTURBED, cond_drop_prob=0.0)
    stage = FineStage(settings, tiny_vae, tiny_base, roles=roles)
    losses = losses_on_one_sample(stage, tiny_shards, 30, 3e-3)
    assert losses[-1] < 0.9 * losses[0]


def test_an_untrained_branch_has_the_loss_of_the_base(tiny_vae, tiny_base, tiny_shards):
    base = BaseStage(replace(BASE, size="high"), tiny_vae, start=tiny_base)
    stage = FineStage(UNDISTURBED, tiny_vae, tiny_base)
    batch, rng = batch_of(stage, tiny_shards), SampleRng(0, 0, range(2))
    stage._coarse_latents(
        batch, skipped := SampleRng(0, 0, range(2))
    )  # takes numbers before the loss does
    expected = base.loss(batch, skipped).loss.item()
    assert stage.loss(batch, rng).loss.item() == pytest.approx(expected, rel=1e-6)


def test_coarse_images_are_perturbed_in_training_only(tiny_vae, tiny_base, tiny_shards):
    stage, plain = (FineStage(each, tiny_vae, tiny_base) for each in (FINE, UNDISTURBED))
    batch = batch_of(stage, tiny_shards)
    true = plain._coarse_latents(batch, None)
    assert torch.equal(stage._coarse_latents(batch, None), true)
    torch.testing.assert_close(plain._coarse_latents(batch, SampleRng(0, 0, range(2))), true)
    difference = (
        stage._coarse_latents(batch, SampleRng(0, 0, range(2))) - true
    ) * stage.module.space.scale
    assert 0.01 < difference.std() < 1


def test_box_blur_is_the_mean_of_nine_pixels():
    images = torch.rand(2, 3, 3, 5, 6)
    found = box_blur(images, 3)
    torch.testing.assert_close(found[1, 2, 0, 2, 3], images[1, 2, 0, 1:4, 2:5].mean())
    torch.testing.assert_close(box_blur(torch.ones(1, 1, 3, 4, 4), 5), torch.ones(1, 1, 3, 4, 4))


def test_the_branch_is_part_of_the_identity(stage):
    assert stage.identity["branch"] == stage.module.branch.name
    assert stage.identity["roles"] == "reference_query"


def test_an_unknown_branch_is_refused(tiny_vae, tiny_base):
    with pytest.raises(InputError, match="structure branch"):
        FineStage(FINE, tiny_vae, tiny_base, branch="other")
    with pytest.raises(InputError, match="coarse_blur"):
        replace(FINE, coarse_blur=2.0)
    with pytest.raises(InputError, match="odd coarse_window"):
        replace(FINE, coarse_window=4)
