"""A pack of tiny grids for all tests of training, and trainings that others stand on."""

from pathlib import Path

import pytest

from tests.generation.curation.shards.tiny_packs import pack, write_data


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """Nine grids of 4 views × 3 frames."""
    return write_data(tmp_path_factory.mktemp("training_data"), count=9)


@pytest.fixture(scope="session")
def tiny_shards(tiny_data, tmp_path_factory) -> Path:
    """The same, packed at 8 and 16 pixels; not to be changed."""
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
    """A finished training of the base in its latents."""
    from tests.generation.training.tiny_stages import on_one_thread, train_base

    with on_one_thread():
        return train_base(tiny_shards, tiny_vae, tmp_path_factory.mktemp("tiny_base") / "out")
