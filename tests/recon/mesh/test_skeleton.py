"""An arm of three rigid parts along +X, jointed at x = 1 and x = 2, that walks and bends."""

import numpy as np
from scipy.spatial.transform import Rotation

from recon.mesh.skeleton import Skeleton, build_skeleton, rigid_inverse, travel
from recon.similarity import Similarity

RANDOM = np.random.default_rng(0)
REST = np.column_stack([RANDOM.uniform(0, 3, 300), RANDOM.uniform(-0.1, 0.1, (300, 2))])
FRAMES = 7


def rigid(rotation: Rotation, place: list[float]) -> np.ndarray:
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation.as_matrix(), place
    return motion


def about(point: list[float], rotation: Rotation) -> np.ndarray:
    return rigid(rotation, (np.array(point) - rotation.apply(point)).tolist())


def arm() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return motions [T, 3, 4, 4], weights [P, 3] and positions [T, P, 3]."""
    motions = []
    for frame in range(FRAMES):
        walk = rigid(Rotation.from_euler("z", 5 * frame, degrees=True), [0.2 * frame, 0, 0])
        bend = about([1, 0, 0], Rotation.from_euler("y", 9 * frame, degrees=True))
        curl = about([2, 0, 0], Rotation.from_euler("zx", [11 * frame, 7 * frame], degrees=True))
        motions.append([walk, walk @ bend, walk @ bend @ curl])
    motions = np.array(motions)
    nearness = np.exp(-(((REST[:, :1] - [0.5, 1.5, 2.5]) / 0.25) ** 2))
    weights = nearness / nearness.sum(axis=1, keepdims=True)
    return motions, weights, skinned(motions, weights)


def skinned(motions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    points = np.column_stack([REST, np.ones(len(REST))])
    return np.einsum("pk,tkab,pb->tpa", weights, motions[..., :3, :], points)


def built() -> Skeleton:
    motions, weights, positions = arm()
    return build_skeleton(motions, positions, REST, weights)


def test_the_parts_form_a_chain_from_the_middle_outwards():
    skeleton = built()
    assert skeleton.names[:2] == ("root", "body")
    assert list(skeleton.bones[:2]) == [-1, 1]
    assert sorted(skeleton.bones[2:]) == [0, 2]
    assert list(skeleton.parents) == [-1, 0, 1, 1]
    assert len(set(skeleton.names)) == 4


def test_joints_are_where_the_parts_are_hinged():
    heads = {int(b): h[:3, 3] for b, h in zip(built().bones, built().rest, strict=True)}
    np.testing.assert_allclose(heads[0], [1, 0, 0], atol=0.03)
    np.testing.assert_allclose(heads[2], [2, 0, 0], atol=0.03)


def test_hinged_joints_keep_their_place_in_the_parent():
    local = built().local_poses()
    assert np.ptp(local[:, 2:, :3, 3], axis=0).max() < 0.03


def test_joints_carry_the_vertices_as_the_bones_do():
    motions, weights, positions = arm()
    skeleton = built()
    carried = skeleton.poses @ rigid_inverse(skeleton.rest)
    of_bones = np.empty_like(motions)
    of_bones[:, skeleton.bones[1:]] = carried[:, 1:]
    np.testing.assert_allclose(skinned(of_bones, weights), positions, atol=1e-9)


def test_chained_local_poses_give_the_poses():
    skeleton = built()
    found = skeleton.local_poses()
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            found[:, joint] = found[:, parent] @ found[:, joint]
    np.testing.assert_allclose(found, skeleton.poses, atol=1e-9)


def test_bones_point_along_their_part_and_frames_are_rotations():
    skeleton = built()
    turns = skeleton.rest[:, :3, :3]
    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (4, 1, 1)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    tip = list(skeleton.bones).index(2)
    np.testing.assert_allclose(turns[tip] @ [0, 1, 0], [1, 0, 0], atol=0.1)


def test_the_root_carries_the_travel_of_the_object():
    motion = rigid(Rotation.from_euler("z", 50, degrees=True), [3.0, -1.0, 0.5])
    moved = REST @ motion[:3, :3].T + motion[:3, 3]
    np.testing.assert_allclose(travel(moved[None], REST)[0], motion, atol=1e-9)


def test_the_root_stands_on_the_ground_below_the_object():
    root = built().rest[0]
    np.testing.assert_allclose(root[:3, 3], [*REST.mean(axis=0)[:2], REST[:, 2].min()])
    np.testing.assert_allclose(root[:3, :3] @ [0, 1, 0], [0, 0, 1])


def test_bones_without_weight_get_no_joint():
    motions, weights, positions = arm()
    motions = np.concatenate([motions, motions[:, :1]], axis=1)
    weights = np.column_stack([weights, np.zeros(len(weights))])
    assert len(build_skeleton(motions, positions, REST, weights).names) == 4


def test_one_bone_is_the_body():
    motions, _, positions = arm()
    skeleton = build_skeleton(motions[:, :1], positions, REST, np.ones((len(REST), 1)))
    assert skeleton.names == ("root", "body")


def test_another_unit_and_place_moves_all_joints():
    skeleton, similarity = built(), Similarity(3.0, np.array([1.0, 2.0, 3.0]))
    mapped = skeleton.mapped(similarity)
    point = similarity.points(REST[:1])[0]
    moved = (mapped.poses[3, 2] @ rigid_inverse(mapped.rest[2]) @ [*point, 1])[:3]
    before = (skeleton.poses[3, 2] @ rigid_inverse(skeleton.rest[2]) @ [*REST[0], 1])[:3]
    np.testing.assert_allclose(moved, similarity.points(before), atol=1e-9)


def test_halfway_joints_have_half_of_the_local_motion():
    skeleton = built()
    still = skeleton._replace(poses=np.repeat(skeleton.poses[2:3], 3, axis=0))
    np.testing.assert_allclose(still.halfway().poses, still.poses[:2], atol=1e-9)
    found, local = skeleton.halfway().local_poses(), skeleton.local_poses()
    np.testing.assert_allclose(
        found[..., :3, 3], (local[:-1, :, :3, 3] + local[1:, :, :3, 3]) / 2, atol=1e-9
    )
    before, after = (Rotation.from_matrix(each[0, :, :3, :3]) for each in (local, local[1:]))
    turned = before.inv() * Rotation.from_matrix(found[0, :, :3, :3])
    whole = (before.inv() * after).as_rotvec()
    np.testing.assert_allclose(turned.as_rotvec(), whole / 2, atol=1e-6)
