"""A closed triangle mesh around Gaussians: density on a grid, marching cubes, cleaning, decimation.

    Gaussians ──density──▶ grid ──marching cubes──▶ triangles ──clean, smooth, decimate──▶ Mesh

Letters: P vertices, F triangles, N Gaussians. Frame: world, +Z up; normals point outwards.
What it does not know: time, colour.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import trimesh
from skimage.measure import marching_cubes
from torch import Tensor

from recon.errors import SceneError
from recon.gaussians import Gaussians
from recon.rotations import quats_to_matrices

RESOLUTION = 160  # voxels along the longest side
LEVEL = 0.4  # of the density at the surface
OPACITY_MIN = 0.1  # fainter Gaussians are fog around the object
REACH = 2.5  # standard deviations; beyond, a Gaussian has about a tenth of `LEVEL` at most
FAR, WIDE = 2.0, 0.5  # times the object's radius: beyond are strays and backdrops
PART_MIN = 0.005  # of the largest part's area; smaller ones are floaters
PAIRS_AT_ONCE = 2**21  # Gaussian-voxel pairs; bounds the memory, not the result


class Mesh(NamedTuple):
    """Triangles with shared vertices.

    Attributes:
        vertices: in world units, float64, [P, 3].
        faces: corners, counter-clockwise seen from outside, int64, [F, 3].
    """

    vertices: np.ndarray
    faces: np.ndarray

    def normals(self, vertices: np.ndarray | None = None) -> np.ndarray:
        """Unit normals at the vertices, weighted by area, [P, 3].

        Args:
            vertices: other positions of the same vertices, [P, 3].
        """
        positions = self.vertices if vertices is None else vertices
        a, b, c = np.moveaxis(positions[self.faces], 1, 0)
        areas = np.cross(b - a, c - a)
        normals = np.zeros_like(positions)
        for corner in range(3):
            np.add.at(normals, self.faces[:, corner], areas)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        up = np.array([0.0, 0.0, 1.0])  # where a vertex has collapsed: glTF wants unit length
        return np.where(length > 0, normals / np.maximum(length, 1e-300), up)


def extract_mesh(gaussians: Gaussians, faces: int, resolution: int = RESOLUTION) -> Mesh:
    """The surface at which the Gaussians become dense.

    Args:
        gaussians: at one moment.
        faces: triangles, at most.
        resolution: voxels along the longest side of the object.

    Returns:
        A closed mesh without cavities or floaters.

    Raises:
        SceneError: the Gaussians are so few or so faint that they enclose nothing.
    """
    density, origin, voxel = density_grid(_solid(gaussians), resolution)
    if density.max() <= LEVEL:
        raise SceneError(
            f"the Gaussians enclose no surface: their density reaches {density.max():.2f}, "
            f"a mesh needs more than {LEVEL}; export splats, or fit the scene for longer"
        )
    vertices, triangles, _, _ = marching_cubes(  # "ascent" is what winds the triangles outwards
        density, LEVEL, spacing=(voxel,) * 3, gradient_direction="ascent"
    )
    mesh = _without_floaters(trimesh.Trimesh(vertices + origin, triangles))
    trimesh.smoothing.filter_taubin(mesh, iterations=6)
    if len(mesh.faces) > faces:
        mesh = mesh.simplify_quadric_decimation(face_count=faces)
    return Mesh(np.asarray(mesh.vertices), np.asarray(mesh.faces))


def density_grid(gaussians: Gaussians, resolution: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Sum of opacity times Gaussian at the corners of a grid.

    Half a voxel is added to the standard deviations, so that thin sheets are not missed.

    Args:
        gaussians: N of them.
        resolution: points along the longest side.

    Returns:
        The density [X, Y, Z], the position of its first point [3], and the distance between points.
        The outermost layer is 0.
    """
    rotations = quats_to_matrices(gaussians.quats)
    sigma = gaussians.scales.exp()
    variances = (rotations**2 @ sigma[:, :, None] ** 2).squeeze(-1)  # along the world's axes
    extent = REACH * variances.sqrt()
    low = (gaussians.means - extent).amin(0)
    size = (gaussians.means + extent).amax(0) - low
    voxel = float(size.max()) / (resolution - 3)
    origin = low - voxel
    shape = [int(side / voxel) + 3 for side in size]
    whitening = rotations.transpose(1, 2) / (sigma**2 + voxel**2 / 4).sqrt()[:, :, None]
    centre = (gaussians.means - origin) / voxel
    radii, group = (extent / voxel).ceil().long().unique(dim=0, return_inverse=True)
    density = torch.zeros(shape).flatten()
    for number, radius in enumerate(radii):
        some = torch.nonzero(group == number).squeeze(1)
        for part in some.split(max(1, PAIRS_AT_ONCE // int((2 * radius + 1).prod()))):
            index, inside, offset = _neighbourhood(centre[part], radius, shape)
            white = torch.einsum("nij,nmj->nmi", whitening[part] * voxel, offset)
            opacity = gaussians.opacities[part].sigmoid()[:, None]
            value = opacity * torch.exp(-white.square().sum(dim=-1) / 2)
            density.index_add_(0, index[inside], value[inside])
    return density.reshape(shape).numpy(), origin.double().numpy(), voxel


def _neighbourhood(
    centre: Tensor, radius: Tensor, shape: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Grid points around centres [n, 3] (in voxels): flat index [n, m], inside the grid, offset."""
    box = torch.cartesian_prod(*(torch.arange(-width, width + 1) for width in radius.tolist()))
    point = centre.round().long()[:, None] + box
    limits = torch.tensor(shape) - 1
    inside = ((point > 0) & (point < limits)).all(dim=-1)
    index = (point[..., 0] * shape[1] + point[..., 1]) * shape[2] + point[..., 2]
    return index, inside, point - centre[:, None]


def _solid(gaussians: Gaussians) -> Gaussians:
    """Those that can be part of a surface: not fog, not far away, not as large as the object."""
    gaussians = gaussians.map(lambda tensor: tensor.detach().float().cpu())
    opaque = gaussians.opacities.sigmoid() > OPACITY_MIN
    if not opaque.any():
        raise SceneError(
            f"none of the {len(opaque)} Gaussians is more opaque than {OPACITY_MIN}, so there is "
            "no surface; export splats, or fit the scene for longer"
        )
    gaussians = gaussians.map(lambda tensor: tensor[opaque])
    distance = (gaussians.means - gaussians.means.median(dim=0).values).norm(dim=1)
    radius = distance.quantile(0.99) + gaussians.scales.exp().median()
    sigma = gaussians.scales.exp().amax(dim=1)
    return gaussians.map(lambda tensor: tensor[(distance < FAR * radius) & (sigma < WIDE * radius)])


def _without_floaters(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Keeps the large parts; the walls of cavities have a negative volume and go as well."""
    parts = mesh.split(only_watertight=False)
    largest = max(part.area for part in parts)
    kept = [part for part in parts if part.area >= PART_MIN * largest and part.volume > 0]
    vertices, faces = trimesh.util.append_faces(
        [part.vertices for part in kept], [part.faces for part in kept]
    )
    return trimesh.Trimesh(vertices, faces)
