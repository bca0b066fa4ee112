"""The coarse and the fine stage can be trained on a trained base or the published one."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from generation.models.vae import SCALE_FACTOR
from generation.training import stage_networks
from generation.training.cascade_stages import CoarseStage, FineStage
from generation.training.stage_networks import open_base
from recon.errors import InputError
from tests.generation.tiny_networks import tiny_weights
from tests.generation.training.tiny_stages import COARSE, FINE, changed_by_a_step


@pytest.fixture
def published_file(monkeypatch, tmp_path) -> Path:
    """A file that only has a hash, with tiny networks in place of the published ones."""
    weights = tiny_weights(tmp_path, "sv4d")["sv4d"]
    monkeypatch.setattr(stage_networks, "open_published", lambda path, model: weights)
    return weights.path


def test_the_published_file_has_all_that_is_needed(published_file):
    base = open_base(published_file, None)
    sha256 = hashlib.sha256(published_file.read_bytes()).hexdigest()
    assert (base.sha256, base.space.sha256) == (sha256, sha256)
    assert base.space.scale == SCALE_FACTOR


def test_a_lora_on_the_published_base_is_trained(published_file, tiny_shards):
    stage = CoarseStage(replace(COARSE, size="high"), None, published_file)
    changed = changed_by_a_step(stage, tiny_shards)
    assert changed
    assert all("lora_" in name for name in changed)


def test_a_branch_on_the_published_base_is_trained(published_file, tiny_shards):
    changed = changed_by_a_step(FineStage(FINE, None, published_file), tiny_shards)
    assert changed
    assert all(name.startswith("branch.") for name in changed)


def test_our_own_base_needs_its_autoencoder(tiny_base):
    with pytest.raises(InputError, match="--vae"):
        open_base(tiny_base, None)
