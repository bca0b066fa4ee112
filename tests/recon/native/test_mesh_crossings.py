"""Crossings of rays with meshes, on every instruction set, against a reference in NumPy."""

import numpy as np
import pytest
import trimesh

from recon.grid import orbit_camera
from recon.native.build import variants
from recon.native.library import Kernels, built, kernels
from recon.native.mesh import Crossings, NativeMesh, ShadowMaps, image_from_world
from recon.rasterizers.crossings_reference import mesh_crossings_reference

pytestmark = pytest.mark.skipif(not built(), reason="the CPU kernels were not compiled")

CAMERA = orbit_camera(30, 20, 3.2, 33.8, 40, 48)
FRONT = orbit_camera(0, 0, 3.2, 33.8, 33, 33)  # the ray of the middle pixel is the optical axis
MIDDLE = 33 * 16 + 16
NO_SHADOWS = ShadowMaps(
    np.eye(3, 4, dtype=np.float32)[None],
    np.array([[0, 0, 1]], np.float32),
    np.full((1, 4, 4), -3e38, np.float32),
)
SQUARE = np.array([[0, 1, 2], [0, 2, 3]])


@pytest.fixture(params=sorted(variants()), autouse=True)
def instruction_set(request, monkeypatch):
    """Runs each test once for each instruction set of this processor."""
    supported = ["generic", "avx2", "avx512"]
    monkeypatch.delenv("FOURDVD_ISA", raising=False)
    best = Kernels().variant
    if supported.index(request.param) > supported.index(best):
        pytest.skip(f"this processor has no {request.param}, its best is {best}")
    monkeypatch.setenv("FOURDVD_ISA", request.param)
    kernels.cache_clear()
    assert kernels().variant == request.param
    yield
    kernels.cache_clear()


def trace(vertices, faces, camera=CAMERA) -> Crossings:
    normals = np.ones((len(faces), 3, 3))
    size = camera.height, camera.width
    drawable = NativeMesh(vertices, faces, normals)
    return drawable.crossings(image_from_world(camera), *size, NO_SHADOWS, 1.0, 0.0)


def trace_plainly(vertices, faces, camera=CAMERA):
    size = camera.height, camera.width
    return mesh_crossings_reference(vertices, faces, image_from_world(camera), *size)


def winding_numbers(found: Crossings, camera=CAMERA) -> np.ndarray:
    """Sums of the windings along each ray, [H · W]."""
    return np.bincount(found.pixel, found.winding, camera.height * camera.width)


def assert_sorted(found: Crossings) -> None:
    assert (np.diff(found.pixel) >= 0).all()
    same = np.diff(found.pixel) == 0
    assert (np.diff(found.depth)[same] >= 0).all()
    assert set(np.unique(found.winding)) <= {-1, 1}


def sphere(radius=0.7, center=(0, 0, 0), subdivisions=3):
    made = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(made.vertices) + center, np.asarray(made.faces)


def box(extents=(1.2, 0.7, 0.9), center=(0, 0, 0)):
    made = trimesh.creation.box(extents=extents)
    return np.asarray(made.vertices) + center, np.asarray(made.faces)


def joined(*parts):
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [faces + start for (_, faces), start in zip(parts, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces)


def soup(seed, count=40, size=0.8):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.8, 0.8, (count, 1, 3)) + rng.uniform(-size, size, (count, 3, 3))
    return points.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


def square(y, size=1.0):
    """A square across the optical axis of `FRONT`, whose front faces the camera."""
    corners = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]) * size / 2
    return corners + np.array([0, y, 0]), SQUARE


MESHES = {
    "sphere": sphere(),
    "coarse sphere": sphere(subdivisions=1),
    "box": box(),
    "soup": soup(0),
    "large triangles across the camera plane": soup(1, 60, 6.0),
    "tiny triangles": soup(2, 800, 0.03),
    "slivers": (soup(3)[0] * [1, 1, 1e-3], soup(3)[1]),
    "all behind the camera": (soup(4)[0] + 20 * CAMERA.position, soup(4)[1]),
    "no triangles": (np.zeros((0, 3)), np.zeros((0, 3), int)),
}


@pytest.mark.parametrize("name", MESHES)
def test_kernel_and_reference_agree(name):
    found, expected = trace(*MESHES[name]), trace_plainly(*MESHES[name])
    assert_sorted(found)
    ids = [each.pixel.astype(np.int64) * (1 + len(MESHES[name][1])) + each.triangle
           for each in (found, expected)]  # fmt: skip
    _, a, b = np.intersect1d(*ids, assume_unique=True, return_indices=True)
    assert len(a) >= 0.998 * max(len(ids[0]), len(ids[1]))  # rays through an edge
    np.testing.assert_array_equal(found.winding[a], expected.winding[b])
    np.testing.assert_allclose(found.depth[a], expected.depth[b], rtol=1e-4, atol=1e-4)
    assert (len(a) > 50) == (name not in ("all behind the camera", "no triangles"))


def test_entry_and_exit_of_a_sphere():
    radius, center = 0.6, np.array([0.1, -0.2, 0.15])
    vertices, faces = sphere(radius, center, subdivisions=5)
    found = trace(vertices, faces)
    rows, columns = np.mgrid[:40, :48].reshape(2, -1) + 0.5
    rays = np.stack([(columns - 24) / CAMERA.fl_x, (rows - 20) / CAMERA.fl_y, columns * 0 + 1], 1)
    rays = rays @ CAMERA.viewmat[:3, :3]
    towards = center - CAMERA.position
    length = (rays**2).sum(1)
    half = (rays @ towards) / length
    root = half**2 - (towards @ towards - radius**2) / length
    inside = root * length > 0.1 * radius**2  # at the rim, the polyhedron is not the sphere
    outside = root < 0
    counts = np.bincount(found.pixel, minlength=len(rays))
    assert (counts[inside] == 2).all() and not counts[outside].any()
    kept = inside[found.pixel]
    entry, leave = found.depth[kept].reshape(-1, 2).T
    np.testing.assert_allclose(entry, (half - np.sqrt(root.clip(0)))[inside], atol=1e-3)
    np.testing.assert_allclose(leave, (half + np.sqrt(root.clip(0)))[inside], atol=1e-3)
    np.testing.assert_array_equal(found.winding[kept].reshape(-1, 2), [[1, -1]] * inside.sum())


def test_entry_and_exit_of_a_box_on_the_optical_axis():
    vertices, faces = box((1.0, 0.7, 0.8), (0, 0.1, 0))
    found = trace(vertices, faces, FRONT)
    assert not winding_numbers(found, FRONT).any()
    middle = found.pixel == MIDDLE
    np.testing.assert_allclose(found.depth[middle], [2.95, 3.65], rtol=1e-6)
    assert found.winding[middle].tolist() == [1, -1]


def test_nested_shells_are_entered_before_they_are_left():
    found = trace(*joined(*(sphere(r, subdivisions=2) for r in (0.3, 0.5, 0.7))), FRONT)
    middle = found.pixel == MIDDLE
    assert found.winding[middle].tolist() == [1, 1, 1, -1, -1, -1]


def test_an_inverted_mesh_has_inverted_windings():
    vertices, faces = soup(5)
    found, inverted = trace(vertices, faces), trace(vertices, faces[:, ::-1])
    np.testing.assert_array_equal(found.pixel, inverted.pixel)
    np.testing.assert_array_equal(found.triangle, inverted.triangle)
    np.testing.assert_array_equal(found.winding, -inverted.winding)
    np.testing.assert_array_equal(found.depth, inverted.depth)


def test_a_sheet_is_crossed_once():
    found = trace(*square(0.2), FRONT)
    counts = np.bincount(found.pixel, minlength=33 * 33)
    assert set(np.unique(counts)) == {0, 1}
    np.testing.assert_allclose(found.depth, 3.4, rtol=1e-6)
    assert (found.winding == 1).all()
    assert MIDDLE in found.pixel  # the ray through the diagonal, which both triangles contain


@pytest.mark.parametrize("seed", range(12))
def test_each_ray_leaves_a_closed_mesh_as_often_as_it_enters(seed):
    """Also where rays meet edges and corners: some meshes are on a lattice that the rays hit."""
    rng = np.random.default_rng(seed)
    vertices, faces = sphere(0.7, subdivisions=seed % 4)
    if seed % 2:
        vertices = rng.uniform(-0.8, 0.8, vertices.shape)  # intersects itself
    else:
        vertices = vertices * rng.uniform(0.1, 1.2, (len(vertices), 1))
    azimuth, elevation = rng.uniform(-180, 180), rng.uniform(-60, 60)
    if seed % 3 == 0:
        vertices = np.round(vertices * 8) / 8
        azimuth, elevation = 90 * (seed % 4), 0
    size = (16, 33, 64)[seed % 3]
    camera = orbit_camera(azimuth, elevation, 3.2, 33.8, size, size)
    found = trace(vertices, faces, camera)
    assert_sorted(found)
    assert len(found.pixel) > 50
    assert not winding_numbers(found, camera).any()


def test_rays_through_corners_and_edges_of_boxes_leave_them_as_often_as_they_enter():
    """Parallel rays through the lattice on which all corners of the boxes lie."""
    T = np.array([[1.0, 0, 0, 0.5], [0, 1, 0, 0.5], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    for _ in range(20):
        low, extents = rng.integers(0, 6, (6, 3)), rng.integers(1, 5, (6, 3))
        boxes = [box(size, at + size / 2) for at, size in zip(low, extents, strict=True)]
        vertices, faces = joined(*boxes)
        drawable = NativeMesh(vertices, faces, np.ones((len(faces), 3, 3)))
        found = drawable.crossings(T, 10, 10, NO_SHADOWS, 1.0, 0.0)
        assert not np.bincount(found.pixel, found.winding, 100).any()
        assert len(found.pixel) == 2 * extents[:, :2].prod(axis=1).sum()


def test_meshes_with_doubled_vertices_are_closed_too():
    vertices, faces = sphere(0.7, subdivisions=3)
    found = trace(vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3))
    assert not winding_numbers(found).any()
    np.testing.assert_array_equal(found.depth, trace(vertices, faces).depth)


def test_a_ray_enters_before_it_leaves_at_a_silhouette():
    """The winding number along a ray that starts outside of a solid is never negative."""
    for seed in range(8):
        camera = orbit_camera(45 * seed, 0, 3.2, 33.8, 65, 65)
        for vertices, faces in (box((0.8, 0.8, 0.8)), sphere(0.7, subdivisions=2)):
            found = trace(vertices, faces, camera)
            assert np.cumsum(found.winding).min() >= 0


def test_only_the_part_of_a_mesh_before_the_camera_is_crossed():
    found = trace(*joined(square(0.0), square(-9.0), square(-3.2)), FRONT)
    np.testing.assert_allclose(found.depth, 3.2, rtol=1e-6)
    within = trace(*sphere(9.0, subdivisions=2), FRONT)  # the camera is inside
    assert (winding_numbers(within, FRONT) == -1).all()
    assert (within.depth > 0).all()


def test_more_crossings_than_expected_are_all_found():
    camera = orbit_camera(0, 0, 3.2, 33.8, 12, 12)
    vertices, faces = joined(*(square(y, 3.0) for y in np.linspace(-0.8, 0.8, 30)))
    found = trace(vertices, faces, camera)
    assert len(found.pixel) == 30 * 144
    assert_sorted(found)
    np.testing.assert_allclose(
        found.depth.reshape(144, 30), [np.linspace(2.4, 4.0, 30)] * 144, rtol=1e-5
    )


def test_degenerate_triangles_and_nan_are_not_crossed():
    vertices = np.array([[0, 0, 0], [0.5, 0, 0], [0.25, 0, 0], [np.nan, 0, 0.5], [0.2, 0, 0.4]])
    assert len(trace(vertices, np.array([[0, 1, 2], [0, 1, 3], [0, 0, 4], [4, 4, 4]])).pixel) == 0
