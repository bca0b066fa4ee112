"""Training of the autoencoder: loss, statistics of latents, and the published file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from generation.models.vae import SCALE_FACTOR
from generation.training.autoencoder import (
    AutoencoderConfig,
    AutoencoderStage,
    edge_loss,
    images_of_size,
    mixing_matrix,
)
from generation.training.clip_sampling import SampleRng
from generation.training.config import EngineConfig, read_config
from generation.training.dataset import GridDataset, TrainingSample, composite_on_white
from generation.training.engine import train
from generation.training.run_folder import read_log
from generation.weights.catalogue import VAE_FILE
from generation.weights.files import describe
from recon.errors import WeightsError

TINY = AutoencoderConfig(
    patch=4, latent_channels=12, width=8, encoder_blocks=1, decoder_blocks=1, max_stride=2
)
ENGINE = EngineConfig(
    steps=30,
    batch_size=4,
    learning_rate=4e-3,
    warmup_steps=4,
    held_out=2,
    ema_decay=0.8,
    eval_every=10,
)


@pytest.fixture(scope="module")
def trained(tiny_shards, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vae") / "out"
    train(AutoencoderStage(TINY), ENGINE, tiny_shards, folder)
    return folder


@pytest.fixture
def samples(tiny_shards) -> TrainingSample:
    dataset = GridDataset(tiny_shards, AutoencoderStage(TINY).sampling)
    return default_collate([dataset[number] for number in range(3)])


def parameters(config: str) -> int:
    _, own = read_config(config, "vae", AutoencoderConfig)
    with torch.device("meta"):
        return sum(each.numel() for each in AutoencoderStage(own).module.parameters())


def test_the_small_configuration_has_an_eighth_of_the_side_and_few_parameters():
    _, own = read_config("mini", "vae", AutoencoderConfig)
    assert parameters("mini") < 3e6
    assert AutoencoderStage(own).module.encoder(torch.zeros(1, 3, 16, 16)).shape == (1, 16, 2, 2)


def test_training_improves_reconstructions(trained):
    scores = [record for record in read_log(trained) if "psnr_low" in record]
    assert scores[-1]["psnr_low"] > scores[0]["psnr_low"] + 1
    assert scores[-1]["psnr_high"] > scores[0]["psnr_high"] + 1


def test_the_file_is_the_evaluated_network(trained, tiny_shards):
    network = describe(trained / "weights" / VAE_FILE, "vae").build()
    dataset = GridDataset(tiny_shards, AutoencoderStage(TINY).sampling)
    last = default_collate([dataset[7], dataset[8]])
    images = composite_on_white(last.target["low"].flatten(0, 2)).rgb
    made = network.decoder(network.encoder(images)).clamp(-1, 1)
    error = ((made - images) / 2).double().square().mean((1, 2, 3))
    psnr = float((-10 * error.log10()).mean())
    assert psnr == pytest.approx(read_log(trained)[-1]["psnr_low"], abs=1e-3)


def test_scaled_latents_have_a_mean_square_of_1_and_white_is_0(trained, tiny_shards):
    network = describe(trained / "weights" / VAE_FILE, "vae").build()
    dataset = GridDataset(tiny_shards, AutoencoderStage(TINY).sampling)
    last = default_collate([dataset[7], dataset[8]])
    latents = [
        network.encoder(composite_on_white(target.flatten(0, 2)).rgb).flatten()
        for target in last.target.values()
    ]
    scaled = torch.cat(latents) * network.config.latent_scale
    assert float(scaled.square().mean()) == pytest.approx(1, abs=1e-4)
    white = network.config.latent_scale * network.encoder(torch.ones(1, 3, 8, 8))
    assert float(white[:, :, 1, 1].abs().max()) < 1e-5


def test_mixing_takes_the_square_root_of_standard_deviations():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    latents = rng.standard_normal((4000, 3)) * (9.0, 1.0, 0.01) @ directions.T
    mixed = latents @ mixing_matrix(torch.from_numpy(latents)).numpy().T
    spread = np.sqrt((mixed**2).mean(axis=0).sum() / 3)
    assert spread == pytest.approx(1 / SCALE_FACTOR)
    before, after = (np.linalg.svd(each, compute_uv=False)[:2] for each in (latents, mixed))
    assert after[0] / after[1] == pytest.approx(np.sqrt(before[0] / before[1]))


def test_mixing_does_not_amplify_directions_of_tiny_variance():
    latents = torch.zeros(50, 2)
    latents[:, 0] = torch.linspace(-1, 1, 50)
    mix = mixing_matrix(latents)
    assert bool(mix.isfinite().all())
    assert float(mix[1, 1] / mix[0, 0]) == pytest.approx(10.0, rel=1e-3)  # (10⁻⁴)^(−1/4)


def test_the_loss_agrees_with_float64(samples):
    stage = AutoencoderStage(TINY)
    found = stage.loss(samples, SampleRng(0, 0, range(3)))
    stage.module.double()
    rng, expected = (
        SampleRng(0, 0, range(3)),
        dict.fromkeys(("difference", "edges", "kl"), 0.0),
    )
    orders = {size: rng.permutation(4)[:, :count] for size, count in (("low", 4), ("high", 1))}
    for size, order in orders.items():
        images, mask = (
            torch.stack([each[i, chosen] for i, chosen in enumerate(order)]).flatten(0, 1)
            for each in composite_on_white(samples.target[size].flatten(1, 2), torch.float64)
        )
        mean, log_variance = stage.module.encoder.posterior(images)
        noise = rng.normal(order.shape[1], *mean.shape[1:]).flatten(0, 1)
        made = stage.module.decoder(mean + (log_variance / 2).exp() * noise)
        weight = 1 + (TINY.object_weight - 1) * mask
        error = (weight * (made - images)).detach().numpy()
        expected["difference"] += np.abs(error).mean() / 2
        for axis in (2, 3):
            expected["edges"] += np.abs(np.diff(error, axis=axis)).mean() / 2
        kl = (mean**2 + log_variance.exp() - 1 - log_variance) / 2
        expected["kl"] += float(kl.detach().mean()) / 2
    for name, value in expected.items():
        assert float(found.parts[name]) == pytest.approx(value, rel=1e-4)
    whole = (
        expected["difference"]
        + TINY.edge_weight * expected["edges"]
        + TINY.kl_weight * expected["kl"]
    )
    assert found.loss.item() == pytest.approx(whole, rel=1e-4)


def test_the_edge_loss_of_a_ramp_is_its_slope():
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    assert float(edge_loss((0.5 * rows - 2 * columns)[None, None])) == pytest.approx(2.5)


def test_all_sizes_have_about_as_many_pixels():
    assert [images_of_size(4, side, 64) for side in (64, 128, 256)] == [4, 1, 1]
    assert images_of_size(16, 576, 256) == 3


def test_images_are_drawn_above_their_reconstructions(samples):
    stage = AutoencoderStage(TINY)
    picture = stage.images(samples, SampleRng(0, 0, range(3)))
    assert picture.shape == (2 * 8 + 2 * 16, 3 * 16, 3)
    assert picture.dtype == np.uint8
    expected = (composite_on_white(samples.target["high"][1, 0, 0]).rgb + 1) * 127.5
    np.testing.assert_allclose(picture[16:32, 16:32], expected.permute(1, 2, 0), atol=0.51)


def test_the_seed_decides_the_network_and_leaves_other_random_numbers_alone():
    before = torch.random.get_rng_state()
    first, same, other = (AutoencoderStage(TINY, seed).module for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.encoder.first.weight, same.encoder.first.weight)
    assert not torch.equal(first.encoder.first.weight, other.encoder.first.weight)


@pytest.mark.parametrize("content", [None, b"", b"no tensors at all"])
def test_a_file_of_another_format_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / VAE_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=VAE_FILE):
        describe(tmp_path / VAE_FILE, "vae")


def test_half_precision_is_read_again(trained, tiny_shards, tmp_path):
    stage = AutoencoderStage(TINY)
    dataset = GridDataset(tiny_shards, stage.sampling)
    weights = dict(stage.module.named_parameters())
    stage.save(tmp_path, weights, default_collate([dataset[0]]), torch.float16)
    network = describe(tmp_path / VAE_FILE, "vae").build()
    for name, tensor in network.named_parameters():
        assert torch.equal(tensor, weights[name].detach().half().float())
