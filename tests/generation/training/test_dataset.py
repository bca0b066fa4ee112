"""Training samples depend on seed, epoch and index alone; damaged ones are replaced."""

import math
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from generation.curation.shards.packed_images import shrink
from generation.curation.shards.shard_files import read_shards
from generation.curation.shards.shard_format import ShardError
from generation.training.batches import EpochSampler
from generation.training.clip_sampling import ClipSample, SamplingConfig, Spacing, sample_clip
from generation.training.dataset import GridDataset, TrainingSample, composite_on_white
from generation.training.samples import Item
from recon.errors import InputError
from recon.grid import Camera, Grid, grid_from_views, orbit_camera, read_grid
from recon.grid.writing import write_posed_images
from tests.generation.curation.shards.tiny_packs import (
    SETTINGS,
    damage,
    pack,
    write_data,
    write_grid,
)

BOTH = SamplingConfig(views=2, frames=2, max_stride=2, random_reference=True, sizes=("low", "high"))
LOW = SamplingConfig(views=4, frames=2)
VARIED = replace(BOTH, views=3, augment=True)
AROUND_DEG = (10, 55, 100, 200, 290)  # azimuths of cameras at no two equal distances


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), count=6)


@pytest.fixture(scope="module")
def sound(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packs") / "shards"
    pack(data, folder)
    return folder


@pytest.fixture
def shards(data, tmp_path) -> Path:
    pack(data, tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture(scope="module")
def irregular(tmp_path_factory) -> tuple[Path, Grid]:
    """A pack of one grid whose cameras have arbitrary principal points, and the grid."""
    folder, rng = tmp_path_factory.mktemp("irregular"), np.random.default_rng(4)
    cameras = [
        replace(orbit_camera(azimuth, rng.uniform(-30, 60), 3.2, 33.8, 24, 24), cx=9 + v, cy=14 - v)
        for v, azimuth in enumerate(AROUND_DEG)
    ]
    grid = grid_from_views(cameras, rng.integers(0, 256, (5, 3, 24, 24, 4)).astype(np.uint8))
    (folder / "data" / "grid").mkdir(parents=True)
    write_posed_images(grid, folder / "data" / "grid")
    pack(folder / "data", folder / "shards")
    return folder / "shards", read_grid(folder / "data" / "grid")


def varied_samples(shards: Path, V: int) -> Iterator[tuple[TrainingSample, ClipSample]]:
    """Samples of the first grid with their `ClipSample`, covering all augmentations."""
    dataset, seen = GridDataset(shards, VARIED, seed=1), set()
    for epoch in range(60):
        choice = sample_clip(VARIED, V, 3, np.random.default_rng([1, epoch, 0]))
        seen.add((choice.mirrored, choice.frames[0] > choice.frames[1], choice.channels))
        yield dataset[Item(epoch, 0)], choice
    assert len(seen) == 2 * 2 * 6


def flat(sample: TrainingSample) -> dict[str, torch.Tensor]:
    """Return all tensors of a sample by name."""
    found = {}
    for name, value in sample._asdict().items():
        for size, part in (value if isinstance(value, dict) else {"": value}).items():
            if name != "name":
                found[name + size] = torch.as_tensor(part)
    return found


def assert_equal(found: TrainingSample, expected: TrainingSample) -> None:
    assert found.name == expected.name
    ours, theirs = flat(found), flat(expected)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


def batches(dataset: GridDataset, workers: int, start: str | None = None) -> list[TrainingSample]:
    sampler = EpochSampler(len(dataset), seed=3)
    loader = DataLoader(
        dataset, batch_size=2, sampler=sampler, num_workers=workers,
        multiprocessing_context=start, persistent_workers=workers > 0,
    )  # fmt: skip
    found = list(loader)
    sampler.set_epoch(1)
    return found + list(loader)


def test_the_images_are_those_of_the_chosen_views_and_frames(data, sound):
    dataset = GridDataset(sound, BOTH, seed=1)
    for number in range(len(dataset)):
        sample = dataset[Item(4, number)]
        grid = read_grid(data / sample.name)

        def image(view, frame, size, grid=grid) -> np.ndarray:
            small = shrink(grid.image(int(view), int(frame)), SETTINGS.sizes[size])
            return small.transpose(2, 0, 1)

        for size in BOTH.sizes:
            for v, view in enumerate(sample.views):
                np.testing.assert_array_equal(
                    sample.reference_views[size][v], image(view, sample.reference_frame, size)
                )
                for f, frame in enumerate(sample.frames):
                    np.testing.assert_array_equal(
                        sample.target[size][v, f], image(view, frame, size)
                    )
            for f, frame in enumerate(sample.frames):
                np.testing.assert_array_equal(
                    sample.reference_video[size][f], image(sample.reference_view, frame, size)
                )


def test_cameras_fit_the_images_of_each_size(data, sound):
    sample = GridDataset(sound, BOTH, seed=1)[2]
    grid = read_grid(data / sample.name)
    for v, view in enumerate(sample.views):
        camera = grid.cameras[int(view)]
        np.testing.assert_allclose(sample.T_world_camera[v], camera.T_world_camera, atol=1e-6)
        for size, pixels in SETTINGS.sizes.items():
            np.testing.assert_allclose(sample.K[size][v], camera.resized(pixels, pixels).K)


def test_azimuths_count_from_the_reference_view(sound):
    dataset = GridDataset(sound, BOTH, seed=1)
    references = set()
    for number in range(len(dataset)):
        sample = dataset[number]
        references.add(sample.reference_view)
        steps = (sample.views - sample.reference_view) % 4
        torch.testing.assert_close(sample.azimuth_rad, steps * (math.pi / 2))
        torch.testing.assert_close(sample.elevation_rad, torch.full((2,), math.radians(10)))
    assert len(references) > 1


def test_augmented_images_are_mirrored_and_have_permuted_colors(irregular):
    shards, grid = irregular
    for sample, choice in varied_samples(shards, 5):
        assert sample.reference_view == choice.reference_view
        assert sample.reference_frame == choice.reference_frame
        assert tuple(sample.views.tolist()) == choice.views
        assert tuple(sample.frames.tolist()) == choice.frames
        for size in VARIED.sizes:

            def image(view, frame, choice=choice, size=size) -> np.ndarray:
                small = shrink(grid.image(view, frame), SETTINGS.sizes[size])
                shown = np.fliplr(small) if choice.mirrored else small
                return np.stack(
                    [*(shown[..., channel] for channel in choice.channels), shown[..., 3]]
                )

            target = [[image(view, frame) for frame in choice.frames] for view in choice.views]
            views = [image(view, choice.reference_frame) for view in choice.views]
            video = [image(choice.reference_view, frame) for frame in choice.frames]
            np.testing.assert_array_equal(sample.target[size], target)
            np.testing.assert_array_equal(sample.reference_views[size], views)
            np.testing.assert_array_equal(sample.reference_video[size], video)


def test_white_stays_white_under_permuted_colors(sound):
    for sample, _ in varied_samples(sound, 4):
        target = sample.target["high"]
        nothing = target[:, :, 3] == 0
        assert nothing.any()
        assert (target.movedim(2, -1)[nothing][:, :3] == 255).all()
        assert (composite_on_white(target).rgb.movedim(2, -1)[nothing] == 1).all()


def test_mirrored_azimuths_ascend_from_the_reference_view(irregular):
    for sample, choice in varied_samples(irregular[0], 5):
        own = AROUND_DEG[choice.reference_view]
        around = -1 if choice.mirrored else 1
        expected = [around * (AROUND_DEG[view] - own) % 360 for view in choice.views]
        np.testing.assert_allclose(np.degrees(sample.azimuth_rad), expected, atol=1e-4)
        assert (sample.azimuth_rad.diff() > 0).all()


def test_mirroring_keeps_elevations_and_the_reference_camera(irregular):
    shards, grid = irregular
    for sample, choice in varied_samples(shards, 5):
        heights = [grid.cameras[view].position[2] / 3.2 for view in choice.views]
        np.testing.assert_allclose(sample.elevation_rad, np.arcsin(heights), atol=1e-5)
        for pose, view in zip(sample.T_world_camera, choice.views, strict=True):
            if view == choice.reference_view:
                np.testing.assert_allclose(pose, grid.cameras[view].T_world_camera, atol=1e-6)


def test_mirrored_cameras_are_rigid_and_look_at_the_same_point(irregular):
    for sample, _ in varied_samples(irregular[0], 5):
        axes, position = sample.T_world_camera[:, :3, :3], sample.T_world_camera[:, :3, 3]
        torch.testing.assert_close(axes.mT @ axes, torch.eye(3).expand(3, 3, 3))
        torch.testing.assert_close(torch.linalg.det(axes), torch.ones(3))
        torch.testing.assert_close(position, 3.2 * axes[:, :, 2])  # as the grid's, to the origin


def test_mirrored_cameras_see_the_mirrored_world_where_the_flipped_images_show_it(irregular):
    shards, grid = irregular
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    for sample, choice in varied_samples(shards, 5):
        world = (
            in_mirror(points, grid.cameras[choice.reference_view]) if choice.mirrored else points
        )
        for size, S in SETTINGS.sizes.items():
            for v, view in enumerate(choice.views):
                camera = grid.cameras[view].resized(S, S)
                expected = projected(points, camera.T_world_camera, camera.K)
                if choice.mirrored:
                    expected[:, 0] = S - expected[:, 0]
                found = projected(
                    world, sample.T_world_camera[v].numpy(), sample.K[size][v].numpy()
                )
                np.testing.assert_allclose(found, expected, atol=1e-4)


def in_mirror(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Mirror points at the vertical plane through the origin and a camera, [N, 3]."""
    front = camera.position[:2] / np.linalg.norm(camera.position[:2])
    across = np.array([-front[1], front[0]])
    flat = (points[:, :2] @ front)[:, None] * front - (points[:, :2] @ across)[:, None] * across
    return np.column_stack([flat, points[:, 2]])


def projected(points: np.ndarray, pose: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Project world points to pixels (x, y), [N, 2]."""
    right, down, ahead = pose[:3, 0], -pose[:3, 1], -pose[:3, 2]
    offset = points - pose[:3, 3]
    depth = offset @ ahead
    assert (depth > 0).all()
    return np.column_stack(
        [
            K[0, 0] * (offset @ right) / depth + K[0, 2],
            K[1, 1] * (offset @ down) / depth + K[1, 2],
        ]
    )


def test_only_the_configured_sizes_are_decoded(shards):
    opened = read_shards(shards)
    for number, entry in enumerate(opened.index.samples):
        with opened.open_sample(number) as reader:
            places = [reader.sample.image("high", *np.divmod(i, 3)) for i in range(12)]
        for place in places:
            damage(shards / opened.index.shards[entry.shard].file, place.offset + 20)
    assert GridDataset(shards, LOW)[0].target.keys() == {"low"}
    with pytest.raises(ShardError, match=r"\.high\."):
        GridDataset(shards, BOTH)[0]


def test_epochs_differ_and_are_reproducible(sound):
    dataset = GridDataset(sound, BOTH, seed=1)
    assert_equal(dataset[Item(1, 3)], dataset[Item(1, 3)])
    seen = {tuple(dataset[Item(e, 3)].views.tolist()) for e in range(12)}
    assert len(seen) > 3
    assert_equal(dataset[3], dataset[Item(0, 3)])


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_persistent_workers_change_nothing(sound, start):
    dataset = GridDataset(sound, BOTH, seed=1)
    expected = batches(dataset, workers=0)
    found = batches(dataset, 2, start)
    assert len(found) == len(expected) == 6
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs)


def test_batches_are_single_samples_side_by_side(sound):
    dataset = GridDataset(sound, BOTH, seed=1)
    order = list(EpochSampler(len(dataset), seed=3))
    first = batches(dataset, workers=0)[0]
    assert list(first.name) == [dataset[item].name for item in order[:2]]
    for part, item in enumerate(order[:2]):
        for name, tensor in flat(dataset[item]).items():
            torch.testing.assert_close(flat(first)[name][part], tensor, rtol=0, atol=0)


def test_a_pickled_data_set_gives_the_same_samples(sound):
    dataset = GridDataset(sound, BOTH, seed=1)
    dataset[0]
    assert_equal(pickle.loads(pickle.dumps(dataset))[5], dataset[5])


def test_damaged_samples_are_errors_or_replaced(shards):
    opened = read_shards(shards)
    damage(shards / opened.index.shards[0].file, opened.index.samples[2].json.offset)
    with pytest.raises(ShardError, match=r"\.json is damaged"):
        GridDataset(shards, LOW)[2]
    dataset = GridDataset(shards, LOW, on_error="skip")
    sample = dataset[2]
    assert sample.replaced == 1
    assert sample.name != opened.index.samples[2].name
    assert_equal(dataset[2], sample)
    assert len({dataset[Item(epoch, 2)].name for epoch in range(12)}) > 2
    assert dataset[1].replaced == 0
    loader = DataLoader(dataset, batch_size=3, sampler=EpochSampler(len(dataset)))
    assert sum(int(batch.replaced.sum()) for batch in loader) == 1


def test_only_damaged_samples_are_an_error(shards):
    (shards / "shard-000000.tar").write_bytes(b"")
    with pytest.raises(ShardError, match=r"grid\d\.json"):
        GridDataset(shards, LOW, on_error="skip")[0]


def test_a_shard_that_vanishes_later_is_an_error(shards):
    dataset = GridDataset(shards, LOW)
    (shards / "shard-000000.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000000\.tar: cannot be read"):
        dataset[0]


@pytest.mark.parametrize(
    ("sampling", "sentence"),
    [
        (SamplingConfig(views=5, frames=2), "at least 5 views × 2 frames, found 4 × 3"),
        (SamplingConfig(views=4, frames=4), "at least 4 views × 4 frames"),
        (SamplingConfig(views=4, frames=3, spacing=Spacing.ANCHORS), "at least 4 views × 4 frames"),
        (SamplingConfig(views=4, frames=3, spacing=Spacing.MIXED), "at least 4 views × 4 frames"),
        (SamplingConfig(views=4, frames=2, sizes=("huge",)), "'huge', found only low, high"),
    ],
)
def test_grids_that_are_too_small_are_refused_when_opened(sound, sampling, sentence):
    with pytest.raises(InputError, match=sentence):
        GridDataset(sound, sampling)


def test_a_folder_that_is_named_twice_is_sampled_twice(sound, tmp_path):
    other = tmp_path / "shards"
    pack(write_data(tmp_path / "data", count=2), other)
    both = GridDataset([other, sound, sound], BOTH, seed=1)
    assert len(both) == 14
    alone = GridDataset(sound, BOTH, seed=1).names
    assert both.names == [*GridDataset(other, BOTH).names, *alone, *alone]
    assert [both[number].name for number in range(14)] == both.names
    assert_equal(both[1], GridDataset([other], BOTH, seed=1)[1])
    assert both.folders == [other, sound, sound]


def test_packs_with_images_of_other_sizes_cannot_be_mixed(sound, tmp_path):
    other = tmp_path / "shards"
    pack(write_data(tmp_path / "data", count=1), other, replace(SETTINGS, low=12))
    with pytest.raises(InputError, match="found 12²"):
        GridDataset([sound, other], LOW)


def test_grids_of_other_lengths_share_batches_when_all_have_enough(tmp_path):
    data = write_data(tmp_path / "data", count=1)
    write_grid(data, "longer", V=7, T=5)
    pack(data, tmp_path / "shards")
    dataset = GridDataset(tmp_path / "shards", SamplingConfig(views=3, frames=3))
    (batch,) = DataLoader(dataset, batch_size=2)
    assert batch.target["low"].shape == (2, 3, 3, 4, 8, 8)


def test_indices_out_of_range_raise_index_errors(sound):
    dataset = GridDataset(sound, LOW)
    assert [dataset[number].name for number in range(6)] == dataset.names
    for number in (6, -1):
        with pytest.raises(IndexError):
            dataset[number]


def test_compositing_agrees_with_the_grid(tiny_grid):
    images = torch.from_numpy(tiny_grid.images).permute(0, 3, 1, 2)
    colors = composite_on_white(images)
    expected = torch.from_numpy(tiny_grid.over()).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(colors.rgb, expected, rtol=0, atol=0.51 / 127.5)
    torch.testing.assert_close(colors.mask[:, 0], images[:, 3] / 255)
    assert colors.rgb.max() <= 1
    assert colors.rgb.min() >= -1
