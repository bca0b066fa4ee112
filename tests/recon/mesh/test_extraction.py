import numpy as np
import pytest
import torch
import trimesh

from recon.errors import SceneError
from recon.gaussians import Gaussians, gaussians_from_points
from recon.mesh.extraction import density_grid, extract_mesh
from recon.rotations import quats_to_matrices
from recon.spherical_harmonics import fibonacci_sphere


def shell(count: int = 400, center: tuple = (0, 0, 0), opacity: float = 0.9) -> Gaussians:
    """A hollow ellipsoid of small Gaussians, half axes 0.5, 0.3 and 0.2."""
    points = torch.tensor(fibonacci_sphere(count) * (0.5, 0.3, 0.2) + center, dtype=torch.float32)
    return gaussians_from_points(points, torch.full((count, 3), 0.5), 0.03, opacity)


def joined(*parts: Gaussians) -> Gaussians:
    return Gaussians(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def test_the_mesh_is_closed_and_its_triangles_face_outwards():
    mesh = extract_mesh(shell(), faces=2000, resolution=48)
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    outside = mesh.vertices + 0.02 * mesh.normals()
    assert (np.linalg.norm(outside / (0.5, 0.3, 0.2), axis=1) > 1).all()


def test_the_mesh_has_the_size_of_the_object_and_no_cavity():
    mesh = extract_mesh(shell(), faces=2000, resolution=48)
    size = np.ptp(mesh.vertices, axis=0)
    np.testing.assert_allclose(size, [1.0, 0.6, 0.4], atol=0.16)
    assert len(trimesh.Trimesh(mesh.vertices, mesh.faces).split()) == 1


def test_the_number_of_faces_is_limited():
    assert len(extract_mesh(shell(), faces=300, resolution=48).faces) <= 300


def test_separate_parts_are_kept_and_floaters_removed():
    speck = shell(1, (0, 0, 0.9))
    speck = speck._replace(scales=speck.scales - 1.5)
    mesh = extract_mesh(joined(shell(), shell(300, (0, 0.9, 0)), speck), 4000, resolution=64)
    assert len(trimesh.Trimesh(mesh.vertices, mesh.faces).split()) == 2
    assert mesh.vertices[:, 2].max() < 0.5


def test_an_outlier_does_not_coarsen_the_mesh():
    alone = extract_mesh(shell(), 2000, resolution=48)
    with_stray = extract_mesh(joined(shell(), shell(1, (40, 0, 0))), 2000, resolution=48)
    np.testing.assert_allclose(np.ptp(with_stray.vertices, 0), np.ptp(alone.vertices, 0), atol=0.01)


def test_the_density_is_the_sum_of_the_gaussians():
    generator = torch.Generator().manual_seed(0)
    gaussians = shell(20)._replace(
        quats=torch.randn(20, 4, generator=generator),
        scales=torch.rand(20, 3, generator=generator) - 2.5,
    )
    density, origin, voxel = density_grid(gaussians, 40)
    index = np.array([[20, 12, 9], [12, 14, 7], [25, 10, 10]])
    points = torch.tensor(index * voxel + origin, dtype=torch.float32)
    axes = quats_to_matrices(gaussians.quats)
    covariances = (axes * gaussians.scales.exp()[:, None] ** 2) @ axes.transpose(1, 2)
    covariances += voxel**2 / 4 * torch.eye(3)
    offsets = points[:, None] - gaussians.means
    squares = torch.einsum("pni,nij,pnj->pn", offsets, covariances.inverse(), offsets)
    expected = (0.9 * torch.exp(-squares / 2)).sum(dim=1)
    np.testing.assert_allclose(density[tuple(index.T)], expected, atol=0.02)


def test_normals_of_moved_vertices_move_along():
    mesh = extract_mesh(shell(), faces=500, resolution=32)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = mesh.normals(mesh.vertices @ quarter.T)
    np.testing.assert_allclose(turned, mesh.normals() @ quarter.T, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1)


def test_transparent_gaussians_have_no_surface():
    with pytest.raises(SceneError, match="opacity above"):
        extract_mesh(shell(opacity=0.05), faces=100, resolution=32)


def test_a_density_below_the_level_has_no_surface():
    with pytest.raises(SceneError, match="density above"):
        extract_mesh(shell(count=12, opacity=0.15), faces=100, resolution=32)


def test_gaussians_as_large_as_the_object_have_no_surface():
    with pytest.raises(SceneError, match=r"smaller than the object.* 1;"):
        extract_mesh(shell(1), faces=2000, resolution=48)
