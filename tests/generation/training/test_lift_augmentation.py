"""Random changes keep what the truth needs: unit normals, closed meshes, colors in range."""

from dataclasses import replace

import numpy as np
import pytest

from generation.curation.figures.asset import FigureAsset
from generation.curation.render.baked_asset import MeshFrame, Surface
from generation.curation.render.settings import Renderer, RenderSettings
from generation.training.lift_augmentation import (
    deformed,
    degraded,
    painted,
    recolored,
    tinted,
)
from generation.training.lift_samples import LiftSampling, draw_sample


@pytest.fixture(scope="module")
def clip():
    return FigureAsset(3).bake(RenderSettings(frames=1, renderer=Renderer.fast)).asset


def sphere(points: int = 4000) -> MeshFrame:
    """Return tiny triangles on the unit sphere, with its normals."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(points, 3))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    across = np.cross(centers, rng.normal(size=(points, 3)))
    across *= 1e-3 / np.linalg.norm(across, axis=1, keepdims=True)
    corners = np.stack([centers, centers + across, centers + np.cross(centers, across)], 1)
    vertices = corners.reshape(-1, 3).astype(np.float32)
    triangles = np.arange(3 * points, dtype=np.int32).reshape(-1, 3)
    normals = np.repeat(centers[:, None], 3, 1).astype(np.float32)
    return MeshFrame(
        vertices,
        triangles,
        normals,
        np.zeros((1, points, 3, 2), np.float32),
        np.ones((points, 3, 4), np.float32),
        np.zeros(points, np.int32),
    )


def test_normals_stay_perpendicular_to_the_deformed_surface():
    frame = deformed(sphere(), 0.3, np.random.default_rng(1))
    a, b, c = frame.vertices.astype(np.float64)[frame.triangles].transpose(1, 0, 2)
    faces = np.cross(b - a, c - a)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    assert np.linalg.norm(frame.normals, axis=-1) == pytest.approx(1, abs=1e-4)
    assert ((faces * frame.normals[:, 0]).sum(1) > 0.999).all()
    assert np.abs(frame.vertices - sphere().vertices).max() > 0.05


def test_a_deformation_without_strain_changes_nothing(clip):
    frame = clip.frames[0]
    same = deformed(frame, 0.0, np.random.default_rng(0))
    assert np.array_equal(same.vertices, frame.vertices)
    assert same.normals == pytest.approx(frame.normals, abs=1e-6)


def test_a_deformation_is_nearly_symmetric():
    frame = sphere()
    twin = replace(frame, vertices=frame.vertices * np.array([-1, 1, 1], np.float32))
    whole, asymmetric = [], []
    for seed in range(20):
        moved = deformed(frame, 0.3, np.random.default_rng(seed)).vertices
        other = deformed(twin, 0.3, np.random.default_rng(seed)).vertices * [-1, 1, 1]
        whole.append(np.abs(moved - frame.vertices).mean())
        asymmetric.append(np.abs(moved - other).mean())
    assert 0 < np.mean(asymmetric) < 0.5 * np.mean(whole)


def test_tints_and_patterns_keep_alpha_and_range(clip):
    rng = np.random.default_rng(0)
    surface = tinted(Surface(base_color=(0.9, 0.2, 0.4, 0.5)), rng)
    assert surface.base_color[3] == 0.5
    assert all(0 <= part <= 1 for part in surface.base_color)
    assert surface.base_color[:3] != (0.9, 0.2, 0.4)
    frame = clip.frames[0]
    colors = painted(frame, rng).colors
    assert np.array_equal(colors[..., 3], frame.colors[..., 3])
    assert (colors[..., :3] > 0).all()


def test_all_images_of_a_sample_are_recolored_alike():
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (6, 6, 4), np.uint8)
    one, other = recolored([image, image[..., :3]], rng)
    assert np.array_equal(one[..., :3], other)
    assert np.array_equal(one[..., 3], image[..., 3])
    assert not np.array_equal(other, image[..., :3])


def test_a_degraded_image_keeps_its_size_and_most_of_its_mask():
    image = np.zeros((32, 32, 4), np.uint8)
    image[8:24, 8:24] = 200, 100, 50, 255
    changed = 0
    for seed in range(30):
        found = degraded(image, np.random.default_rng(seed))
        assert (found.shape, found.dtype) == (image.shape, np.uint8)
        assert np.abs((found[..., 3] > 127).sum() - 256.0) <= 4 * 16 + 4
        assert np.abs(found[12:20, 12:20, :3].mean((0, 1)) - image[16, 16, :3]).max() < 12
        changed += not np.array_equal(found, image)
    assert changed > 15


def test_an_asset_without_a_front_has_no_yaw(clip):
    sampling = LiftSampling(size=32)
    front, none = (
        draw_sample([clip], sampling, np.random.default_rng(0), has_front=has_front)
        for has_front in (True, False)
    )
    assert not np.isnan(front.yaw)
    assert np.isnan(none.yaw)
    assert np.array_equal(front.image, none.image)
