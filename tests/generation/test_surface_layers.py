from collections.abc import Sequence

import numpy as np
import pytest
import trimesh

from generation.curation.figures.asset import FigureAsset
from generation.curation.render.fast_renderer import FastRenderer
from generation.curation.render.settings import RenderSettings
from generation.surface_layers import (
    BACK,
    FIRST_EXIT,
    FRONT,
    LAST_ENTRY,
    SMALLEST_GAP,
    SurfaceLayers,
    layer_normals,
    solid_layers,
)
from recon.grid import orbit_camera
from recon.native.library import built
from recon.native.mesh import Crossings, NativeMesh, ShadowMaps, image_from_world

needs_kernels = pytest.mark.skipif(not built(), reason="the CPU kernels were not compiled")
CAMERA = orbit_camera(0, 0, 3.2, 33.8, 33, 33)
MIDDLE = 16, 16  # the pixel whose ray is the optical axis
NO_SHADOWS = ShadowMaps(
    np.eye(3, 4, dtype=np.float32)[None],
    np.array([[0, 0, 1]], np.float32),
    np.full((1, 4, 4), -3e38, np.float32),
)


def crossings(*rays: Sequence[tuple[float, int]], double_sided: bool = True) -> Crossings:
    """The crossings (depth, winding) of one ray per pixel; color and normal tell their index."""
    flat = [crossing for ray in rays for crossing in ray]
    index = np.arange(len(flat))
    return Crossings(
        np.repeat(np.arange(len(rays), dtype=np.int32), [len(ray) for ray in rays]),
        index.astype(np.int32),
        np.array([depth for depth, _ in flat], np.float32),
        np.array([winding for _, winding in flat], np.int8),
        np.array([winding > 0 or double_sided for _, winding in flat], np.bool_),
        np.tile(index[:, None], 3).astype(np.float32),
        np.tile(index[:, None], 3).astype(np.uint8),
    )


def layers(*ray: tuple[float, int]) -> SurfaceLayers:
    return solid_layers(crossings(list(ray)), 1, 1)


def depths(*ray: tuple[float, int]) -> list[float]:
    return layers(*ray).depth[:, 0, 0].round(4).tolist()


def test_one_part_has_its_inner_layers_in_the_middle():
    found = layers((2, 1), (3, -1))
    assert found.depth[:, 0, 0].tolist() == [2, 2.5, 2.5, 3]
    assert found.color[:, 0, 0, 0].tolist() == [0, 1, 0, 1]
    assert found.mask.all() and not found.gap.any()


def test_two_parts_have_a_gap_between_exit_and_entry():
    found = layers((2, 1), (2.5, -1), (3, 1), (3.5, -1))
    assert found.depth[:, 0, 0].tolist() == [2, 2.5, 3, 3.5]
    assert found.color[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert found.gap.all()


def test_of_three_parts_the_first_and_the_last_are_kept():
    found = layers((1, 1), (1.5, -1), (2, 1), (2.5, -1), (3, 1), (3.5, -1))
    assert found.depth[:, 0, 0].tolist() == [1, 1.5, 3, 3.5]
    assert found.gap.all()


def test_nested_and_overlapping_solids_are_one_part():
    assert depths((1, 1), (2, 1), (3, -1), (4, -1)) == [1, 2.5, 2.5, 4]
    assert depths((1, 1), (2, 1), (2.2, 1), (2.8, -1), (3, -1), (4, -1)) == [1, 2.5, 2.5, 4]


def test_parts_that_nearly_touch_are_one_part():
    near, far = 0.9 * SMALLEST_GAP, 1.1 * SMALLEST_GAP
    assert depths((1, 1), (2, -1), (2 + near, 1), (3, -1)) == [1, 2, 2, 3]
    found = layers((1, 1), (2, -1), (2 + far, 1), (3, -1))
    assert found.gap.all()
    np.testing.assert_allclose(found.depth[:, 0, 0], [1, 2, 2 + far, 3])
    several = [(1 + k * near, winding) for k in range(5) for winding in (1, -1)]
    assert depths(*several, (2, 1), (3, -1)) == pytest.approx([1, 1 + 4 * near, 2, 3], abs=1e-4)


@pytest.mark.parametrize("winding", [1, -1])
def test_a_sheet_has_no_thickness(winding):
    found = layers((2, winding))
    assert found.depth[:, 0, 0].tolist() == [2, 2, 2, 2]
    assert found.mask.all() and not found.gap.any()


@pytest.mark.parametrize("winding", [1, -1])
def test_a_sheet_before_or_behind_a_solid_is_a_part_of_its_own(winding):
    assert depths((1, winding), (2, 1), (3, -1)) == [1, 1, 2, 3]
    assert depths((2, 1), (3, -1), (4, winding)) == [2, 3, 4, 4]
    assert depths((1, winding), (2, 1), (2.5, -1), (4, winding)) == [1, 1, 4, 4]


def test_an_inverted_solid_is_two_sheets():
    assert depths((2, -1), (3, 1)) == [2, 2, 3, 3]


def test_the_back_of_a_single_sided_sheet_is_no_part():
    def depths(*ray):
        return solid_layers(crossings(ray, double_sided=False), 1, 1).depth[:, 0, 0].tolist()

    assert depths((2, -1)) == [0, 0, 0, 0]
    assert depths((2, 1)) == [2, 2, 2, 2]
    assert depths((2, 1), (3, -1)) == [2, 2.5, 2.5, 3]
    assert depths((1, -1), (2, 1), (3, -1)) == [2, 2.5, 2.5, 3]
    assert depths((2, 1), (3, -1), (4, -1)) == [2, 2.5, 2.5, 3]
    assert depths((1, -1), (2, 1), (3, -1), (4, 1)) == [2, 3, 4, 4]  # a hull drawn as an outline


def test_a_doubled_sheet_and_a_plate_without_thickness_are_thin():
    assert depths((2, 1), (2, -1)) == [2, 2, 2, 2]
    assert depths((2, 1), (2, -1), (3, 1), (4, -1)) == [2, 2, 3, 4]


@pytest.mark.parametrize("double_sided", [True, False])
def test_rays_do_not_depend_on_their_neighbors(double_sided):
    """Against the definition, one ray at a time, for random windings."""
    rng = np.random.default_rng(0)
    rays = []
    for _ in range(400):
        count = rng.integers(0, 9)
        depth = 1 + 0.015 * np.sort(rng.integers(0, 200, count))  # never just SMALLEST_GAP apart
        rays.append([(d, int(w)) for d, w in zip(depth, rng.choice([-1, 1], count), strict=True)])
    found = solid_layers(crossings(*rays, double_sided=double_sided), 20, 20)
    for pixel, ray in enumerate(rays):
        parts = plain_parts(ray, double_sided)
        row, column = divmod(pixel, 20)
        assert found.mask[row, column] == bool(parts)
        assert found.gap[row, column] == (len(parts) > 1)
        expected = [0, 0, 0, 0]
        if parts:
            (front, first_exit), (last_entry, back) = parts[0], parts[-1]
            middle = (front + back) / 2
            inner = [first_exit, last_entry] if len(parts) > 1 else [middle, middle]
            expected = [front, *inner, back]
        np.testing.assert_allclose(found.depth[:, row, column], expected, atol=1e-5)


def plain_parts(ray: list[tuple[float, int]], double_sided: bool) -> list[tuple[float, float]]:
    """The definition in `layer_crossings`, in the plainest form."""
    entries, parts = [], []
    for depth, winding in ray:
        if winding > 0:
            entries.append(depth)
        elif entries or double_sided:
            parts.append((entries.pop() if entries else depth, depth))
    merged: list[tuple[float, float]] = []
    for start, end in sorted(parts + [(depth, depth) for depth in entries]):
        if merged and start - merged[-1][1] <= SMALLEST_GAP:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def test_a_view_without_crossings_is_empty():
    found = solid_layers(crossings(), 3, 4)
    assert found.depth.shape == (4, 3, 4) and found.color.shape == (4, 3, 4, 3)
    assert not any(array.any() for array in found)
    assert not layer_normals(crossings(), 3, 4).any()


def test_pixels_are_in_row_major_order():
    found = solid_layers(crossings([], [], [], [], [(2, 1), (3, -1)], []), 2, 3)
    assert np.argwhere(found.mask).tolist() == [[1, 1]]


def test_normals_are_those_of_the_selected_crossings():
    rays = [(1, 1), (1.5, -1), (2, 1), (2.5, -1), (3, 1), (3.5, -1)], [], [(2, 1), (3, -1)]
    normals = layer_normals(crossings(*rays), 1, 3)
    assert normals[:, 0, 0, 0].tolist() == [0, 1, 4, 5]
    assert not normals[:, 0, 1].any()
    assert normals[:, 0, 2, 0].tolist() == [6, 7, 6, 7]


def trace(*parts: trimesh.Trimesh, camera=CAMERA) -> Crossings:
    mesh = trimesh.util.concatenate(list(parts))
    assert isinstance(mesh, trimesh.Trimesh)
    normals = mesh.face_normals[:, None].repeat(3, axis=1)
    drawable = NativeMesh(mesh.vertices, mesh.faces, normals)
    size = camera.height, camera.width
    return drawable.crossings(image_from_world(camera), *size, NO_SHADOWS, 1.0, 0.0)


def box(size: float, y: float) -> trimesh.Trimesh:
    made = trimesh.creation.box((size, 0.2, size))
    made.apply_translation((0, y, 0))
    return made


@needs_kernels
def test_boxes_behind_one_another_are_told_apart():
    camera = 3.2
    for ys, gap in (((0.1,), False), ((-0.4, 0.3), True), ((-0.6, 0.0, 0.6), True)):
        found = solid_layers(trace(*(box(0.5, y) for y in ys)), 33, 33)
        front, back = camera + ys[0] - 0.1, camera + ys[-1] + 0.1
        inner = [front + 0.2, back - 0.2] if gap else [(front + back) / 2] * 2
        np.testing.assert_allclose(found.depth[:, *MIDDLE], [front, *inner, back], rtol=1e-5)
        assert found.gap[MIDDLE] == gap


@needs_kernels
def test_layers_of_a_box_have_the_normals_of_its_sides():
    normals = layer_normals(trace(box(0.5, -0.4), box(0.5, 0.3)), 33, 33)
    towards, away = [0, -1, 0], [0, 1, 0]
    np.testing.assert_allclose(normals[:, *MIDDLE], [towards, away, towards, away], atol=1e-6)


@needs_kernels
def test_layers_of_a_sphere_are_where_rays_meet_it():
    radius = 0.7
    mesh = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    found = trace(mesh)
    layers, normals = solid_layers(found, 33, 33), layer_normals(found, 33, 33)
    rows, columns = np.mgrid[:33, :33] + 0.5
    ray = np.stack([(columns - 16.5) / CAMERA.fl_x, rows * 0 + 1, (16.5 - rows) / CAMERA.fl_y], -1)
    length = (ray**2).sum(-1)
    root = (3.2 / length) ** 2 - (3.2**2 - radius**2) / length
    inside = root * length > 0.1 * radius**2
    half = np.sqrt(root.clip(0))
    for layer, depth in ((FRONT, 3.2 / length - half), (BACK, 3.2 / length + half)):
        np.testing.assert_allclose(layers.depth[layer][inside], depth[inside], atol=1e-3)
        outwards = (depth[..., None] * ray - [0, 3.2, 0]) / radius
        assert ((normals[layer] * outwards).sum(-1)[inside] > 0.99).all()
    np.testing.assert_allclose(layers.depth[FIRST_EXIT], layers.depth[LAST_ENTRY])
    assert layers.mask[inside].all() and not layers.gap.any() and not layers.mask[root < 0].any()


@needs_kernels
def test_nested_shells_are_one_part():
    shells = [trimesh.creation.icosphere(subdivisions=2, radius=r) for r in (0.2, 0.4, 0.6)]
    whole, outer = (solid_layers(trace(*s), 33, 33) for s in (shells, shells[-1:]))
    for one, other in zip(whole, outer, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_kernels
def test_an_open_box_is_as_thick_as_its_walls_say():
    """Without its front, a ray meets only the inside of its back; without its back, the front."""
    mesh = trimesh.creation.box((1.0, 0.5, 1.0))
    for side, depth in ((-1, 3.45), (1, 2.95)):
        kept = np.abs(mesh.face_normals[:, 1] - side) > 0.5
        opened = trimesh.Trimesh(mesh.vertices, mesh.faces[kept], process=False)
        found = solid_layers(trace(opened), 33, 33)
        np.testing.assert_allclose(found.depth[:, *MIDDLE], [depth] * 4, rtol=1e-5)


@needs_kernels
def test_layers_of_characters_agree_with_the_images():
    settings = RenderSettings(views=2, frames=2, size=64)
    baked, _ = FigureAsset(3).bake(settings)
    renderer, cameras = FastRenderer(baked, settings.light, 16), settings.cameras()
    images = renderer.render(1, cameras)
    for image, camera, found in zip(images, cameras, renderer.crossings(1, cameras), strict=True):
        assert not np.bincount(found.pixel, found.winding, 64 * 64).any()
        layers = solid_layers(found, 64, 64)
        truth = renderer.surface_truth(1, camera)
        inside = truth.triangle >= 0
        assert np.mean(layers.mask == inside) > 0.999
        both = inside & layers.mask
        near = np.abs(layers.depth[FRONT] - truth.depth)[both] < 1e-3
        assert near.mean() > 0.998
        assert (np.diff(layers.depth, axis=0) >= 0).all()
        normals = layer_normals(found, 64, 64)
        agree = (normals[FRONT] * truth.normals).sum(-1)[both]
        assert (agree[near] > 0.999).mean() > 0.99
        solid = image[..., 3] == 255
        difference = np.abs(layers.color[FRONT].astype(int) - image[..., :3])[solid & both]
        assert np.median(difference) < 4
        assert difference.mean() < 10
