"""Images as they are packed: made smaller, encoded, and decoded again.

Letters: S pixels on a side. Images are RGBA with straight alpha, uint8, [S, S, 4]. What it does not
know: shards.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from PIL import Image

from recon.errors import InputError
from recon.media import decode_image, encode_image

DEFAULT_QUALITY = 90
# Of the lossless settings, the one whose files are 8 % larger than the smallest ones and are made
# three to six times as fast; all of them are decoded twice as fast as PNG.
_LOSSLESS_METHOD, _LOSSLESS_EFFORT = 1, 25
_WHITE = np.array([255, 255, 255, 0], np.uint8)


class Codec(StrEnum):
    """How images are encoded."""

    WEBP_LOSSLESS = "webp-lossless"
    PNG = "png"
    WEBP = "webp"

    @property
    def suffix(self) -> str:
        """Of file names."""
        return "png" if self is Codec.PNG else "webp"

    @property
    def is_lossless(self) -> bool:
        """Whether what is decoded is exactly what was encoded."""
        return self is not Codec.WEBP


def resolve_quality(codec: Codec, quality: int | None) -> int | None:
    """The quality that a codec encodes with; None for a lossless one.

    Raises:
        InputError: the codec has no quality, or it is outside 0 to 100.
    """
    if codec.is_lossless:
        if quality is not None:
            raise InputError(f"{codec} is lossless and has no quality; only webp has one")
        return None
    quality = DEFAULT_QUALITY if quality is None else quality
    if not 0 <= quality <= 100:
        raise InputError(f"expected a quality from 0 to 100, found {quality}")
    return quality


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """A square image with fewer pixels, or as many; white where its alpha is 0.

    Args:
        image: uint8 RGBA, [H, H, 4].
        size: S, at most H.

    Returns:
        uint8 RGBA, [S, S, 4].
    """
    assert image.shape[0] == image.shape[1] >= size, "images are never enlarged or distorted"
    if len(image) != size:
        # Pillow weights colours by alpha here, so that what is hidden does not bleed into edges,
        # and widens the filter to what a pixel covers. Hamming's has no negative weights: Lanczos'
        # make a ring inside of edges, where alpha is cut at 255 and colour times alpha is not.
        image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.HAMMING))
    return np.where(image[..., 3:] == 0, _WHITE, image)


def encode(image: np.ndarray, codec: Codec, quality: int | None = None) -> bytes:
    """An image as a file.

    Args:
        image: uint8 RGBA, [S, S, 4].
        codec: how.
        quality: as `resolve_quality` gives it.
    """
    return encode_image(image, f".{codec.suffix}", **_options(codec, quality))


def decode(data: bytes, codec: Codec, size: int) -> np.ndarray:
    """The image in a file, uint8 RGBA, [S, S, 4]; the inverse of `encode`.

    Raises:
        ValueError: it is not an image of that codec and size, or damaged.
    """
    return decode_image(data, codec.suffix.upper(), (size, size))


def _options(codec: Codec, quality: int | None) -> dict[str, Any]:
    match codec:
        case Codec.PNG:
            return {}
        case Codec.WEBP:
            return {"quality": quality}
        case Codec.WEBP_LOSSLESS:  # exact: otherwise the colour where the alpha is 0 is made up
            return {
                "lossless": True,
                "exact": True,
                "method": _LOSSLESS_METHOD,
                "quality": _LOSSLESS_EFFORT,
            }
