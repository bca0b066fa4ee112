"""Matting of images without alpha over a background of uniform color.

    rgb ──border color──▶ B ──flood from the border──▶ background ──band around it──▶ alpha, color
                               └─ enclosed regions that look like it ─┘

Background are the regions connected to the border, and gaps that the object encloses. White parts
of the object (eyes, highlights, a lit shirt) are kept as far as they differ from a gap, see
`_enclosed_background`. In the band between background and object, a pixel C = α F + (1 − α) B mixes
B with the object's color F, which is that of the neighbor least similar to B. Letters: M images,
H × W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

TOLERANCE = 12 / 255  # deviation from a uniform color caused by video compression, at least
MAX_TOLERANCE = 24 / 255  # for images of low quality
UNIFORM_SHARE = 0.6  # of the border pixels; the others may belong to an object at the border
SPECK, SPECK_PX = 3 * TOLERANCE, 64  # noise beside edges; 8² is a block of JPEG
BAND_PX = 2.0
MIX_ERROR = (2, 4)  # in tolerances; the second for saturated colors, which 4:2:0 smears
MARGIN_PX = 8  # background around the object that is looked at
WINDOW_PX = 2  # largest distance of a neighbor in rows and columns

# Limits of gaps, from renders of four objects with their true masks, clean and as JPEG and H.264,
# and from the highlights in two real clips.
GAP_SHARE = 3e-4  # of the image, smaller ones can be highlights
GAP_PX = 9
GAP_NOISE = (1 / 255, 3.0)  # deviation from the background's color: at most a + b · noise
GAP_EDGE = (50 / 255, 0.6)  # contrast; the second is relative to the outline's
GAP_SHARPNESS = 0.75  # of the contrast within 2 px to that within 5 px, relative to the outline
GAP_HARDNESS = 0.3  # how much harder than the outline's the edge may be
ISLAND_SHARE, ISLAND_PX = 0.02, 16  # a pupil in the white of an eye
STROKE = 0.045  # width of the lines of a drawing, relative to the diagonal of the object's box
STROKE_REACH = 0.03  # how far from the edge a thicker part is looked for


def border_color(images: np.ndarray) -> np.ndarray | None:
    """Find the uniform color around the object in all images; None if it is not uniform.

    Args:
        images: uint8, [M, H, W, 3 or more].

    Returns:
        sRGB in [0, 1], [3].
    """
    colors = border_pixels(images) / 255
    color = np.median(colors, axis=0)
    close = np.abs(colors - color).max(axis=-1) <= TOLERANCE
    return color if close.mean() >= UNIFORM_SHARE else None


def border_pixels(images: np.ndarray) -> np.ndarray:
    """Return the RGB of the pixels along the borders of images [M, H, W, 3 or more], [N, 3]."""
    sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    return np.concatenate([side[..., :3].reshape(-1, 3) for side in sides])


def matte(image: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Cut an object out of a uniform background.

    Args:
        image: uint8, [H, W, 3 or more]; only RGB is used.
        background: sRGB in [0, 1], [3].

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]; composited over `background` it equals `image`.
    """
    deviation = np.abs(image[..., :3] - np.float32(255) * background).max(axis=-1) / 255
    place = _place(deviation > TOLERANCE)
    result = np.empty((*image.shape[:2], 4), np.uint8)
    result[..., :3], result[..., 3] = np.rint(255 * background), 0
    if place is not None:
        smallest_gap = max(GAP_PX, GAP_SHARE * deviation.size)
        result[place] = _matte(image[place], deviation[place], background, smallest_gap)
    return result


def _place(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Return the box around a mask and the pixels near it, or None if the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    top, left = max(0, rows[0] - MARGIN_PX), max(0, columns[0] - MARGIN_PX)
    return slice(top, rows[-1] + 1 + MARGIN_PX), slice(left, columns[-1] + 1 + MARGIN_PX)


def _matte(
    image: np.ndarray, deviation: np.ndarray, background: np.ndarray, smallest_gap: float
) -> np.ndarray:
    """Cut out the object as `matte` does, in the part of the image that has all of it."""
    close = _without_specks(deviation, _tolerance(deviation))
    outside = _flood_from_border(close)
    if not outside.any():
        return np.dstack([image[..., :3], np.full(outside.shape, 255, np.uint8)])
    outside = outside | _enclosed_background(deviation, close, outside, smallest_gap)
    rgb = image[..., :3].astype(np.float32) / 255
    band = ~outside & (np.asarray(ndimage.distance_transform_edt(~outside)) <= BAND_PX)
    alpha = np.where(outside, 0.0, 1.0)
    rgb[outside] = background
    rgb[band], alpha[band] = _unmix(rgb[band], _foreground(rgb, band, background), background)
    return np.rint(255 * np.dstack([rgb, alpha])).astype(np.uint8)


def _flood_from_border(close: np.ndarray) -> np.ndarray:
    """Return the part of a mask that is connected to the border of the image, bool, [H, W]."""
    seeds = close.copy()
    seeds[1:-1, 1:-1] = False
    return ndimage.binary_propagation(seeds, mask=close)


def _tolerance(deviation: np.ndarray) -> float:
    """Return the deviation up to which pixels have the background's color, by the noise.

    The noise is that around what certainly is the object, where compression is worst.
    """
    distance = np.asarray(ndimage.distance_transform_edt(deviation <= 5 * TOLERANCE))
    around = (distance > BAND_PX) & (distance <= MARGIN_PX)
    if not around.any():
        return TOLERANCE
    return float(np.clip(5 * np.median(deviation[around]), TOLERANCE, MAX_TOLERANCE))


def _without_specks(deviation: np.ndarray, tolerance: float) -> np.ndarray:
    """Find what has the background's color, specks of compression in it included, bool, [H, W]."""
    close = deviation <= tolerance
    labels = _connected(~close, diagonally=True)
    areas = np.bincount(labels.ravel())
    peaks = np.zeros(len(areas))
    np.maximum.at(peaks, labels.ravel(), deviation.ravel())
    return close | ((areas <= SPECK_PX) & (peaks <= SPECK))[labels]


def _enclosed_background(
    deviation: np.ndarray, close: np.ndarray, outside: np.ndarray, smallest_gap: float
) -> np.ndarray:
    """Find the gaps that the object encloses, such as between legs.

    A gap has the background's color up to its noise, has an edge with contrast that is as
    sharp as the outline, has no islands, and is enclosed by more than the lines of a drawing. White
    parts of an object are shaded, or fade out, or have a pattern; one without all of that cannot be
    distinguished from a gap.

    Args:
        deviation: from the background's color, in [0, 1], [H, W].
        close: what has the background's color, bool, [H, W].
        outside: the background that is connected to the border, bool, [H, W], not empty.
        smallest_gap: area in pixels.

    Returns:
        bool, [H, W].
    """
    labels = _connected(close & ~outside)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    candidates = np.flatnonzero(areas >= smallest_gap)
    found = np.zeros_like(outside)
    if len(candidates) == 0:
        return found
    near = ndimage.maximum_filter(deviation, 2 * WINDOW_PX + 1)
    far = ndimage.maximum_filter(deviation, 4 * WINDOW_PX + 3)
    outline = _Edge.around(outside, close, deviation, near, far)
    noise = _noise_at_outline(deviation, outside)
    is_stroke = _strokes(close, outside)
    places = ndimage.find_objects(labels)
    for label in candidates:
        place = _grown(places[label - 1], 2, deviation.shape)
        region = labels[place] == label
        edge = _Edge.around(region, close[place], deviation[place], near[place], far[place])
        if (
            deviation[place][_core(region)].mean() <= GAP_NOISE[0] + GAP_NOISE[1] * noise
            and edge.contrast >= min(GAP_EDGE[0], GAP_EDGE[1] * outline.contrast)
            and edge.sharpness >= GAP_SHARPNESS * outline.sharpness
            and edge.hardness <= GAP_HARDNESS + outline.hardness
            and _largest_island(region) <= max(ISLAND_PX, ISLAND_SHARE * areas[label])
            and is_stroke[place][_ring(region, close[place])].mean() < 0.9
        ):
            found[place] |= region
    return found


class _Edge(NamedTuple):
    """The edge around a region of the background's color.

    Attributes:
        contrast: deviation from the background's color within 2 px, in [0, 1]; three quarters of
            the edge have more.
        sharpness: mean ratio of the contrast within 2 px to that within 5 px, in (0, 1].
        hardness: mean ratio of the contrast of the first pixel to that within 2 px, in (0, 1].
    """

    contrast: float
    sharpness: float
    hardness: float

    @classmethod
    def around(
        cls,
        region: np.ndarray,
        close: np.ndarray,
        deviation: np.ndarray,
        near: np.ndarray,
        far: np.ndarray,
    ) -> _Edge:
        ring = _ring(region, close)
        if not ring.any():
            return cls(0.0, 0.0, 0.0)
        first, second, third = deviation[ring], near[ring], far[ring]
        return cls(
            float(np.quantile(second, 0.25)),
            float((second / third).mean()),
            float((first / second).mean()),
        )


def _ring(region: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Return the first pixels of the object around a region, bool, [H, W]."""
    return np.asarray(ndimage.binary_dilation(region)) & ~close


def _strokes(close: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Find where the object nearby is no thicker than the lines of a drawing, bool, [H, W]."""
    place = _place(~outside)
    assert place is not None
    diagonal = float(np.hypot(*(part.stop - part.start - 2 * MARGIN_PX for part in place)))
    depth = np.asarray(ndimage.distance_transform_edt(~close))
    reach = 2 * int(np.ceil(STROKE_REACH * diagonal)) + 1
    return 2 * ndimage.maximum_filter(depth, reach) - 1 <= STROKE * diagonal


def _connected(mask: np.ndarray, diagonally: bool = False) -> np.ndarray:
    """Number the connected parts of a mask from 1 on; 0 is outside of it, int32, [H, W]."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, ndimage.generate_binary_structure(2, 1 + diagonally), output=labels)
    return labels


def _noise_at_outline(deviation: np.ndarray, outside: np.ndarray) -> float:
    """Return the mean deviation of the background beside the object, where compression puts it."""
    distance = np.asarray(ndimage.distance_transform_edt(outside))
    beside = (distance > 1) & (distance <= 2 + BAND_PX)
    return float(deviation[beside].mean()) if beside.any() else 0.0


def _core(region: np.ndarray) -> np.ndarray:
    """Return a mask without the pixels at its edge; the mask itself if nothing is left."""
    core = ndimage.binary_erosion(region)
    return core if core.any() else region


def _largest_island(region: np.ndarray) -> int:
    """Return the area in pixels of the largest hole in a mask."""
    labels = _connected(np.asarray(ndimage.binary_fill_holes(region)) & ~region)
    return int(np.bincount(labels.ravel())[1:].max(initial=0))


def _grown(place: tuple[slice, ...], by: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, part.start - by), min(size, part.stop + by))
        for part, size in zip(place, shape, strict=True)
    )


def _foreground(rgb: np.ndarray, band: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the color around each band pixel that is least similar to the background, [K, 3]."""
    height, width = band.shape
    offsets = np.arange(-WINDOW_PX, WINDOW_PX + 1)
    row_offsets, column_offsets = (grid.ravel() for grid in np.meshgrid(offsets, offsets))
    rows, columns = np.nonzero(band)
    around = rgb[
        np.clip(rows[:, None] + row_offsets, 0, height - 1),
        np.clip(columns[:, None] + column_offsets, 0, width - 1),
    ]
    best = np.abs(around - background).sum(axis=-1).argmax(axis=1)
    return around[np.arange(len(rows)), best]


def _unmix(
    mixed: np.ndarray, foreground: np.ndarray, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve C = α F + (1 − α) B for α [K]; return F [K, 3] and α, or C and 1 if C is no mix."""
    span = foreground - background
    ratio = ((mixed - background) * span).sum(-1) / np.maximum((span**2).sum(-1), 1e-8)
    alpha = ratio.clip(0, 1)
    error = np.abs(background + alpha[:, None] * span - mixed).max(axis=-1)
    is_mix = error <= TOLERANCE * (MIX_ERROR[0] + MIX_ERROR[1] * np.ptp(background))
    return np.where(is_mix[:, None], foreground, mixed), np.where(is_mix, alpha, 1.0)
