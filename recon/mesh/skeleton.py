"""A skeleton for free bones: a tree of joints, their names, and their poses relative to parents.

A fit moves K bones independently. Here they become a tree, as programs for animation expect it:

    root ── body ── chain after chain of bones, each joint where two bones move alike

Bones are neighbors where vertices follow both and where a point exists that both carry to the same
places: the spanning tree with the smallest gaps connects them. The root joint carries the travel
of the object (its place, and its turn about the vertical); it stands on the ground below the
object. Letters: T times, K bones, J joints, P vertices. Frame: world, +Z up, front towards −Y.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree, shortest_path

from recon.rotations import matrices_to_quats, quats_to_matrices
from recon.similarity import Similarity

ROOT, BODY = "root", "body"
ROOT_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # y up, z to the front
GAP_WEIGHT = 4.0  # of a gap between two bones at their joint, relative to their distance
APART_COST = 1.0  # in object sizes, for bones that share no vertices
SHARED_MIN = 1e-3  # sum of products of weights from which on bones share vertices
PIVOT_PRIOR = 0.05  # pull of a joint to the middle of the shared vertices
SIDE_MIN = 0.35  # part of a chain's direction that its name mentions


class Skeleton(NamedTuple):
    """A tree of J joints that move with T times. Joint 0 is the root; parents precede children.

    Attributes:
        names: unique names of the joints.
        parents: index of each joint's parent, −1 for the root, [J].
        bones: index of the bone that each joint carries, −1 for the root, [J].
        rest: T_world_joint at rest; the local +Y axis of a bone points along it, [J, 4, 4].
        poses: T_world_joint at all times, [T, J, 4, 4].
    """

    names: tuple[str, ...]
    parents: np.ndarray
    bones: np.ndarray
    rest: np.ndarray
    poses: np.ndarray

    def local_poses(self) -> np.ndarray:
        """Return T_parent_joint at all times, T_world_joint for the root, [T, J, 4, 4]."""
        parents = self.poses[:, np.maximum(self.parents, 0)]
        parents = np.where(self.parents[:, None, None] < 0, np.eye(4), parents)
        return rigid_inverse(parents) @ self.poses

    def local_motion(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the local poses as translations [T, J, 3] and quaternions wxyz [T, J, 4].

        The signs of the quaternions do not jump.
        """
        local = self.local_poses()
        quats = matrices_to_quats(torch.from_numpy(local[..., :3, :3].copy())).numpy()
        for before, now in itertools.pairwise(quats):
            now[(before * now).sum(axis=-1) < 0] *= -1
        return local[..., :3, 3], quats

    def halfway(self) -> Skeleton:
        """Return the skeleton halfway between its times, as linear animations play it, T − 1 times.

        Local translations and rotations are interpolated, as in glTF.
        """
        translations, quats = self.local_motion()
        quats = quats[:-1] + quats[1:]
        quats /= np.linalg.norm(quats, axis=-1, keepdims=True)
        local = np.tile(np.eye(4), (*quats.shape[:2], 1, 1))
        local[..., :3, :3] = quats_to_matrices(torch.from_numpy(quats)).numpy()
        local[..., :3, 3] = (translations[:-1] + translations[1:]) / 2
        poses = local.copy()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:  # parents precede their children
                poses[:, joint] = poses[:, parent] @ local[:, joint]
        return self._replace(poses=poses)

    def rotated(self, rotation: np.ndarray) -> Skeleton:
        """Return the skeleton rotated about the origin by a matrix, [3, 3]."""
        turn = np.eye(4)
        turn[:3, :3] = rotation
        return self._replace(rest=turn @ self.rest, poses=turn @ self.poses)

    def mapped(self, similarity: Similarity) -> Skeleton:
        """Return the skeleton in a world of another unit or place."""
        rest, poses = self.rest.copy(), self.poses.copy()
        rest[:, :3, 3] = similarity.points(rest[:, :3, 3])
        poses[..., :3, 3] = similarity.points(poses[..., :3, 3])
        return self._replace(rest=rest, poses=poses)


def build_skeleton(
    motions: np.ndarray, positions: np.ndarray, rest: np.ndarray, weights: np.ndarray
) -> Skeleton:
    """Connect the bones that move vertices to a tree.

    Args:
        motions: rigid motions of the bones from rest to each time, [T, K, 4, 4].
        positions: vertices at all times, [T, P, 3].
        rest: vertices at rest, [P, 3].
        weights: skinning weights, [P, K]; bones without any weight get no joint.
    """
    used = np.flatnonzero(weights.sum(axis=0) > 0)
    motions, weights = motions[:, used], weights[:, used]
    mass = weights.sum(axis=0)
    centers = (weights.T @ rest) / mass[:, None]
    size = float(np.linalg.norm(np.ptp(rest, axis=0))) or 1.0
    pivots, cost = _pivots(motions, rest, weights, centers, size)
    order, parents = _tree(cost, mass)
    heads = np.array(
        [centers[bone] if parent < 0 else pivots[bone, parent]
         for bone, parent in zip(order, parents[order], strict=True)]
    )  # fmt: skip
    index = np.empty(len(order), dtype=int)  # of the joint of each bone, without the root
    index[order] = np.arange(len(order))
    joint_parents = np.where(parents[order] < 0, -1, index[np.maximum(parents[order], 0)])
    frames = _bone_frames(heads, centers[order], mass[order], joint_parents, size)
    root = np.eye(4)
    root[:3, :3] = ROOT_AXES
    root[:3, 3] = [*rest.mean(axis=0)[:2], rest[:, 2].min()]
    names = _names(heads, centers[order], mass[order], joint_parents, rest)
    return Skeleton(
        (ROOT, *names),
        np.concatenate([[-1], joint_parents + 1]),
        np.concatenate([[-1], used[order]]),
        np.concatenate([root[None], frames]),
        np.concatenate(
            [(travel(positions, rest) @ root)[:, None], motions[:, order] @ frames], axis=1
        ),
    )


def travel(positions: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Fit the motion of a whole object: its translation and its turn about the vertical.

    Args:
        positions: points at all times, [T, P, 3].
        rest: the points at rest, [P, 3].

    Returns:
        Rigid motions from rest to each time, the best in the least-squares sense, [T, 4, 4].
    """
    middle, middles = rest.mean(axis=0), positions.mean(axis=1)
    x, y = (rest - middle)[:, :2], (positions - middles[:, None])[..., :2]
    sine = (x[:, 0] * y[..., 1] - x[:, 1] * y[..., 0]).sum(axis=1)
    cosine = (x * y).sum(axis=(1, 2))
    angle = np.where((sine == 0) & (cosine == 0), 0.0, np.arctan2(sine, cosine))
    motions = np.tile(np.eye(4), (len(positions), 1, 1))
    motions[:, 0, 0], motions[:, 0, 1] = np.cos(angle), -np.sin(angle)
    motions[:, 1, 0], motions[:, 1, 1] = np.sin(angle), np.cos(angle)
    motions[:, :3, 3] = middles - motions[:, :3, :3] @ middle
    return motions


def rigid_inverse(poses: np.ndarray) -> np.ndarray:
    """Invert rigid transforms, [..., 4, 4]."""
    inverse = np.zeros_like(poses)
    turned = np.swapaxes(poses[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = turned
    inverse[..., :3, 3] = np.negative(turned @ poses[..., :3, 3, None])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def _pivots(
    motions: np.ndarray, rest: np.ndarray, weights: np.ndarray, centers: np.ndarray, size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find for each pair of bones the point at which they would be joined, and the cost of it.

    The point p minimizes Σ_t |M_i(t) p − M_j(t) p|² + λ |p − p₀|² (joint localization of Le and
    Deng 2014, with a prior), where p₀ is the middle of the vertices that follow both bones.

    Returns:
        Points [K, K, 3] and costs [K, K] in object sizes, both symmetric.
    """
    bones = len(centers)
    pivots, cost = np.zeros((bones, bones, 3)), np.zeros((bones, bones))
    for i, j in itertools.combinations(range(bones), 2):
        shared = weights[:, i] * weights[:, j]
        overlap = shared.sum()
        together = overlap > SHARED_MIN
        prior = shared @ rest / overlap if together else (centers[i] + centers[j]) / 2
        difference = motions[:, i, :3] - motions[:, j, :3]
        turn, step = difference[..., :3], difference[..., 3] + difference[..., :3] @ prior
        pull = PIVOT_PRIOR * len(motions)
        normal = np.einsum("tab,tac->bc", turn, turn) + pull * np.eye(3)
        offset = np.linalg.solve(normal, -np.einsum("tab,ta->b", turn, step))
        gap = np.sqrt(((turn @ offset + step) ** 2).sum(axis=1).mean())
        length = np.linalg.norm(centers[i] - prior) + np.linalg.norm(centers[j] - prior)
        pivots[i, j] = pivots[j, i] = prior + offset
        cost[i, j] = cost[j, i] = (
            1e-6 + (length + GAP_WEIGHT * gap) / size + (0 if together else APART_COST)
        )
    return pivots, cost


def _tree(cost: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bones in an order with parents first, and the parent of each, −1 for the first.

    The first bone is the one from which the vertices are the fewest steps away.
    """
    tree = minimum_spanning_tree(cost)
    steps = shortest_path(tree, directed=False, unweighted=True)
    first = int((steps @ mass).argmin())
    order, predecessors = breadth_first_order(tree, first, directed=False)
    return order, np.where(predecessors < 0, -1, predecessors)


def _bone_frames(
    heads: np.ndarray, centers: np.ndarray, mass: np.ndarray, parents: np.ndarray, size: float
) -> np.ndarray:
    """Place each joint at its head, +Y towards the heaviest child, else through the middle."""
    frames = np.tile(np.eye(4), (len(heads), 1, 1))
    branch = _branch_mass(mass, parents)
    for joint, head in enumerate(heads):
        children = np.flatnonzero(parents == joint)
        towards = centers[joint] - head
        if len(children):
            towards = heads[children[branch[children].argmax()]] - head
        length = np.linalg.norm(towards)
        y = towards / length if length > 1e-3 * size else np.array([0.0, 0.0, 1.0])
        aside = np.array([0.0, -1.0, 0.0]) if abs(y[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
        x = np.cross(y, aside)
        x /= np.linalg.norm(x)
        frames[joint, :3] = np.stack([x, y, np.cross(x, y), head], axis=1)
    return frames


def _branch_mass(mass: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Return the mass of each joint and of all below it; parents precede children."""
    branch = mass.astype(float).copy()
    for joint in range(len(parents) - 1, 0, -1):
        branch[parents[joint]] += branch[joint]
    return branch


def _names(
    heads: np.ndarray, centers: np.ndarray, mass: np.ndarray, parents: np.ndarray, rest: np.ndarray
) -> list[str]:
    """Name chains of joints by where they end, such as `front_low_2.L`.

    A chain continues in the heaviest child. `.L` and `.R` are the sides of the object, which
    Blender's mirror tools pair.
    """
    branch = _branch_mass(mass, parents)
    chains = [[0]]
    chain_of = {0: 0}
    for joint in range(1, len(parents)):
        siblings = np.flatnonzero(parents == parents[joint])
        heaviest = siblings[branch[siblings].argmax()]
        if joint == heaviest and parents[joint] != 0:
            chain_of[joint] = chain_of[int(parents[joint])]
        else:
            chain_of[joint] = len(chains)
            chains.append([])
        chains[chain_of[joint]].append(joint)
    names = [BODY] * len(parents)
    half = np.maximum(np.ptp(rest, axis=0) / 2, 1e-12)
    middle = rest.min(axis=0) + half
    taken: dict[str, int] = {}
    for chain in chains[1:]:
        place, side = _place((centers[chain[-1]] - middle) / half)
        count = taken[place + side] = taken.get(place + side, 0) + 1
        place += f"_{chr(ord('a') + count - 1)}" if 1 < count <= 26 else ""
        place += f"_{count}" if count > 26 else ""
        for number, joint in enumerate(chain, start=1):
            names[joint] = f"{place}_{number}{side}"
    return names


def _place(direction: np.ndarray) -> tuple[str, str]:
    """Describe where a point lies, from its offset in half extents of the object."""
    x, y, z = direction / max(float(np.abs(direction).max()), 1e-12)
    words = []
    if abs(y) > SIDE_MIN:
        words.append("front" if y < 0 else "back")
    if abs(z) > SIDE_MIN:
        words.append("high" if z > 0 else "low")
    side = "" if abs(x) <= SIDE_MIN else ".L" if x > 0 else ".R"
    return "_".join(words) or "mid", side
