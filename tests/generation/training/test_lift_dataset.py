"""Drawn samples depend on seed, epoch and number, and held-out assets are never trained on."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from generation.training.batches import Batches, HeldOut
from generation.training.lift_dataset import LiftBatch, LiftDataset
from generation.training.lift_samples import LiftSampling
from generation.training.samples import Item
from recon.errors import InputError
from tests.generation.training.tiny_lift import ANIMALS, ENGINE, FIGURES, write_bakes

SAMPLING = LiftSampling(size=32)


@pytest.fixture(scope="module")
def bakes(tmp_path_factory) -> Path:
    return write_bakes(tmp_path_factory.mktemp("bakes") / "baked")


def dataset(*folders: Path, items: int = 6, **options) -> LiftDataset:
    return LiftDataset(folders, SAMPLING, items=items, held_out=2, **options)


def assert_equal(found: LiftBatch, expected: LiftBatch) -> None:
    assert found.name == expected.name
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert torch.equal(one, other)


def trained_names(samples: LiftDataset, count: int = 40) -> set[str]:
    return {samples[Item(epoch, 0)].name[0] for epoch in range(count)}


def last_parts(labels: Iterable[str]) -> set[str]:
    return {label.rpartition("/")[2] for label in labels}


def test_an_item_depends_on_seed_epoch_and_number_only(bakes):
    one, other = dataset(bakes, seed=3), dataset(bakes, seed=3)
    other[Item(0, 5)]
    assert_equal(one[Item(1, 2)], other[Item(1, 2)])
    for changed in (one[Item(2, 2)], one[Item(1, 3)], dataset(bakes, seed=4)[Item(1, 2)]):
        assert not torch.equal(changed.depth, one[Item(1, 2)].depth)


def test_an_item_is_a_sample_and_its_mirror_image(bakes):
    item = dataset(bakes)[Item(0, 0)]
    assert item.name[0] == item.name[1]
    for images in (item.image, item.depth, item.gap, item.color, item.mask):
        assert torch.equal(images[1], images[0].flip(-1))
    assert item.yaw[1] == -item.yaw[0]
    assert item.elevation[1] == item.elevation[0]
    assert item.mask.any()
    assert (item.depth[:, 0] <= item.depth[:, 3])[item.mask].all()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_draw_the_same_batches(bakes):
    samples = dataset(bakes)
    alone, together = (
        list(islice(Batches(samples, replace(ENGINE, num_workers=workers)), 4))
        for workers in (0, 2)
    )
    for one, other in zip(alone, together, strict=True):
        assert_equal(other[0].samples, one[0].samples)
        assert one[0].positions == other[0].positions == [0, 1, 2, 3]


def test_processes_and_micro_batches_share_the_pairs_of_a_batch(bakes):
    samples = dataset(bakes)
    (whole,) = next(iter(Batches(samples, ENGINE)))
    parts = [next(iter(Batches(samples, ENGINE, rank, 2)))[0] for rank in range(2)]
    parts += next(iter(Batches(samples, replace(ENGINE, grad_accum_steps=2))))
    for part in parts:
        assert len(part.positions) == 2
        for k, place in enumerate(part.positions):
            assert torch.equal(part.samples.depth[k], whole.samples.depth[place])
    assert sorted(place for part in parts[:2] for place in part.positions) == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"2 samples drawn together.*found 6.*multiple of 4"):
        Batches(samples, replace(ENGINE, batch_size=6), 0, 2)


def test_held_out_samples_are_single_and_always_the_same(bakes):
    one, other = (HeldOut(dataset(bakes), ENGINE, torch.device("cpu")) for _ in range(2))
    assert len(one.samples.name) == 2
    assert_equal(one.samples, other.samples)


@pytest.mark.parametrize(
    ("patterns", "held"),
    [
        ((), {"dog"}),
        (("bee",), {"bee"}),
        (("animals/[ab]*",), {"ant", "bee"}),
        (("f*1",), {FIGURES[1]}),
    ],
)
def test_held_out_assets_are_never_trained_on(bakes, patterns, held):
    samples = dataset(bakes, bakes, held_out_assets=patterns, figure_share=0.5)
    assert last_parts(asset.label for asset in samples.held_out_assets) == held
    left = {*ANIMALS, *FIGURES} - held
    assert last_parts(trained_names(samples)) == left
    assert last_parts(samples[Item(0, number)].name[0] for number in (6, 7)) <= held


def test_the_share_of_generated_characters_is_a_number_of_the_configuration(bakes):
    assert last_parts(trained_names(dataset(bakes, figure_share=0))) <= set(ANIMALS)
    assert last_parts(trained_names(dataset(bakes, figure_share=1))) == set(FIGURES)


def test_assets_without_a_front_have_no_yaw(bakes):
    samples = dataset(bakes, frontless_assets=("animals/ant", "b?e", "matches none"))
    batches = [samples[Item(epoch, 0)] for epoch in range(30)]
    assert {batch.name[0] for batch in batches if batch.yaw.isnan().any()} == {
        "animals/ant", "animals/bee"
    }  # fmt: skip


def test_generated_characters_alone_are_enough(tmp_path):
    samples = dataset(write_bakes(tmp_path / "figures", animals=()), figure_share=0)
    assert trained_names(samples, 3) == {FIGURES[0]}


def test_unusable_folders_and_patterns_are_refused(bakes, tmp_path):
    with pytest.raises(InputError, match="`fourdvd data bake`"):
        dataset(tmp_path)
    with pytest.raises(InputError, match="'zebra' matches none of 6"):
        dataset(bakes, held_out_assets=["zebra"])
    with pytest.raises(InputError, match="besides the held-out ones"):
        dataset(bakes, held_out_assets=["*"])


@pytest.mark.parametrize("damage", ["cut off", "missing"])
def test_a_damaged_or_missing_clip_is_reported_with_its_folder(tmp_path, damage):
    folder = write_bakes(tmp_path / "baked", animals=("ant", "bee"), figures=())
    path = folder / "bee" / "clip_00.npz"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=str(folder / "bee")):
        dataset(folder)


def test_an_asset_without_its_folder_is_left_out(tmp_path):
    folder = write_bakes(tmp_path / "baked", animals=("ant", "bee", "cat"), figures=())
    (folder / "ant" / "clip_00.npz").unlink()
    (folder / "ant").rmdir()
    samples = dataset(folder)
    assert [asset.label for asset in samples.assets] == ["animals/bee"]
    np.testing.assert_equal(len(samples.held_out_assets), 1)
