"""Samples of `lift` that are drawn while training, from folders of baked assets.

    (epoch, number) ──▶ asset, frame, camera, light ──▶ image and layers, and their mirror images

A sample depends only on seed, epoch and number. Its mirror image costs no rendering, so the two are
one item of the data set. Held-out samples show other assets than those for training.

Letters: B samples, S pixels on a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from generation.curation.manifest import MANIFEST_NAME, Row, Status, read_rows
from generation.curation.render.baked_asset import BakedAsset, read_baked, with_shared_textures
from generation.curation.render.baking import CLIP_FILES
from generation.surface_layers import FIRST_EXIT
from generation.training.lift_samples import LiftSample, LiftSampling, draw_sample, mirrored
from generation.training.samples import Item
from recon.errors import InputError
from recon.native.library import kernels

HELD_OUT_SHARE = 0.1  # of the assets, if no patterns name them


class LiftBatch(NamedTuple):
    """Samples of `lift`, see `lift_samples.LiftSample`.

    Attributes:
        name: names of the assets.
        image: sRGB with straight alpha, uint8, [B, 4, S, S].
        elevation: elevation of the camera in radians, [B].
        depth: depths of the layers minus the camera's distance, [B, 4, S, S].
        gap: whether the ray meets two parts, bool, [B, S, S].
        color: sRGB of first exit, last entry and back, uint8, [B, 3, 3, S, S].
        mask: whether the ray meets the object, bool, [B, S, S].
        yaw: yaw in radians, NaN for assets without a front, [B].
        replaced: number of damaged samples that were replaced: none, [B].
    """

    name: list[str]
    image: Tensor
    elevation: Tensor
    depth: Tensor
    gap: Tensor
    color: Tensor
    mask: Tensor
    yaw: Tensor
    replaced: Tensor


class ClipsOfAsset(NamedTuple):
    """The baked clips of an asset.

    Attributes:
        label: its file without the ending, with the name of its folder: "FOLDER/NAME".
        is_figure: whether it is a procedurally generated character.
        clips: the clips, at least one.
        has_front: whether it has a front, from which its yaw is measured.
    """

    label: str
    is_figure: bool
    clips: tuple[BakedAsset, ...]
    has_front: bool = True


class LiftDataset(Dataset[LiftBatch]):
    """Drawn samples of baked assets, which are all in memory; a `samples.SampleSet`.

    Its workers should be forked, so that they share this memory.
    """

    samples_per_item = 2

    def __init__(
        self,
        folders: Sequence[str | Path],
        sampling: LiftSampling,
        *,
        items: int,
        held_out: int,
        held_out_assets: Sequence[str] = (),
        frontless_assets: Sequence[str] = (),
        figure_share: float = 0.2,
        seed: int = 0,
    ):
        """Read folders that `fourdvd data bake` wrote.

        Args:
            folders: the folders; the assets of one that is listed twice are drawn twice as often.
            sampling: ranges of the random numbers.
            items: number of pairs of samples in an epoch.
            held_out: number of held-out samples.
            held_out_assets: glob patterns of the names or labels of the held-out assets; if empty,
                the last tenth of the labels.
            frontless_assets: glob patterns of the assets without a front, such as vases; they may
                match none.
            figure_share: share of procedurally generated characters, if there are other assets.
            seed: seed of the samples.

        Raises:
            InputError: a folder holds no baked assets, a pattern matches none, or none is left.
        """
        self.folders = [Path(folder) for folder in folders]
        read = {folder: read_baked_assets(folder) for folder in dict.fromkeys(self.folders)}
        assets = [asset for folder in self.folders for asset in read[folder]]
        assets = [a._replace(has_front=not _matches(a.label, frontless_assets)) for a in assets]
        held = _held_out_labels(assets, held_out_assets)
        self.held_out_assets = list({a.label: a for a in assets if a.label in held}.values())
        left = [asset for asset in assets if asset.label not in held]
        if not left:
            raise InputError(
                f"expected assets besides the held-out ones, found only {', '.join(sorted(held))}",
                self.folders[0],
            )
        self.assets = [asset for asset in left if not asset.is_figure]
        self.figures = [asset for asset in left if asset.is_figure]
        self._sampling, self._seed, self._figure_share = sampling, seed, figure_share
        self._items, self._held_out = items, held_out
        kernels().set_threads(1)  # a forked worker has no threads of the native library

    def __len__(self) -> int:
        return self._items + self._held_out

    def __getitem__(self, item: Item) -> LiftBatch:
        """Draw a sample and its mirror image, or a held-out sample alone.

        Raises:
            IndexError: the number is out of range.
        """
        if not 0 <= item.number < len(self):
            raise IndexError(f"expected a number below {len(self)}, found {item.number}")
        rng = np.random.default_rng([self._seed, *item])
        if item.number >= self._items:
            held = self.held_out_assets
            asset = held[(item.number - self._items) % len(held)]
            return _batch(asset.label, [self._draw(asset, rng)])
        asset = self._draw_asset(rng)
        sample = self._draw(asset, rng)
        return _batch(asset.label, [sample, mirrored(sample)])

    def collate(self, items: Sequence[LiftBatch]) -> LiftBatch:
        """Join items to a batch."""
        name, *tensors = zip(*items, strict=True)
        return LiftBatch([each for names in name for each in names], *map(torch.cat, tensors))

    def _draw(self, asset: ClipsOfAsset, rng: np.random.Generator) -> LiftSample:
        return draw_sample(asset.clips, self._sampling, rng, has_front=asset.has_front)

    def _draw_asset(self, rng: np.random.Generator) -> ClipsOfAsset:
        wants_figure = rng.uniform() < self._figure_share
        pool = self.figures if (self.figures and wants_figure) or not self.assets else self.assets
        return pool[rng.integers(len(pool))]


def read_baked_assets(folder: Path) -> list[ClipsOfAsset]:
    """Read all assets of a folder that `fourdvd data bake` wrote, in the order of their labels.

    Raises:
        InputError: the folder holds none, or one is damaged.
    """
    rows = read_rows(folder / MANIFEST_NAME).values()
    found = [row for row in rows if row.status is Status.BAKED and (folder / row.name).is_dir()]
    if not found:
        raise InputError(
            f"expected baked assets, found no {MANIFEST_NAME} that lists one; write them with "
            "`fourdvd data bake`",
            folder,
        )
    return sorted((_read_asset(folder / row.name, row) for row in found), key=lambda a: a.label)


def _read_asset(folder: Path, row: Row) -> ClipsOfAsset:
    paths = sorted(folder.glob(CLIP_FILES))
    if len(paths) != len(row.facts.get("baked", ())):
        raise InputError(
            f"expected {len(row.facts.get('baked', ()))} files {CLIP_FILES}, found {len(paths)}; "
            "delete the folder and bake it again",
            folder,
        )
    try:
        clips = with_shared_textures([read_baked(path) for path in paths])
    except (OSError, BadZipFile, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"a baked clip is damaged ({error}); delete the folder and bake it again", folder
        ) from error
    asset = Path(row.asset)
    label = f"{asset.parent.name}/{asset.stem}" if asset.parent.name else row.name
    return ClipsOfAsset(label, row.asset == row.name, tuple(clips))


def _held_out_labels(assets: Sequence[ClipsOfAsset], patterns: Sequence[str]) -> set[str]:
    labels = sorted({asset.label for asset in assets})
    if not patterns:
        pool = sorted({asset.label for asset in assets if not asset.is_figure}) or labels
        return set(pool[-max(1, round(HELD_OUT_SHARE * len(pool))) :])
    held: set[str] = set()
    for pattern in patterns:
        matched = {label for label in labels if _matches(label, [pattern])}
        if not matched:
            raise InputError(
                f"expected held_out_assets to match baked assets, but {pattern!r} matches none of "
                f"{len(labels)}, such as {labels[0]!r}"
            )
        held |= matched
    return held


def _matches(label: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern matches the label, or its name without the folder."""
    name = label.rpartition("/")[2]
    return any(fnmatchcase(label, each) or fnmatchcase(name, each) for each in patterns)


def _batch(name: str, samples: Sequence[LiftSample]) -> LiftBatch:
    def stack(arrays: Sequence[np.ndarray | np.float32]) -> Tensor:
        return torch.from_numpy(np.stack(arrays))

    return LiftBatch(
        [name] * len(samples),
        stack([sample.image.transpose(2, 0, 1) for sample in samples]),
        stack([sample.elevation for sample in samples]),
        stack([sample.depth for sample in samples]),
        stack([sample.gap for sample in samples]),
        stack([sample.color[FIRST_EXIT:].transpose(0, 3, 1, 2) for sample in samples]),
        stack([sample.mask for sample in samples]),
        stack([sample.yaw for sample in samples]),
        torch.zeros(len(samples), dtype=torch.int64),
    )
