"""Rig a mesh whose scene moves by bones: a skeleton, and skinning weights of its joints.

    bones of the fit ──relative to the rest pose──▶ rigid motions ──┬─▶ weights of the vertices
                                                                    └─▶ tree of joints

Letters: T times, K bones, J joints, P vertices. Frame: that of the scene.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from recon.deformation.bones import BoneDeformation
from recon.mesh.animated_mesh import AnimatedMesh
from recon.mesh.skeleton import Skeleton, build_skeleton, rigid_inverse
from recon.mesh.skinning import bind_points, fit_weights, move_points
from recon.mesh.surface import Surface
from recon.rotations import quats_to_matrices
from recon.scene import Scene


class Rig(NamedTuple):
    """A skeleton with the skinning weights of a mesh.

    Attributes:
        skeleton: J joints.
        weights: non-negative, summing to 1 over the joints, [P, J]; those of the root are 0.
    """

    skeleton: Skeleton
    weights: np.ndarray


@torch.no_grad()
def rig_mesh(
    bones: BoneDeformation, surface: Surface, mesh: AnimatedMesh, times: np.ndarray
) -> Rig:
    """Rig a mesh.

    Args:
        bones: motion of the scene.
        surface: the surface from which the mesh was made.
        mesh: the mesh at `times`, in the world of the bones.
        times: times in [0, 1], [T].
    """
    motions = np.stack([bone_motions(bones, float(time)) for time in times])
    if surface.time is not None:
        motions = motions @ rigid_inverse(bone_motions(bones, surface.time))
    binding = bind_points(mesh.rest, surface.gaussians)
    blended = F.softmax(bones.logits.double(), dim=1)[binding.indices] * binding.weights[..., None]
    weights = blended.sum(dim=1).cpu().numpy()
    weights = fit_weights(weights, mesh.rest, mesh.positions, motions)
    skeleton = build_skeleton(motions, mesh.positions, mesh.rest, weights)
    of_joints = np.zeros((len(weights), len(skeleton.names)))
    of_joints[:, 1:] = weights[:, skeleton.bones[1:]]
    return Rig(skeleton, of_joints)


class RigErrors(NamedTuple):
    """Largest distances of skinned vertices from where the scene has them.

    Relative to the diagonal of the mesh's bounding box at rest.

    Attributes:
        at_frames: at the times of the skeleton.
        between: halfway between these times, where its motion is interpolated; 0 for one time.
    """

    at_frames: float
    between: float


@torch.no_grad()
def rig_errors(
    rig: Rig, mesh: AnimatedMesh, scene: Scene, surface: Surface, times: np.ndarray
) -> RigErrors:
    """Measure how well a skeleton moves a mesh.

    Args:
        rig: skeleton at T times and weights.
        mesh: the mesh at these times.
        scene: the scene that moves it.
        surface: the surface from which the mesh was made.
        times: times in [0, 1], [T].
    """
    binding = bind_points(mesh.rest, surface.gaussians)
    halfway = (times[1:] + times[:-1]) / 2
    exact = (
        move_points(binding, surface.gaussians, scene.at(float(time))).double().cpu().numpy()
        for time in halfway
    )
    between = _largest_distance(rig._replace(skeleton=rig.skeleton.halfway()), mesh.rest, exact)
    return RigErrors(_largest_distance(rig, mesh.rest, mesh.positions), between)


def _largest_distance(rig: Rig, rest: np.ndarray, exact: Iterable[np.ndarray]) -> float:
    """Return the largest distance to [P, 3] at each time, relative to the diagonal at rest."""
    motions = rig.skeleton.poses @ rigid_inverse(rig.skeleton.rest)
    largest = 0.0
    for of_joints, positions in zip(motions, exact, strict=True):
        blended = np.einsum("pj,jab->pab", rig.weights, of_joints)
        moved = np.einsum("pab,pb->pa", blended[:, :3, :3], rest) + blended[:, :3, 3]
        largest = max(largest, float(np.linalg.norm(moved - positions, axis=-1).max()))
    return largest / (float(np.linalg.norm(np.ptp(rest, axis=0))) or 1.0)


def bone_motions(bones: BoneDeformation, time: float) -> np.ndarray:
    """Return the rigid motions of the bones from the canonical pose to a time, [K, 4, 4]."""
    translations, quats = (part.detach().double().cpu() for part in bones.pose(time))
    rotations = quats_to_matrices(quats).numpy()
    centers = bones.centres.double().cpu().numpy()
    motions = np.tile(np.eye(4), (len(centers), 1, 1))
    motions[:, :3, :3] = rotations
    motions[:, :3, 3] = centers + translations.numpy() - (rotations @ centers[..., None])[..., 0]
    return motions
