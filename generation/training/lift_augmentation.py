"""Random changes of the shapes, colors and images of `lift`'s samples.

They multiply the few assets there are: other proportions, other materials, and images as real clips
have them. Letters: S pixels on a side.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter, grey_dilation, grey_erosion

from generation.curation.render.baked_asset import MeshFrame, Surface

SYMMETRIC_WAVES = 3  # of a deformation, each with its mirror image
WAVE_NUMBER = 2.5  # standard deviation of the components of the wave vectors; an asset has radius 1
_MIRROR = np.array([-1, 1, 1], np.float32)


def deformed(frame: MeshFrame, strain: float, rng: np.random.Generator) -> MeshFrame:
    """Bend and swell a frame by smooth waves, all but one symmetric about the plane x = 0.

    Args:
        frame: the frame; its front faces along y.
        strain: maximum strain of a wave, in [0, 1).
        rng: source of all random numbers.
    """
    waves = [_wave(strain, rng) for _ in range(SYMMETRIC_WAVES)]
    waves += [(_MIRROR * push, _MIRROR * wave, phase) for push, wave, phase in waves]
    waves.append(_wave(strain / 3, rng))
    push, wave, phase = (np.stack(column) for column in zip(*waves, strict=True))
    angle = frame.vertices @ wave.T + phase
    jacobian = np.eye(3, dtype=np.float32) + np.einsum("nw,wi,wj->nij", np.cos(angle), push, wave)
    normals = np.einsum("mcij,mcj->mci", _cofactors(jacobian)[frame.triangles], frame.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return replace(frame, vertices=frame.vertices + np.sin(angle) @ push, normals=normals)


def tinted(surface: Surface, rng: np.random.Generator) -> Surface:
    """Multiply the colors of a surface with a random color."""
    tint = rng.uniform(0.4, 2.0, 3)
    red, green, blue, alpha = surface.base_color
    color = np.clip(np.array([red, green, blue]) * tint, 0, 1)
    return replace(surface, base_color=(*color.tolist(), alpha))


def painted(frame: MeshFrame, rng: np.random.Generator) -> MeshFrame:
    """Multiply the corner colors with a random pattern, of smooth waves or of patches."""
    corners = frame.vertices[frame.triangles]
    waves = np.sin(corners @ rng.normal(0, rng.uniform(2, 12), (3, 6)) + rng.uniform(0, 6.3, 6))
    mix = waves @ rng.normal(0, 0.5, (6, 3))
    if rng.uniform() < 0.5:
        mix = np.sign(mix[:, :1]) * 0.5
    shade = np.clip(1 + rng.uniform(0.2, 0.8) * (mix - 0.4), 0.05, 1.6)
    colors = frame.colors.copy()
    colors[..., :3] *= shade.astype(np.float32)
    return replace(frame, colors=colors)


def recolored(images: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Permute the color channels of all images, and change their brightness and contrast.

    Args:
        images: colors, and other channels that are kept, uint8, [..., 3 or more] each.
        rng: source of all random numbers.
    """
    order = rng.permutation(3)
    gain, gamma = rng.uniform(0.7, 1.15, 3), rng.uniform(0.75, 1.35)
    table = np.clip(255 * np.linspace(0, 1, 256)[:, None] ** gamma * gain, 0, 255).astype(np.uint8)
    changed = [image.copy() for image in images]
    for image, source in zip(changed, images, strict=True):
        for channel in range(3):
            image[..., channel] = table[:, channel][source[..., order[channel]]]
    return changed


def degraded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur an image, add noise, and enlarge or shrink its mask, each or not.

    Args:
        image: sRGB with straight alpha, uint8, [S, S, 4].
        rng: source of all random numbers.
    """
    alpha = image[..., 3:].astype(np.float32) / 255
    color = image[..., :3] * alpha
    if rng.uniform() < 0.6:
        blur = (rng.uniform(0.3, 1.2),) * 2 + (0,)
        alpha, color = gaussian_filter(alpha, blur), gaussian_filter(color, blur)
    straight = color / np.maximum(alpha, 1 / 255)
    if rng.uniform() < 0.5:
        grain = gaussian_filter(rng.normal(size=color.shape), (rng.uniform(0, 1),) * 2 + (0,))
        straight = straight + rng.uniform(2, 14) * grain
    if rng.uniform() < 0.3:
        grow = rng.uniform() < 0.5
        changed = (grey_dilation if grow else grey_erosion)(alpha, (3, 3, 1))
        # A mask that is too large shows the background, which is gray.
        background = rng.uniform(60, 255)
        straight = straight + (background - straight) * np.clip(changed - alpha, 0, 1)
        alpha = changed
    found = np.concatenate([straight, alpha * 255], -1)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def _wave(strain: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """Draw displacement, wave vector and phase."""
    wave, push = rng.normal(0, WAVE_NUMBER, 3), rng.normal(0, 1, 3)
    size = rng.uniform(0, strain) / (np.linalg.norm(push) * max(np.linalg.norm(wave), 1.0))
    phase = np.float32(rng.uniform(0, 2 * np.pi))
    return (size * push).astype(np.float32), wave.astype(np.float32), phase


def _cofactors(matrices: np.ndarray) -> np.ndarray:
    """Compute the cofactors, which map normals as the matrices map points, [N, 3, 3]."""
    x, y, z = matrices[..., 0], matrices[..., 1], matrices[..., 2]
    return np.stack([np.cross(y, z), np.cross(z, x), np.cross(x, y)], -1)
