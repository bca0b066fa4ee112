"""A toy of colored balls, drawn from the cameras of a grid and compared with its images."""

from collections.abc import Callable

import numpy as np
import pytest

from recon.grid import Camera, Grid

COLORS = np.array(
    [[200, 200, 205], [220, 30, 30], [30, 190, 40], [30, 50, 220], [235, 200, 20]], float
)


def toy_balls(time: float) -> tuple[np.ndarray, np.ndarray]:
    """Return centers [5, 3] and radii [5] of the gray, red, green, blue and yellow ball."""
    yellow = [-0.5, 0, -0.35 + 0.7 * time]
    centers = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0, 0.5], [0, -0.5, 0], yellow], float)
    return centers, np.array([0.35, 0.18, 0.18, 0.18, 0.15])


def visible_balls(camera: Camera, time: float) -> np.ndarray:
    """Return the number of the ball that each pixel shows, int, [H, W]; −1 for none."""
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    x, y = (columns - camera.cx) / camera.fl_x, (rows - camera.cy) / camera.fl_y
    rays = np.stack([x, -y, -np.ones_like(x)], axis=-1) @ camera.T_world_camera[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    nearest, shown = np.full(x.shape, np.inf), np.full(x.shape, -1)
    for number, (center, radius) in enumerate(zip(*toy_balls(time), strict=True)):
        offset = camera.position - center
        along = rays @ offset
        root = along**2 - (offset @ offset - radius**2)
        depth = np.where(root > 0, -along - np.sqrt(np.maximum(root, 0)), np.inf)
        shown[depth < nearest] = number
        nearest = np.minimum(depth, nearest)
    return shown


def colored_balls(image: np.ndarray) -> np.ndarray:
    """Return the number of the ball whose color each pixel has, int, [H, W]; −1 for none."""
    hue = image[..., :3] / np.maximum(image[..., :3].max(-1, keepdims=True), 1)
    known = COLORS / COLORS.max(-1, keepdims=True)
    nearest = np.abs(hue[..., None, :] - known).sum(-1).argmin(-1)
    return np.where(image[..., 3] > 127, nearest, -1)


def draw_toy(camera: Camera, time: float) -> np.ndarray:
    """Draw the toy in flat colors, RGBA, uint8, [H, W, 4]."""
    shown = visible_balls(camera, time)
    image = np.zeros((*shown.shape, 4), np.uint8)
    image[shown >= 0, :3] = COLORS[shown[shown >= 0]]
    image[shown >= 0, 3] = 255
    return image


@pytest.fixture
def toy_image() -> Callable[[Camera, float], np.ndarray]:
    """Return a function that draws the toy, as `draw_toy`."""
    return draw_toy


@pytest.fixture
def toy_agreement() -> Callable[[Grid], float]:
    """Return a function: the worst share of an image's pixels of the toy that are where they are.

    It is the intersection over the union of the pixels of each ball, all balls together.
    """

    def agreement(grid: Grid) -> float:
        worst = 1.0
        for index in range(len(grid)):
            drawn = visible_balls(grid.camera_of(index), grid.time_of(index))
            found = colored_balls(grid.images[index])
            either = (drawn >= 0) | (found >= 0)
            worst = min(worst, float((drawn == found)[either].mean()))
        return worst

    return agreement
