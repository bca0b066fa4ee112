"""Packed images: downsampling, encoding and decoding.

Images are RGBA with straight alpha, uint8, [S, S, 4], S pixels on a side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from generation.curation.shards.pack_settings import Codec
from recon.media import decode_image, encode_image

# These settings of lossless WebP give files 8 % larger than the smallest ones, but are three to six
# times as fast to encode. All lossless WebP files decode twice as fast as PNG.
_LOSSLESS_METHOD, _LOSSLESS_EFFORT = 1, 25
_WHITE = np.array([255, 255, 255, 0], np.uint8)


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Downsample a square image, and make it white where alpha is 0.

    Args:
        image: uint8 RGBA, [H, H, 4].
        size: S, at most H.

    Returns:
        uint8 RGBA, [S, S, 4].
    """
    assert image.shape[0] == image.shape[1] >= size, "images are never enlarged or distorted"
    if len(image) != size:
        # Pillow premultiplies colors by alpha here, so that hidden colors do not bleed into edges.
        # The Hamming filter has no negative weights; those of Lanczos cause ringing inside of
        # edges, where alpha is clipped but premultiplied color is not.
        image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.HAMMING))
    return np.where(image[..., 3:] == 0, _WHITE, image)


def encode(image: np.ndarray, codec: Codec, quality: int | None = None) -> bytes:
    """Encode an image.

    Args:
        image: uint8 RGBA, [S, S, 4].
        codec: image codec.
        quality: result of `resolve_quality`.
    """
    return encode_image(image, f".{codec.suffix}", **_options(codec, quality))


def decode(data: bytes, codec: Codec, size: int) -> np.ndarray:
    """Decode an image, uint8 RGBA, [S, S, 4]; the inverse of `encode`.

    Raises:
        ValueError: the data are damaged, or no image of the given codec and size.
    """
    return decode_image(data, codec.suffix.upper(), (size, size))


def _options(codec: Codec, quality: int | None) -> dict[str, Any]:
    match codec:
        case Codec.PNG:
            return {}
        case Codec.WEBP:
            return {"quality": quality}
        case Codec.WEBP_LOSSLESS:  # exact: keeps the color where alpha is 0
            return {
                "lossless": True,
                "exact": True,
                "method": _LOSSLESS_METHOD,
                "quality": _LOSSLESS_EFFORT,
            }
