"""Batches are conditioned as the pipeline conditions the same images."""

import math

import pytest
import torch
from torch.utils.data import default_collate

from generation.conditioning import azimuth_rad, camera_vector, polar_rad
from generation.models.image_encoders import ConvImageEncoder, ConvImageEncoderConfig
from generation.training.clip_sampling import SamplingConfig
from generation.training.conditioning import grid_batch, orbit_batch, true_reference_views
from generation.training.dataset import GridDataset, TrainingSample, composite_on_white
from generation.training.stage_networks import LatentSpace, open_latent_space
from generation.weights.catalogue import VAE_FILE
from generation.weights.files import describe


@pytest.fixture
def space(tiny_vae) -> LatentSpace:
    return open_latent_space(tiny_vae)


@pytest.fixture
def encoder() -> ConvImageEncoder:
    return ConvImageEncoder(ConvImageEncoderConfig(8, (32,), 8)).requires_grad_(False)


def batch_of(shards, **choice) -> TrainingSample:
    dataset = GridDataset(shards, SamplingConfig(random_reference=True, **choice))
    return default_collate([dataset[number] for number in range(3)])


def test_frames_of_a_grid_are_time_major_and_conditioned_on_the_video(space, encoder, tiny_shards):
    batch = batch_of(tiny_shards, views=3, frames=2)
    conditioned = grid_batch(batch, "low", space, encoder, true_reference_views(batch, "low"))
    frame = 1 * 3 + 2  # time 1, view 2
    torch.testing.assert_close(
        conditioned.images[1, frame], composite_on_white(batch.target["low"][1, 2, 1]).rgb
    )
    seen = composite_on_white(batch.reference_video["low"][1]).rgb
    found = conditioned.conditionings[1]
    torch.testing.assert_close(found.concat[frame], space.encode(seen[1:])[0])
    torch.testing.assert_close(found.context, encoder(seen))
    assert found.reference is not None
    views = composite_on_white(batch.reference_views["low"][1]).rgb
    torch.testing.assert_close(found.reference, space.encode(views))


def test_camera_vectors_are_those_of_the_pipeline(space, encoder, tiny_shards):
    batch = batch_of(tiny_shards, views=3, frames=2)
    conditioned = grid_batch(batch, "low", space, encoder, true_reference_views(batch, "low"))
    found = conditioned.conditionings[2].vector
    elevations = batch.elevation_rad[2].double().rad2deg().tolist()
    azimuths = batch.azimuth_rad[2].double().rad2deg().tolist()
    expected = camera_vector(polar_rad(elevations), azimuth_rad(azimuths)).repeat(2, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_an_orbit_ends_with_the_reference_view(space, encoder, tiny_shards):
    batch = batch_of(tiny_shards, views=4, frames=1)
    conditioned = orbit_batch(batch, "low", space, encoder)
    torch.testing.assert_close(conditioned.images[:, -1], conditioned.video[:, 0])
    torch.testing.assert_close(
        conditioned.images[:, :-1], composite_on_white(batch.target["low"][:, 1:, 0]).rgb
    )
    last = camera_vector(math.pi / 2 - batch.elevation_rad[:, 0], torch.zeros(3))
    found = torch.stack([each.vector[-1] for each in conditioned.conditionings])
    torch.testing.assert_close(found, last)


def test_latents_and_images_are_those_of_the_autoencoder(space, tiny_vae, tiny_shards):
    network = describe(tiny_vae / "weights" / VAE_FILE, "vae").build()
    images = composite_on_white(batch_of(tiny_shards, views=2, frames=1).target["low"]).rgb
    latents = space.encode(images)
    assert latents.shape == (3, 2, 1, 12, 4, 4)
    torch.testing.assert_close(latents.flatten(0, 2), network.encoder(images.flatten(0, 2)))
    made = space.decode(latents.flatten(0, 2) * space.scale)
    expected = network.decoder(latents.flatten(0, 2)).clamp(-1, 1)
    torch.testing.assert_close(made, expected)
    assert not any(each.requires_grad for each in space.parameters())
