"""Training samples from shards: some views and frames of a grid, with what the networks are told.

    (epoch, number) ──▶ choice of views and frames ──▶ images from the shard ──▶ tensors

A sample depends on seed, epoch and number alone: not on workers, batches or what came before.
Letters: V views, F frames, S pixels on a side. Images are RGBA with straight alpha as uint8, a
quarter of the bytes of floats on their way between processes and to the GPU; there `over_white`
makes of them what the networks see. What it does not know: how shards are written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from generation.curation.shards.shard_files import SampleReader, ShardFolder, read_shards
from generation.curation.shards.shard_format import ShardError
from generation.training.epoch_order import Item
from generation.training.training_choice import COARSE, Choice, Selection, choose
from recon.errors import InputError
from recon.grid.cameras import Camera, viewing_angles_deg

MAX_REPLACEMENTS = 32  # a pack with so many damaged samples in a row is not worth training on

_log = logging.getLogger(__name__)


class TrainingSample(NamedTuple):
    """What one training step sees of one grid; the default collation makes batches of it.

    Images are uint8 RGBA under their size, "low" or "high". View v and frame f of `target` are
    those that `views` and `frames` number.

    Attributes:
        name: of the grid.
        reference_view: number of the view that is known at all times.
        reference_frame: number of the frame that is known from all views.
        views: numbers of the views, int64, [V].
        frames: numbers of the frames, int64, [F].
        azimuth_rad: of the views, relative to the reference view, counter-clockwise seen from
            above, in [0, 2π), float32, [V].
        elevation_rad: of the views above the horizon, float32, [V].
        T_world_camera: camera-to-world of the views, OpenGL axes, float32, [V, 4, 4].
        K: intrinsics of the views in pixels, by size, float32, [V, 3, 3].
        reference_video: the reference view at the frames, [F, 4, S, S].
        reference_views: the views at the reference frame, [V, 4, S, S].
        reference_image: the reference view at the reference frame, [4, S, S].
        target: the views at the frames, [V, F, 4, S, S].
        replaced: how many damaged samples were passed over before this one, which then is not the
            one that was asked for.
    """

    name: str
    reference_view: int
    reference_frame: int
    views: Tensor
    frames: Tensor
    azimuth_rad: Tensor
    elevation_rad: Tensor
    T_world_camera: Tensor
    K: dict[str, Tensor]
    reference_video: dict[str, Tensor]
    reference_views: dict[str, Tensor]
    reference_image: dict[str, Tensor]
    target: dict[str, Tensor]
    replaced: int


class Colours(NamedTuple):
    """Images as networks see them.

    Attributes:
        rgb: over white, in [-1, 1], [..., 3, S, S].
        mask: alpha, in [0, 1], [..., 1, S, S].
    """

    rgb: Tensor
    mask: Tensor


def over_white(images: Tensor, dtype: torch.dtype = torch.float32) -> Colours:
    """Images of a training sample over white, on their device.

    Args:
        images: uint8 RGBA with straight alpha, [..., 4, S, S].
        dtype: of the result.
    """
    scaled = images.to(torch.float32)
    mask = scaled[..., 3:, :, :] / 255
    rgb = 1 + mask * (scaled[..., :3, :, :] / 127.5 - 2)  # 1 + mask · (colour − white)
    return Colours(rgb.to(dtype), mask.to(dtype))


class GridDataset(Dataset[TrainingSample]):
    """The samples of folders of shards; see `EpochSampler` for their order.

    Only the index is in memory. Nothing is open between two items, so that copies in other
    processes, forked or spawned, do not get into each other's way.
    """

    def __init__(
        self,
        folders: str | Path | Sequence[str | Path],
        selection: Selection = COARSE,
        seed: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
    ):
        """Opens what `fourdvd data pack` has made.

        Args:
            folders: of shards; the samples of one that is named twice are there twice.
            selection: what is chosen from each grid.
            seed: of all choices.
            on_error: what a damaged sample does: raise ShardError, or give way to another one.

        Raises:
            ShardError: there are no shards, the index is not valid, or a shard is missing.
            InputError: the selection asks for a size that was not packed, or for more views or
                frames than a grid has; or folders have a size in different numbers of pixels.
        """
        single = isinstance(folders, str | Path)
        self._packs = [read_shards(folder) for folder in ([folders] if single else folders)]
        self._places = [
            (pack, number) for pack in self._packs for number in range(len(pack.index.samples))
        ]
        self._selection, self._seed, self._on_error = selection, seed, on_error
        self._check_selection()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def folders(self) -> list[Path]:
        """Of shards, as they were named."""
        return [pack.path for pack in self._packs]

    @property
    def names(self) -> list[str]:
        """Of the grids, by number."""
        return [pack.index.samples[number].name for pack, number in self._places]

    def __getitem__(self, item: Item | int) -> TrainingSample:
        """A sample of an epoch; by its number alone, that of epoch 0.

        Raises:
            IndexError: there is no sample of this number.
            ShardError: it is damaged; with `on_error="skip"`, so are many others.
        """
        item = item if isinstance(item, Item) else Item(0, item)
        if not 0 <= item.number < len(self):
            raise IndexError(f"sample {item.number} of {len(self)}")
        try:
            return self._sample(item.number, item)
        except ShardError as error:
            if self._on_error == "raise":
                raise
            return self._replacement(item, error)

    def _replacement(self, item: Item, error: ShardError) -> TrainingSample:
        """The first sound one of the other samples, in an order that depends on the item alone."""
        rng = np.random.default_rng([self._seed, *item, 1])
        others = [number for number in rng.permutation(len(self)).tolist() if number != item.number]
        for replaced, number in enumerate(others[:MAX_REPLACEMENTS], start=1):
            _log.warning("a sample is passed over: %s", error)
            try:
                return self._sample(number, item, replaced)
            except ShardError as another:
                error = another
        raise error

    def _sample(self, number: int, asked: Item, replaced: int = 0) -> TrainingSample:
        pack, place = self._places[number]
        entry, sizes = pack.index.samples[place], pack.index.sizes
        rng = np.random.default_rng([self._seed, *asked])
        choice = choose(self._selection, entry.views, entry.frames, rng)
        with pack.open_sample(place) as reader:
            images = {size: _read_images(reader, size, choice) for size in self._selection.sizes}
            return _with_cameras(reader, choice, images, sizes, replaced)

    def _check_selection(self) -> None:
        first = self._packs[0].index.sizes
        for pack in self._packs:
            _check_pack(pack, self._selection)
            for size in self._selection.sizes:
                if pack.index.sizes[size] != first[size]:
                    raise InputError(
                        f"its {size!r} images have {pack.index.sizes[size]}² pixels, those of "
                        f"{self._packs[0].path} have {first[size]}²; pack them alike",
                        pack.path,
                    )


def _check_pack(pack: ShardFolder, selection: Selection) -> None:
    for size in selection.sizes:
        if size not in pack.index.sizes:
            raise InputError(
                f"no images of size {size!r} are packed, only {', '.join(pack.index.sizes)}",
                pack.path,
            )
    for sample in pack.index.samples:
        if sample.views < selection.views or sample.frames < selection.needed_frames:
            raise InputError(
                f"{sample.name} has {sample.views} views × {sample.frames} frames, fewer than "
                f"the {selection.views} × {selection.needed_frames} that are asked for; "
                "leave it out when packing, or choose fewer",
                pack.path,
            )


class _Images(NamedTuple):
    """Those of a choice at one size, uint8, as in `TrainingSample`."""

    reference_video: Tensor
    reference_views: Tensor
    reference_image: Tensor
    target: Tensor


def _read_images(reader: SampleReader, size: str, choice: Choice) -> _Images:
    """Decodes each image once, however often a choice shows it."""
    seen: dict[tuple[int, int], np.ndarray] = {}

    def image(view: int, frame: int) -> np.ndarray:
        if (view, frame) not in seen:
            seen[view, frame] = reader.image(size, view, frame)
        return seen[view, frame]

    video = [image(choice.reference_view, frame) for frame in choice.frames]
    views = [image(view, choice.reference_frame) for view in choice.views]
    own = [image(choice.reference_view, choice.reference_frame)]
    target = [image(view, frame) for view in choice.views for frame in choice.frames]
    V, F = len(choice.views), len(choice.frames)

    def tensor(images: list[np.ndarray]) -> Tensor:
        """[n, 4, S, S] of n images [S, S, 4]."""
        shown = np.stack(images)[..., [*choice.channels, 3]].transpose(0, 3, 1, 2)
        return torch.from_numpy((shown[..., ::-1] if choice.mirrored else shown).copy())

    grid = tensor(target).unflatten(0, (V, F))
    return _Images(tensor(video), tensor(views), tensor(own)[0], grid)


def _with_cameras(
    reader: SampleReader,
    choice: Choice,
    images: dict[str, _Images],
    sizes: Mapping[str, int],
    replaced: int,
) -> TrainingSample:
    own = reader.sample.cameras[choice.reference_view]
    front_deg, _ = viewing_angles_deg(own)
    cameras = [reader.sample.cameras[view] for view in choice.views]
    if choice.mirrored:
        cameras = [_mirrored(camera, front_deg) for camera in cameras]
    angles_deg = [viewing_angles_deg(camera) for camera in cameras]
    return TrainingSample(
        name=reader.sample.name,
        reference_view=choice.reference_view,
        reference_frame=choice.reference_frame,
        views=torch.tensor(choice.views),
        frames=torch.tensor(choice.frames),
        azimuth_rad=_float32([math.radians((az - front_deg) % 360) for az, _ in angles_deg]),
        elevation_rad=_float32([math.radians(elevation) for _, elevation in angles_deg]),
        T_world_camera=_float32([camera.T_world_camera for camera in cameras]),
        K={
            size: _float32([camera.resized(sizes[size], sizes[size]).K for camera in cameras])
            for size in images
        },
        reference_video={size: each.reference_video for size, each in images.items()},
        reference_views={size: each.reference_views for size, each in images.items()},
        reference_image={size: each.reference_image for size, each in images.items()},
        target={size: each.target for size, each in images.items()},
        replaced=replaced,
    )


def _mirrored(camera: Camera, azimuth_deg: float) -> Camera:
    """What sees the world's mirror image as a mirror image, the mirror being upright at an azimuth.

    The mirror turns the camera's own axes left-handed; the image turned about gives them back.
    """
    across = np.radians(azimuth_deg)  # the direction that changes its sign
    normal = np.array([np.cos(across), np.sin(across), 0.0])
    mirror = np.eye(4)
    mirror[:3, :3] -= 2 * np.outer(normal, normal)
    pose = mirror @ camera.T_world_camera @ np.diag([-1.0, 1, 1, 1])
    return replace(camera, T_world_camera=pose, cx=camera.width - camera.cx)


def _float32(values: list) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
