"""How a decoded video frame is shown: sRGB, square pixels, upright.

    frame ──tone mapping──▶ sRGB ──pixel aspect──▶ square pixels ──display matrix──▶ upright

FFmpeg's players do this with the filters zscale and tonemap, which PyAV's wheels lack.
Letters: H × W pixels as shown.

Sources: ITU-T H.273 (codes of colors), ITU-R BT.2100 (PQ, HLG), BT.2408 (reference white of
203 cd/m²), BT.2087 (BT.2020 to BT.709).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from recon.srgb import linear_from_srgb, srgb_from_linear

PQ, HLG = 16, 18  # transfer characteristics
BT709, BT2020, DISPLAY_P3 = 1, 9, 12  # primaries
REFERENCE_WHITE = 203.0  # cd/m² of a white sheet in HDR video; it becomes the white of sRGB
PQ_PEAK = 10_000.0  # cd/m²
HLG_PEAK = 1_000.0  # cd/m² of the nominal display, whose gamma is
HLG_GAMMA = 1.2
CODES = 1 << 16
BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
TO_BT709 = {  # linear light in other primaries → BT.709's, whose white is the same
    BT2020: np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
        np.float32,
    ),
    DISPLAY_P3: np.array(
        [[1.2249, -0.2249, 0.0], [-0.0420, 1.0420, 0.0], [-0.0196, -0.0786, 1.0983]],
        np.float32,
    ),
}


class Display(NamedTuple):
    """How the frames of a stream are shown.

    Attributes:
        pixel_aspect: width of a stored pixel over its height.
        matrix: how stored (x, y) become shown ones: (x, y) @ matrix, of 0 and ±1, [2, 2].
        transfer: code of the transfer characteristics.
        primaries: code of the color primaries.
    """

    pixel_aspect: float
    matrix: np.ndarray
    transfer: int
    primaries: int

    def show(self, frame: VideoFrame) -> np.ndarray:
        """Convert a frame to what is shown: sRGB, uint8, [H, W, 3 or 4]."""
        return _transformed(_square_pixels(self._colors(frame), self.pixel_aspect), self.matrix)

    def _colors(self, frame: VideoFrame) -> np.ndarray:
        if self.transfer in _LIGHT or self.primaries in TO_BT709:
            return self._tone_mapped(frame)
        return frame.to_ndarray(format="rgba" if has_alpha(frame) else "rgb24")

    def _tone_mapped(self, frame: VideoFrame) -> np.ndarray:
        """Convert wide gamut and HDR to sRGB; what is lighter than the reference white is cut."""
        codes = np.asarray(
            frame.to_ndarray(format="rgba64le" if has_alpha(frame) else "rgb48le"), np.uint16
        )
        light = _light_of_codes(self.transfer)[codes[..., :3]]
        if self.transfer == HLG:  # light of the scene → of the display
            light *= (light @ BT2020_LUMINANCE)[..., None] ** (HLG_GAMMA - 1)
            light *= HLG_PEAK / REFERENCE_WHITE
        if self.primaries != BT709:
            light = light @ TO_BT709.get(self.primaries, TO_BT709[BT2020]).T
        shown = light.clip(0, 1)
        colors = _srgb_of_light()[np.rint(shown * (CODES - 1)).astype(np.uint16)]
        alpha = codes[..., 3:] >> 8
        return np.concatenate([colors, alpha.astype(np.uint8)], axis=-1)


def display_of(stream: VideoStream, frame: VideoFrame) -> Display:
    """Return how the frames of a stream are shown, from its first decoded frame."""
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio
    side_data: Any = frame.side_data
    matrix = side_data.get(Type.DISPLAYMATRIX)
    return Display(
        pixel_aspect=float(aspect) if aspect else 1.0,
        matrix=np.eye(2, dtype=int) if matrix is None else display_matrix(bytes(matrix)),
        transfer=int(context.color_trc or 0),
        primaries=int(context.color_primaries or 0),
    )


def display_matrix(data: bytes) -> np.ndarray:
    """Return the nearest of the eight matrices of turns by 90° and mirror images, [2, 2].

    Args:
        data: FFmpeg's display matrix, 9 integers of 32 bits: a b u c d v x y w.

    Source: `libavutil/display.h`.
    """
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].astype(np.int64)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return np.array([[-1 if a < 0 else 1, 0], [0, -1 if d < 0 else 1]])
    return np.array([[0, -1 if b < 0 else 1], [-1 if c < 0 else 1, 0]])


def has_alpha(frame: VideoFrame) -> bool:
    """Return whether the pixel format of a frame has an alpha channel or a palette."""
    return frame.format.has_palette or any(part.is_alpha for part in frame.format.components)


def _square_pixels(image: np.ndarray, aspect: float) -> np.ndarray:
    """Stretch the side along which the pixels are longer, so that no detail is lost."""
    height, width = image.shape[:2]
    size = (round(width * max(aspect, 1)), round(height * max(1 / aspect, 1)))
    if size == (width, height):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _transformed(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    if matrix[0, 0] == 0:
        image = image.swapaxes(0, 1)
    to_x, to_y = matrix.sum(axis=0)
    return image[:: int(to_y), :: int(to_x)]


def _light_of_pq(code: np.ndarray) -> np.ndarray:
    """BT.2100 table 4: light of the display; 1 is the reference white."""
    m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
    power = code ** (1 / m2)
    light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return light * PQ_PEAK / REFERENCE_WHITE


def _light_of_hlg(code: np.ndarray) -> np.ndarray:
    """BT.2100 table 5: light of the scene in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


_LIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    PQ: _light_of_pq,
    HLG: _light_of_hlg,
}


@cache
def _light_of_codes(transfer: int) -> np.ndarray:
    """Tabulate the light of all 16-bit codes, float32, [65536]."""
    codes = np.arange(CODES) / (CODES - 1)
    return _LIGHT.get(transfer, linear_from_srgb)(codes).astype(np.float32)


@cache
def _srgb_of_light() -> np.ndarray:
    """Tabulate the 8-bit sRGB of light in 16 bits, uint8, [65536]."""
    return np.rint(255 * srgb_from_linear(np.arange(CODES) / (CODES - 1))).astype(np.uint8)
