"""Settings of packing: image sizes, codec and shard size; importable without numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from recon.errors import InputError

DEFAULT_QUALITY = 90
MIN_SIZE = 8


class Codec(StrEnum):
    """Image codec of the packed images."""

    WEBP_LOSSLESS = "webp-lossless"
    PNG = "png"
    WEBP = "webp"

    @property
    def suffix(self) -> str:
        """Suffix of file names."""
        return "png" if self is Codec.PNG else "webp"

    @property
    def is_lossless(self) -> bool:
        """Whether decoding inverts encoding exactly."""
        return self is not Codec.WEBP


def resolve_quality(codec: Codec, quality: int | None) -> int | None:
    """Return the encoding quality; None for a lossless codec.

    Raises:
        InputError: the codec has no quality, or the quality is not in [0, 100].
    """
    if codec.is_lossless:
        if quality is not None:
            raise InputError(f"{codec} is lossless and has no quality; only webp has one")
        return None
    quality = DEFAULT_QUALITY if quality is None else quality
    if not 0 <= quality <= 100:
        raise InputError(f"expected a quality from 0 to 100, found {quality}")
    return quality


@dataclass(frozen=True)
class PackSettings:
    """Settings of packing.

    Attributes:
        low: side of the images for the coarse stage in pixels.
        high: side of the images for the fine stage in pixels; None omits them.
        codec: image codec.
        quality: quality of a lossy codec, 0 to 100; None for `DEFAULT_QUALITY`.
        shard_bytes: maximum size of a shard; a shard with a single sample may be larger.
        min_views: minimum number of views; grids with fewer are skipped.
        min_frames: minimum number of frames; grids with fewer are skipped.
        seed: seed of the order of the samples in the shards.

    Raises:
        InputError: a number is out of its range.
    """

    low: int = 256
    high: int | None = 576
    codec: Codec = Codec.WEBP_LOSSLESS
    quality: int | None = None
    shard_bytes: int = 256_000_000
    min_views: int = 4
    min_frames: int = 5
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "quality", resolve_quality(self.codec, self.quality))
        if self.low < MIN_SIZE:
            raise InputError(f"expected at least {MIN_SIZE} pixels on a side, found {self.low}")
        if self.high is not None and self.high <= self.low:
            raise InputError(
                f"expected a high size above the low size of {self.low} pixels, found {self.high}"
            )
        if min(self.shard_bytes, self.min_views, self.min_frames) < 1:
            raise InputError(
                "expected shard_bytes, min_views and min_frames of at least 1, found "
                f"{self.shard_bytes}, {self.min_views} and {self.min_frames}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Side of the images in pixels, by the name of the size."""
        return {"low": self.low} | ({} if self.high is None else {"high": self.high})
