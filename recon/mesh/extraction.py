"""Extract a closed triangle mesh from Gaussians.

    Gaussians ──density──▶ grid ──marching cubes──▶ triangles ──clean, smooth, decimate──▶ Mesh

Letters: P vertices, F triangles, N Gaussians. Frame: world, +Z up; normals point outwards.
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
LEVEL = 0.4  # density at the surface
OPACITY_MIN = 0.1  # Gaussians with less opacity are treated as haze
CUTOFF_SIGMAS = 2.5  # beyond, a Gaussian contributes at most about a tenth of `LEVEL`
MAX_DISTANCE = 2.0  # from the median, in object radii; Gaussians beyond are outliers
MAX_SIGMA = 0.5  # standard deviation in object radii; larger Gaussians are backdrops
PART_AREA_MIN = 0.005  # relative to the largest part; smaller parts are floaters
PAIRS_AT_ONCE = 2**21  # Gaussian-voxel pairs; bounds the memory, not the result


class Mesh(NamedTuple):
    """Triangles with shared vertices.

    Attributes:
        vertices: positions in world units, float64, [P, 3].
        faces: vertex indices, counter-clockwise seen from outside, int64, [F, 3].
    """

    vertices: np.ndarray
    faces: np.ndarray

    def normals(self, vertices: np.ndarray | None = None) -> np.ndarray:
        """Compute area-weighted unit vertex normals, [P, 3].

        Args:
            vertices: positions of the vertices at another time, [P, 3]; None: the mesh's own.
        """
        positions = self.vertices if vertices is None else vertices
        a, b, c = np.moveaxis(positions[self.faces], 1, 0)
        areas = np.cross(b - a, c - a)
        normals = np.zeros_like(positions)
        for corner in range(3):
            np.add.at(normals, self.faces[:, corner], areas)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        up = np.array([0.0, 0.0, 1.0])  # for degenerate vertices: glTF requires unit length
        return np.where(length > 0, normals / np.maximum(length, 1e-300), up)


def extract_mesh(gaussians: Gaussians, faces: int, resolution: int = RESOLUTION) -> Mesh:
    """Extract the iso-surface of the Gaussians' density.

    Args:
        gaussians: Gaussians at one time.
        faces: maximum number of triangles.
        resolution: voxels along the longest side of the object.

    Returns:
        A closed mesh without cavities or floaters.

    Raises:
        SceneError: The Gaussians are too few, too large or too transparent to enclose a surface.
    """
    density, origin, voxel = density_grid(_solid(gaussians), resolution)
    if density.max() <= LEVEL:
        raise SceneError(
            f"the Gaussians enclose no surface: expected a density above {LEVEL}, found at most "
            f"{density.max():.2f}; export splats, or fit the scene for longer"
        )
    vertices, triangles, _, _ = marching_cubes(  # "ascent" winds the triangles outwards
        density, LEVEL, spacing=(voxel,) * 3, gradient_direction="ascent"
    )
    mesh = _without_floaters(trimesh.Trimesh(vertices + origin, triangles))
    trimesh.smoothing.filter_taubin(mesh, iterations=6)
    if len(mesh.faces) > faces:
        mesh = mesh.simplify_quadric_decimation(face_count=faces)
    return Mesh(np.asarray(mesh.vertices), np.asarray(mesh.faces))


def density_grid(gaussians: Gaussians, resolution: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Evaluate the density Σ opacity · Gaussian at the points of a regular grid.

    The standard deviations are enlarged by half a voxel, so that thin sheets are not missed.

    Args:
        gaussians: N Gaussians.
        resolution: grid points along the longest side.

    Returns:
        The density [X, Y, Z], 0 in its outermost layer; the position of its first point, [3]; and
        the distance between points.
    """
    rotations = quats_to_matrices(gaussians.quats)
    sigma = gaussians.scales.exp()
    variances = (rotations**2 @ sigma[:, :, None] ** 2).squeeze(-1)  # along the world axes
    extent = CUTOFF_SIGMAS * variances.sqrt()
    low = (gaussians.means - extent).amin(0)
    size = (gaussians.means + extent).amax(0) - low
    voxel = float(size.max()) / (resolution - 3)
    origin = low - voxel
    shape = [int(side / voxel) + 3 for side in size]
    whitening = rotations.transpose(1, 2) / (sigma**2 + voxel**2 / 4).sqrt()[:, :, None]
    center = (gaussians.means - origin) / voxel
    radii, group = (extent / voxel).ceil().long().unique(dim=0, return_inverse=True)
    density = torch.zeros(shape).flatten()
    for number, radius in enumerate(radii):
        some = torch.nonzero(group == number).squeeze(1)
        for part in some.split(max(1, PAIRS_AT_ONCE // int((2 * radius + 1).prod()))):
            index, inside, offset = _neighborhood(center[part], radius, shape)
            white = torch.einsum("nij,nmj->nmi", whitening[part] * voxel, offset)
            opacity = gaussians.opacities[part].sigmoid()[:, None]
            value = opacity * torch.exp(-white.square().sum(dim=-1) / 2)
            density.index_add_(0, index[inside], value[inside])
    return density.reshape(shape).numpy(), origin.double().numpy(), voxel


def _neighborhood(
    center: Tensor, radius: Tensor, shape: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the grid points around centers [n, 3]: flat index, whether inside, offset; [n, m]."""
    box = torch.cartesian_prod(*(torch.arange(-width, width + 1) for width in radius.tolist()))
    point = center.round().long()[:, None] + box
    limits = torch.tensor(shape) - 1
    inside = ((point > 0) & (point < limits)).all(dim=-1)
    index = (point[..., 0] * shape[1] + point[..., 1]) * shape[2] + point[..., 2]
    return index, inside, point - center[:, None]


def _solid(gaussians: Gaussians) -> Gaussians:
    """Select Gaussians that can be part of a surface: opaque, near, smaller than the object."""
    gaussians = gaussians.map(lambda tensor: tensor.detach().float().cpu())
    opaque = gaussians.opacities.sigmoid() > OPACITY_MIN
    if not opaque.any():
        raise SceneError(
            f"expected Gaussians with an opacity above {OPACITY_MIN} for a surface, found none "
            f"among {len(opaque)}; export splats, or fit the scene for longer"
        )
    gaussians = gaussians.map(lambda tensor: tensor[opaque])
    distance = (gaussians.means - gaussians.means.median(dim=0).values).norm(dim=1)
    radius = distance.quantile(0.99) + gaussians.scales.exp().median()
    sigma = gaussians.scales.exp().amax(dim=1)
    kept = (distance < MAX_DISTANCE * radius) & (sigma < MAX_SIGMA * radius)
    if not kept.any():
        raise SceneError(
            "expected Gaussians that are smaller than the object for a surface, found none among "
            f"{len(kept)}; export splats, or fit the scene for longer"
        )
    return gaussians.map(lambda tensor: tensor[kept])


def _without_floaters(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Keep the large parts; the walls of cavities have a negative volume and are removed."""
    parts = mesh.split(only_watertight=False)
    largest = max(part.area for part in parts)
    kept = [part for part in parts if part.area >= PART_AREA_MIN * largest and part.volume > 0]
    vertices, faces = trimesh.util.append_faces(
        [part.vertices for part in kept], [part.faces for part in kept]
    )
    return trimesh.Trimesh(vertices, faces)
