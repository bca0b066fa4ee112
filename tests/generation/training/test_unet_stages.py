"""Training of SV3D and SV4D: learning, evaluation, and the published files."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DUNet
from generation.training.batches import HeldOut
from generation.training.clip_sampling import SampleRng
from generation.training.conditioning import orbit_batch
from generation.training.config import read_config
from generation.training.dataset import GridDataset
from generation.training.engine import train
from generation.training.run_folder import read_log
from generation.training.stage_networks import IMAGE_ENCODER_NAME, UNET_NAME, LatentSpace, open_base
from generation.training.unet_stages import (
    BaseConfig,
    BaseStage,
    ReferenceViewsConfig,
    ReferenceViewsStage,
)
from generation.weights.files import describe
from generation.weights.verify import file_sha256
from recon.errors import InputError, WeightsError
from tests.generation.training.tiny_stages import (
    BASE,
    ENGINE,
    ORBIT,
    batch_of,
    changed_by_a_step,
    losses_on_one_sample,
)

STAGES = [(ReferenceViewsStage, ORBIT), (BaseStage, BASE)]


@pytest.mark.parametrize(("kind", "settings"), STAGES)
def test_a_step_changes_unet_and_image_encoder_and_leaves_the_autoencoder(
    kind, settings, tiny_vae, tiny_shards
):
    stage = kind(settings, tiny_vae)
    changed = changed_by_a_step(stage, tiny_shards)
    assert {name.split(".")[0] for name in changed} == {"unet", "image_encoder"}
    unused = {name for name in stage.module.state_dict() if not name.startswith("space")} - changed
    assert all("attn2.to_" in name or "norm2" in name for name in unused)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "settings"), STAGES)
def test_a_single_sample_can_be_overfitted(kind, settings, tiny_vae, tiny_shards):
    stage = kind(replace(settings, cond_drop_prob=0.0), tiny_vae)
    losses = losses_on_one_sample(stage, tiny_shards, 40, 3e-3)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("kind", "settings"), STAGES)
def test_training_writes_what_loads_again_and_makes_the_same(
    kind, settings, tiny_vae, tiny_shards, tmp_path
):
    stage = kind(settings, tiny_vae)
    trained = train(stage, ENGINE, tiny_shards, tmp_path / "out")
    name = "sv3d" if kind is ReferenceViewsStage else "sv4d"
    space: LatentSpace = stage.module.space
    unet_file = describe(trained.weights / UNET_NAME, name)
    unet_file.check_requires(vae=space.sha256)
    unet = unet_file.build()
    encoder = describe(trained.weights / IMAGE_ENCODER_NAME, "image-encoder").build()
    assert isinstance(unet, SV3DUNet if kind is ReferenceViewsStage else SV4DUNet)
    assert unet.config == stage.module.unet.config
    stage.module.unet, stage.module.image_encoder = unet, encoder
    held_out = HeldOut(GridDataset(tiny_shards, stage.sampling), ENGINE, torch.device("cpu"))
    found = stage.evaluate(held_out.samples, held_out.rng())
    assert found == pytest.approx(trained.scores, rel=1e-5)
    assert set(read_log(tmp_path / "out")[-1]) >= {"held_out_loss", "psnr"}


@pytest.mark.parametrize(("kind", "settings"), STAGES)
def test_a_finished_training_leaves_the_files_that_later_stages_know(
    kind, settings, tiny_vae, tiny_shards, tmp_path
):
    digests = set()
    for _ in range(4):
        trained = train(kind(settings, tiny_vae), ENGINE, tiny_shards, tmp_path / "out")
        digests.add(
            (
                file_sha256(trained.weights / UNET_NAME),
                file_sha256(trained.weights / IMAGE_ENCODER_NAME),
            )
        )
    assert len(digests) == 1


def test_images_show_input_truth_and_sample(tiny_vae, tiny_shards):
    stage = BaseStage(BASE, tiny_vae)
    batch = batch_of(stage, tiny_shards)
    picture = stage.images(batch, SampleRng(0, 0, range(2)))
    assert picture.shape == (3 * 8, (1 + 2 * 2) * 8, 3)
    assert picture.dtype == np.uint8
    rgba = batch.target["low"][0, 1, 2].double()  # view 1, time 2
    over = rgba[:3] * rgba[3] / 255 + 255 - rgba[3]
    np.testing.assert_allclose(picture[16:24, 16:24], over.permute(1, 2, 0), atol=0.51)


def test_one_unguided_step_is_the_networks_prediction_for_noise(tiny_vae, tiny_shards):
    """It follows from the coefficients of v-prediction and differs from the guided result."""
    stage = ReferenceViewsStage(replace(ORBIT, sampler_steps=1, guided=False), tiny_vae)
    network = stage.module
    torch.manual_seed(0)
    for parameter in network.unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    batch, sigma = batch_of(stage, tiny_shards, 1), 700.0
    conditioned = orbit_batch(batch, "low", network.space, network.image_encoder)
    noise = SampleRng(5, 0, [0]).normal(*network.space.encode(conditioned.images).shape[1:])[0]
    conditioning = conditioned.conditionings[0]
    with torch.no_grad():
        v = network.unet(
            torch.cat([noise, conditioning.concat], dim=1),
            torch.full((4,), math.log(sigma) / 4),
            conditioning.vector,
            conditioning.context,
            frames=4,
        )
        x = noise * math.sqrt(sigma**2 + 1)
        z = x / (sigma**2 + 1) - v * sigma / math.sqrt(sigma**2 + 1)
        made = network.space.decode(z)
    expected = torch.cat(list((made.clamp(-1, 1) + 1) * 127.5), dim=2).permute(1, 2, 0)
    shown = stage.images(batch, SampleRng(5, 0, [0]))[:, -4 * 8 :]
    np.testing.assert_allclose(shown, expected, atol=0.51)
    guided = ReferenceViewsStage(replace(ORBIT, sampler_steps=1), tiny_vae)
    guided.module.load_state_dict(network.state_dict())
    led = guided.images(batch, SampleRng(5, 0, [0]))[:, -4 * 8 :]
    assert np.abs(led - expected.numpy()).max() > 2


def test_gradient_checkpointing_gives_the_same_gradients(tiny_vae, tiny_shards):
    gradients = []
    for gradient_checkpointing in (False, True):
        stage = BaseStage(replace(BASE, gradient_checkpointing=gradient_checkpointing), tiny_vae)
        stage.loss(batch_of(stage, tiny_shards), SampleRng(0, 0, range(2))).loss.backward()
        gradients.append([x.grad for x in stage.module.parameters() if x.requires_grad])
    torch.testing.assert_close(*gradients)
    assert BaseStage(BASE, tiny_vae).identity == stage.identity


@pytest.mark.parametrize(("kind", "settings"), STAGES)
def test_half_precision_gives_about_the_same_loss(kind, settings, tiny_vae, tiny_shards):
    stage = kind(settings, tiny_vae)
    batch = batch_of(stage, tiny_shards)
    expected = stage.loss(batch, SampleRng(0, 0, range(2))).loss.item()
    with torch.autocast("cpu", torch.bfloat16):
        found = stage.loss(batch, SampleRng(0, 0, range(2))).loss
    found.backward()
    assert found.item() == pytest.approx(expected, rel=0.05)


def test_the_base_starts_from_another_one_of_its_sizes(tiny_vae, tiny_base):
    stage = BaseStage(replace(BASE, size="high"), tiny_vae, seed=7, start=tiny_base)
    base = open_base(tiny_base, tiny_vae)
    torch.testing.assert_close(stage.module.unet.state_dict(), base.unet.state_dict())
    assert stage.identity["start_sha256"] == base.sha256
    with pytest.raises(WeightsError, match="expected a network"):
        BaseStage(replace(BASE, channel_mult=(1, 2)), tiny_vae, start=tiny_base)


@pytest.mark.parametrize("config", ["mini", "paper"])
def test_the_configurations_have_networks_that_can_be_built(config):
    _, orbit = read_config(config, "reference-views", ReferenceViewsConfig)
    _, grid = read_config(config, "base", BaseConfig)
    with torch.device("meta"):
        unets = [ReferenceViewsStage._unet(orbit, 4), BaseStage._unet(grid, 4)]
    millions = [sum(each.numel() for each in unet.parameters()) / 1e6 for unet in unets]
    assert max(millions) < 9 if config == "mini" else min(millions) > 1500


def test_a_missing_autoencoder_names_its_command(tmp_path):
    with pytest.raises(WeightsError) as caught:
        BaseStage(BASE, tmp_path)
    assert "train vae" in str(caught.value.hint)


def test_sizes_that_do_not_fit_are_refused(tiny_vae):
    with pytest.raises(InputError, match="divisible by 32"):
        BaseStage(replace(BASE, model_channels=40), tiny_vae)
    with pytest.raises(InputError, match="1 frame"):
        replace(ORBIT, frames=2)
