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

TOLERANCE = 12 / 255  # deviation from a uniform color caused by video compression
UNIFORM_SHARE = 0.6  # of the border pixels; the others may belong to an object at the border
SPECK, SPECK_PX = 3 * TOLERANCE, 16  # noise beside edges in JPEG and H.264
BAND_PX = 2.0
WINDOW_PX = 2  # largest distance of a neighbor in rows and columns

# Limits of gaps, from renders of four objects with their true masks, clean and as JPEG and H.264,
# and from the highlights in two real clips.
GAP_SHARE = 3e-4  # of the image, smaller ones are not told from highlights
GAP_PX = 9
GAP_NOISE = (1 / 255, 3.0)  # deviation from the background's color: at most a + b · noise
GAP_EDGE = (50 / 255, 0.6)  # contrast; the second is relative to the outline's
GAP_SHARPNESS = 0.75  # of the contrast within 2 px to that within 5 px, relative to the outline
GAP_HARDNESS = 0.3  # how much harder than the outline's the edge may be
ISLAND_SHARE, ISLAND_PX = 0.02, 16  # a pupil in the white of an eye


def border_color(images: np.ndarray) -> np.ndarray | None:
    """Find the uniform color around the object in all images; None if it is not uniform.

    Args:
        images: uint8, [M, H, W, 3 or more].

    Returns:
        sRGB in [0, 1], [3].
    """
    sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    border = np.concatenate([side[..., :3].reshape(-1, 3) for side in sides]) / 255
    color = np.median(border, axis=0)
    close = np.abs(border - color).max(axis=-1) <= TOLERANCE
    return color if close.mean() >= UNIFORM_SHARE else None


def matte(image: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Cut an object out of a uniform background.

    Args:
        image: uint8, [H, W, 3 or more]; only RGB is used.
        background: sRGB in [0, 1], [3].

    Returns:
        RGBA with straight alpha, uint8, [H, W, 4]; composited over `background` it equals `image`.
    """
    rgb = image[..., :3].astype(np.float32) / 255
    deviation = np.abs(rgb - background).max(axis=-1)
    close = _without_specks(deviation)
    outside = _flood_from_border(close)
    if not outside.any():
        return np.concatenate([image[..., :3], np.full_like(image[..., :1], 255)], axis=-1)
    outside = outside | _enclosed_background(deviation, close, outside)
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


def _without_specks(deviation: np.ndarray) -> np.ndarray:
    """Find what has the background's color, specks of compression in it included, bool, [H, W]."""
    close = deviation <= TOLERANCE
    labels, count = ndimage.label(~close, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    peaks = np.zeros(count + 1)
    np.maximum.at(peaks, labels.ravel(), deviation.ravel())
    return close | ((areas <= SPECK_PX) & (peaks <= SPECK))[labels]


def _enclosed_background(
    deviation: np.ndarray, close: np.ndarray, outside: np.ndarray
) -> np.ndarray:
    """Find the gaps that the object encloses, such as between legs.

    A gap has the background's color up to its noise, has an edge with contrast that is as
    sharp as the outline, and has no islands. White parts of an object are shaded, or fade out, or
    have a pattern; one without all of that cannot be told from a gap.

    Args:
        deviation: from the background's color, in [0, 1], [H, W].
        close: what has the background's color, bool, [H, W].
        outside: the background that is connected to the border, bool, [H, W], not empty.

    Returns:
        bool, [H, W].
    """
    labels, _ = ndimage.label(close & ~outside)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    candidates = np.flatnonzero(areas >= max(GAP_PX, GAP_SHARE * deviation.size))
    found = np.zeros_like(outside)
    if len(candidates) == 0:
        return found
    near = ndimage.maximum_filter(deviation, 2 * WINDOW_PX + 1)
    far = ndimage.maximum_filter(deviation, 4 * WINDOW_PX + 3)
    outline = _Edge.around(outside, close, deviation, near, far)
    noise = _noise_at_outline(deviation, outside)
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
        ring = ndimage.binary_dilation(region) & ~close
        if not ring.any():
            return cls(0.0, 0.0, 0.0)
        first, second, third = deviation[ring], near[ring], far[ring]
        return cls(
            float(np.quantile(second, 0.25)),
            float((second / third).mean()),
            float((first / second).mean()),
        )


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
    labels, _ = ndimage.label(ndimage.binary_fill_holes(region) & ~region)
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
    is_mix = error <= 2 * TOLERANCE
    return np.where(is_mix[:, None], foreground, mixed), np.where(is_mix, alpha, 1.0)
