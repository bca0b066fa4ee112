"""Image pyramids: averaging, cameras and object boxes."""

import numpy as np
import pytest
import torch

from recon.fitting.image_pyramid import ImagePyramid, object_boxes
from recon.grid import Grid, grid_from_views, orbit_camera


def grid(height: int, width: int, V: int = 2, T: int = 2, seed: int = 0) -> Grid:
    """Noise in a box of random place, transparent elsewhere."""
    random = np.random.default_rng(seed)
    images = np.zeros((V, T, height, width, 4), np.uint8)
    for image in images.reshape(-1, height, width, 4):
        top, left = random.integers(0, height // 2), random.integers(0, width // 2)
        area = image[top : top + height // 3, left : left + width // 3]
        area[:] = random.integers(0, 256, area.shape)
    cameras = [orbit_camera(90 * v, 0, 3.2, 33.8, height, width) for v in range(V)]
    return grid_from_views(cameras, images)


def premultiplied(images: torch.Tensor) -> torch.Tensor:
    straight = images.double() / 255
    return torch.cat([straight[..., :3] * straight[..., 3:], straight[..., 3:]], dim=-1)


def test_the_full_size_has_the_original_images():
    images = grid(24, 36)
    level = ImagePyramid(images).level(36)
    assert np.array_equal(level.images.numpy(), images.images)
    assert (level.height, level.width) == (24, 36)
    assert level.cameras == [images.cameras[view] for view in images.view]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((24, 36), 18, (12, 18)),
        ((36, 24), 18, (18, 12)),
        ((24, 24), 7, (7, 7)),
        ((24, 36), 1000, (24, 36)),
        ((6, 200), 10, (1, 10)),
    ],
)
def test_the_longer_edge_has_the_given_size_but_images_never_grow(shape, size: int, expected):
    level = ImagePyramid(grid(*shape)).level(size)
    assert (level.height, level.width) == expected
    assert level.images.shape == (4, *expected, 4)
    assert all((camera.height, camera.width) == expected for camera in level.cameras)


def test_the_mean_of_premultiplied_colors_is_kept():
    images = grid(48, 48)
    full, small = (ImagePyramid(images).level(size) for size in (48, 12))
    means = [premultiplied(level.images).mean(dim=(1, 2)) for level in (full, small)]
    torch.testing.assert_close(means[1], means[0], atol=1e-3, rtol=0)


def test_every_small_pixel_is_the_mean_of_its_block():
    images = grid(48, 48)
    small = premultiplied(ImagePyramid(images).level(12).images)
    blocks = premultiplied(torch.from_numpy(images.images)).reshape(4, 12, 4, 12, 4, 4)
    torch.testing.assert_close(small, blocks.mean(dim=(2, 4)), atol=1.1 / 255, rtol=0)


def test_colors_of_transparent_pixels_do_not_bleed():
    images = grid(24, 24)
    dirty = images.images.copy()
    dirty[dirty[..., 3] == 0] = [255, 0, 255, 0]
    bled = Grid(images.cameras, images.times, dirty, images.view, images.frame)
    clean, found = (ImagePyramid(g).level(8).images for g in (images, bled))
    assert torch.equal(found, clean)


def test_a_small_camera_sees_what_the_large_one_does():
    images = grid(24, 36)
    level = ImagePyramid(images).level(12)
    point = np.array([0.2, 0.1, -0.3, 1.0])
    for index, camera in enumerate(level.cameras):
        full = images.camera_of(index)
        small_px, full_px = (c.K @ (c.viewmat @ point)[:3] for c in (camera, full))
        np.testing.assert_allclose(small_px[:2] / small_px[2] * 3, full_px[:2] / full_px[2])


@pytest.mark.parametrize("size", [40, 20, 9])
def test_boxes_contain_all_alpha_with_a_margin_inside_the_image(size: int):
    level = ImagePyramid(grid(40, 30)).level(size)
    for image, (x0, y0, x1, y1) in zip(level.images, level.boxes.tolist(), strict=True):
        assert 0 <= x0 < x1 <= level.width
        assert 0 <= y0 < y1 <= level.height
        outside = image[..., 3].clone()
        rows, columns = outside.nonzero().unbind(1)
        outside[y0:y1, x0:x1] = 0
        assert not outside.any()
        assert x0 == 0 or x0 <= int(columns.min()) - 2
        assert y1 == level.height or y1 >= int(rows.max()) + 3


def test_an_empty_image_has_an_empty_box():
    images = torch.zeros(2, 10, 12, 4, dtype=torch.uint8)
    images[1, 4, 5, 3] = 1
    boxes = object_boxes(images)
    assert boxes[0].tolist() == [0, 0, 0, 0]
    assert boxes[1].tolist() == [3, 2, 8, 7]
    assert boxes.dtype == torch.int32


def test_a_level_is_made_once():
    pyramid = ImagePyramid(grid(24, 24))
    assert pyramid.level(8) is pyramid.level(8)
