"""Training samples from shards: some views and frames of a grid with their cameras.

    (epoch, number) ──▶ views and frames ──▶ images from the shard ──▶ tensors

A sample depends only on seed, epoch and number, not on workers, batches or earlier samples. Images
stay uint8 RGBA with straight alpha on their way between processes and to the GPU, a quarter of the
bytes of float32; there `composite_on_white` converts them to the networks' input.

Letters: V views, F frames, S pixels on a side.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from generation.curation.shards.shard_files import SampleReader, ShardFolder, read_shards
from generation.curation.shards.shard_format import ShardError
from generation.training.clip_sampling import COARSE, ClipSample, SamplingConfig, sample_clip
from generation.training.config import EngineConfig
from generation.training.samples import Item
from recon.errors import InputError
from recon.grid.cameras import Camera, viewing_angles_deg

MAX_REPLACEMENTS = 32  # consecutive damaged samples after which training stops

_log = logging.getLogger(__name__)


class TrainingSample(NamedTuple):
    """Images and cameras of one training sample; `default_collate` makes batches of them.

    Images are uint8 RGBA by size, "low" or "high".

    Attributes:
        name: name of the grid.
        reference_view: index of the input view, which is given at all times.
        reference_frame: index of the frame whose views are the reference views.
        views: indices of the views, int64, [V].
        frames: indices of the frames, int64, [F].
        azimuth_rad: azimuths of the views relative to the reference view, counter-clockwise seen
            from above, in [0, 2π), float32, [V].
        elevation_rad: elevations of the views above the horizon, float32, [V].
        T_world_camera: camera-to-world matrices of the views, OpenGL axes, float32, [V, 4, 4].
        K: intrinsics of the views in pixels, by size, float32, [V, 3, 3].
        reference_video: the reference view at the frames, [F, 4, S, S].
        reference_views: the views at the reference frame, [V, 4, S, S].
        reference_image: the reference view at the reference frame, [4, S, S].
        target: the views at the frames, [V, F, 4, S, S].
        replaced: number of damaged samples that were skipped for this one.
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


class Composite(NamedTuple):
    """Images composited on white for the networks.

    Attributes:
        rgb: colors on white, in [−1, 1], [..., 3, S, S].
        mask: alpha, in [0, 1], [..., 1, S, S].
    """

    rgb: Tensor
    mask: Tensor


def composite_on_white(images: Tensor, dtype: torch.dtype = torch.float32) -> Composite:
    """Composite images of a training sample on white, on their device.

    Args:
        images: uint8 RGBA with straight alpha, [..., 4, S, S].
        dtype: floating-point type of the result.
    """
    scaled = images.to(torch.float32)
    mask = scaled[..., 3:, :, :] / 255
    rgb = 1 + mask * (scaled[..., :3, :, :] / 127.5 - 2)  # 1 + mask · (color − white)
    return Composite(rgb.to(dtype), mask.to(dtype))


def mean_psnr(found: Tensor, expected: Tensor) -> float:
    """Compute the mean PSNR of images in [−1, 1], [N, 3, S, S], in dB."""
    error = ((found - expected) / 2).square().mean((1, 2, 3))
    return float(-10 * error.clamp_min(1e-10).log10().mean())


class GridDataset(Dataset[TrainingSample]):
    """The samples of folders of shards.

    Only the index is in memory. No file stays open between items, so that copies in forked or
    spawned processes do not interfere. A `generation.training.samples.SampleSet`.
    """

    samples_per_item = 1

    def __init__(
        self,
        folders: str | Path | Sequence[str | Path],
        sampling: SamplingConfig = COARSE,
        seed: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
    ):
        """Open folders written by `fourdvd data pack`.

        Args:
            folders: folders of shards; a folder that is listed twice is sampled twice as often.
            sampling: views and frames to sample from each grid.
            seed: seed of the sampling.
            on_error: "raise" raises ShardError for a damaged sample, "skip" replaces it.

        Raises:
            ShardError: there are no shards, the index is invalid, or a shard is missing.
            InputError: an image size was not packed, a grid has too few views or frames, or the
                folders' image sizes differ.
        """
        single = isinstance(folders, str | Path)
        self._packs = [read_shards(folder) for folder in ([folders] if single else folders)]
        self._places = [
            (pack, number) for pack in self._packs for number in range(len(pack.index.samples))
        ]
        self._sampling, self._seed, self._on_error = sampling, seed, on_error
        self._check_sampling()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def folders(self) -> list[Path]:
        """The folders of shards, as given."""
        return [pack.path for pack in self._packs]

    @property
    def names(self) -> list[str]:
        """Names of the grids."""
        return [pack.index.samples[number].name for pack, number in self._places]

    def __getitem__(self, item: Item | int) -> TrainingSample:
        """Read a sample of an epoch, or of epoch 0 if only its number is given.

        Raises:
            IndexError: the number is out of range.
            ShardError: the sample is damaged; with `on_error="skip"`, `MAX_REPLACEMENTS` others are
                damaged, too.
        """
        item = item if isinstance(item, Item) else Item(0, item)
        if not 0 <= item.number < len(self):
            raise IndexError(f"expected a sample number below {len(self)}, found {item.number}")
        try:
            return self._sample(item.number, item)
        except ShardError as error:
            if self._on_error == "raise":
                raise
            return self._replacement(item, error)

    def collate(self, items: Sequence[TrainingSample]) -> TrainingSample:
        """Join samples to a batch."""
        return cast("TrainingSample", default_collate(list(items)))

    def _replacement(self, item: Item, error: ShardError) -> TrainingSample:
        """Read the first intact one of the other samples, in random order seeded by the item."""
        rng = np.random.default_rng([self._seed, *item, 1])
        others = [number for number in rng.permutation(len(self)).tolist() if number != item.number]
        for replaced, number in enumerate(others[:MAX_REPLACEMENTS], start=1):
            _log.warning("skipped a damaged sample: %s", error)
            try:
                return self._sample(number, item, replaced)
            except ShardError as another:
                error = another
        raise error

    def _sample(self, number: int, seed: Item, replaced: int = 0) -> TrainingSample:
        pack, place = self._places[number]
        entry, sizes = pack.index.samples[place], pack.index.sizes
        rng = np.random.default_rng([self._seed, *seed])
        clip = sample_clip(self._sampling, entry.views, entry.frames, rng)
        with pack.open_sample(place) as reader:
            images = {size: _read_images(reader, size, clip) for size in self._sampling.sizes}
            return _with_cameras(reader, clip, images, sizes, replaced)

    def _check_sampling(self) -> None:
        first = self._packs[0].index.sizes
        for pack in self._packs:
            _check_pack(pack, self._sampling)
            for size in self._sampling.sizes:
                if pack.index.sizes[size] != first[size]:
                    raise InputError(
                        f"expected {size!r} images of {first[size]}² pixels as in "
                        f"{self._packs[0].path}, found {pack.index.sizes[size]}²; pack all folders "
                        "with the same sizes",
                        pack.path,
                    )


def _check_pack(pack: ShardFolder, sampling: SamplingConfig) -> None:
    for size in sampling.sizes:
        if size not in pack.index.sizes:
            raise InputError(
                f"expected images of size {size!r}, found only {', '.join(pack.index.sizes)}",
                pack.path,
            )
    for sample in pack.index.samples:
        if sample.views < sampling.views or sample.frames < sampling.needed_frames:
            raise InputError(
                f"expected at least {sampling.views} views × {sampling.needed_frames} frames, "
                f"found {sample.views} × {sample.frames} of {sample.name}; pack without it, or "
                "sample fewer",
                pack.path,
            )


class GridStage:
    """Base class of the stages that train on grids.

    Attributes:
        sampling: views and frames to sample from each grid.
    """

    sampling: SamplingConfig

    def dataset(self, folders: Sequence[str | Path], config: EngineConfig) -> GridDataset:
        """Open folders of shards; see `Stage.dataset`."""
        return GridDataset(folders, self.sampling, config.seed, config.on_error)


class _Images(NamedTuple):
    """The images of a sample at one size, uint8, as in `TrainingSample`."""

    reference_video: Tensor
    reference_views: Tensor
    reference_image: Tensor
    target: Tensor


def _read_images(reader: SampleReader, size: str, clip: ClipSample) -> _Images:
    """Read the images of a sample; each one is decoded only once."""
    decoded: dict[tuple[int, int], np.ndarray] = {}

    def image(view: int, frame: int) -> np.ndarray:
        if (view, frame) not in decoded:
            decoded[view, frame] = reader.image(size, view, frame)
        return decoded[view, frame]

    video = [image(clip.reference_view, frame) for frame in clip.frames]
    views = [image(view, clip.reference_frame) for view in clip.views]
    own = [image(clip.reference_view, clip.reference_frame)]
    target = [image(view, frame) for view in clip.views for frame in clip.frames]
    V, F = len(clip.views), len(clip.frames)

    def tensor(images: list[np.ndarray]) -> Tensor:
        """Stack n images [S, S, 4] as [n, 4, S, S]."""
        shown = np.stack(images)[..., [*clip.channels, 3]].transpose(0, 3, 1, 2)
        return torch.from_numpy((shown[..., ::-1] if clip.mirrored else shown).copy())

    grid = tensor(target).unflatten(0, (V, F))
    return _Images(tensor(video), tensor(views), tensor(own)[0], grid)


def _with_cameras(
    reader: SampleReader,
    clip: ClipSample,
    images: dict[str, _Images],
    sizes: Mapping[str, int],
    replaced: int,
) -> TrainingSample:
    own = reader.sample.cameras[clip.reference_view]
    front_deg, _ = viewing_angles_deg(own)
    cameras = [reader.sample.cameras[view] for view in clip.views]
    if clip.mirrored:
        cameras = [_mirrored(camera, front_deg) for camera in cameras]
    angles_deg = [viewing_angles_deg(camera) for camera in cameras]
    return TrainingSample(
        name=reader.sample.name,
        reference_view=clip.reference_view,
        reference_frame=clip.reference_frame,
        views=torch.tensor(clip.views),
        frames=torch.tensor(clip.frames),
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
    """Mirror a camera at the vertical plane through an azimuth, for its mirrored image.

    The reflection makes the camera's axes left-handed; flipping its x axis, like the image, makes
    them right-handed again.
    """
    across = np.radians(azimuth_deg)  # direction of the plane's normal
    normal = np.array([np.cos(across), np.sin(across), 0.0])
    mirror = np.eye(4)
    mirror[:3, :3] -= 2 * np.outer(normal, normal)
    pose = mirror @ camera.T_world_camera @ np.diag([-1.0, 1, 1, 1])
    return replace(camera, T_world_camera=pose, cx=camera.width - camera.cx)


def _float32(values: list) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
