"""Tiny shards for all tests of training, and finished trainings of autoencoder and base."""

from pathlib import Path

import pytest

from tests.generation.curation.shards.tiny_packs import pack, write_data


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """Nine grids of 4 views × 3 frames."""
    return write_data(tmp_path_factory.mktemp("training_data"), count=9)


@pytest.fixture(scope="session")
def tiny_shards(tiny_data, tmp_path_factory) -> Path:
    """Shards of these grids at 8 and 16 pixels; do not modify."""
    folder = tmp_path_factory.mktemp("training_packs") / "shards"
    pack(tiny_data, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vae(tiny_shards, tmp_path_factory) -> Path:
    """A finished training of an autoencoder."""
    from tests.generation.training.tiny_stages import on_one_thread, train_vae

    with on_one_thread():
        return train_vae(tiny_shards, tmp_path_factory.mktemp("tiny_vae") / "out")


@pytest.fixture(scope="session")
def tiny_base(tiny_shards, tiny_vae, tmp_path_factory) -> Path:
    """A finished training of the base in the latent space of `tiny_vae`."""
    from tests.generation.training.tiny_stages import on_one_thread, train_base

    with on_one_thread():
        return train_base(tiny_shards, tiny_vae, tmp_path_factory.mktemp("tiny_base") / "out")
