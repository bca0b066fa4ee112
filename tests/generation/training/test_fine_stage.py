"""The fine stage trains a branch and nothing else, and its file is a branch again."""

from dataclasses import replace

import pytest
import torch

from generation.training.draws import Draws
from generation.training.engine import train
from generation.training.fine_stage import FineStage, blurred
from generation.training.whole_stages import BaseStage
from generation.weights.catalogue import BRANCH_FILE
from generation.weights.files import load_branch
from recon.errors import InputError
from tests.generation.training.tiny_stages import (
    BASE,
    ENGINE,
    FINE,
    batch_of,
    changed_by_a_step,
    losses_on_one_sample,
)

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
    sha256 = stage.settings["base_sha256"]
    branch = load_branch(trained.weights / BRANCH_FILE, config, sha256)
    assert branch.name == name
    assert set(branch.state_dict()) == set(stage.module.branch.state_dict())
    assert trained.scores["psnr"] > 0


@pytest.mark.parametrize("roles", ["reference_query", "feature_query"])
def test_one_sample_is_learnt_to_some_extent(roles, tiny_vae, tiny_base, tiny_shards):
    settings = replace(UNDISTURBED, drop=0.0)
    stage = FineStage(settings, tiny_vae, tiny_base, roles=roles)
    losses = losses_on_one_sample(stage, tiny_shards, 30, 3e-3)
    assert losses[-1] < 0.9 * losses[0]


def test_a_fresh_branch_has_the_loss_of_the_base(tiny_vae, tiny_base, tiny_shards):
    base = BaseStage(replace(BASE, size="high"), tiny_vae, start=tiny_base)
    stage = FineStage(UNDISTURBED, tiny_vae, tiny_base)
    batch, draws = batch_of(stage, tiny_shards), Draws(0, 0, range(2))
    stage._coarse(batch, skipped := Draws(0, 0, range(2)))  # takes numbers before the loss does
    expected = base.loss(batch, skipped).loss.item()
    assert stage.loss(batch, draws).loss.item() == pytest.approx(expected, rel=1e-6)


def test_coarse_images_are_disturbed_in_training_only(tiny_vae, tiny_base, tiny_shards):
    stage, plain = (FineStage(each, tiny_vae, tiny_base) for each in (FINE, UNDISTURBED))
    batch = batch_of(stage, tiny_shards)
    true = plain._coarse(batch, None)
    assert torch.equal(stage._coarse(batch, None), true)
    torch.testing.assert_close(plain._coarse(batch, Draws(0, 0, range(2))), true)
    difference = (stage._coarse(batch, Draws(0, 0, range(2))) - true) * stage.module.space.scale
    assert 0.01 < difference.std() < 1


def test_blurring_is_the_mean_of_nine_pixels():
    images = torch.rand(2, 3, 3, 5, 6)
    found = blurred(images, 3)
    torch.testing.assert_close(found[1, 2, 0, 2, 3], images[1, 2, 0, 1:4, 2:5].mean())
    torch.testing.assert_close(blurred(torch.ones(1, 1, 3, 4, 4), 5), torch.ones(1, 1, 3, 4, 4))


def test_the_branch_belongs_to_what_is_trained(stage):
    assert stage.settings["branch"] == stage.module.branch.name
    assert stage.settings["roles"] == "reference_query"


def test_an_unknown_branch_or_a_number_out_of_range_is_refused(tiny_vae, tiny_base):
    with pytest.raises(InputError, match="no structure branch"):
        FineStage(FINE, tiny_vae, tiny_base, branch="other")
    with pytest.raises(InputError, match="coarse_blur"):
        replace(FINE, coarse_blur=2.0)
    with pytest.raises(InputError, match="odd coarse_window"):
        replace(FINE, coarse_window=4)
