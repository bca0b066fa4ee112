"""The skeleton, the skin and the animation of a rigged mesh in USD (UsdSkel).

The mesh has the points of its rest pose; the skeleton moves them by linear blend skinning. Joints
are named by their paths in the tree, and matrices are transposed, because they act on rows.
Letters: T frames, J joints, P vertices. Source: openusd.org, user guide of UsdSkel, OpenUSD 26.11.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.errors import InputError
from recon.exporters.usd_stage import ROOT, array_of, pxr, set_over_time
from recon.mesh.rig import Rig
from recon.mesh.skeleton import Skeleton
from recon.mesh.skinning import strongest_influences

SKELETON_PATH, ANIMATION_PATH = f"{ROOT}/skeleton", f"{ROOT}/skeleton/motion"


def add_skeleton(stage: Any, shape: Any, rig: Rig, codes: np.ndarray) -> None:
    """Add a skeleton and its animation to a stage, and bind a mesh to them.

    Args:
        stage: its root is a `UsdSkel.Root`.
        shape: the mesh, in its rest pose.
        rig: skeleton in the axes of the stage, at the times of `codes`.
        codes: time codes, [T].
    """
    UsdSkel, Vt, Gf = pxr("UsdSkel"), pxr("Vt"), pxr("Gf")
    skeleton, joints = rig.skeleton, joint_paths(rig.skeleton)
    local_rest = skeleton._replace(poses=skeleton.rest[None]).local_poses()[0]
    bones = UsdSkel.Skeleton.Define(stage, SKELETON_PATH)
    bones.CreateJointsAttr(joints)
    bones.CreateBindTransformsAttr(_matrices(skeleton.rest))
    bones.CreateRestTransformsAttr(_matrices(local_rest))
    motion = UsdSkel.Animation.Define(stage, ANIMATION_PATH)
    motion.CreateJointsAttr(joints)
    translations, quats = skeleton.local_motion()
    set_over_time(motion.CreateTranslationsAttr(), Vt.Vec3fArray, list(translations), codes)
    set_over_time(motion.CreateRotationsAttr(), Vt.QuatfArray, list(quats), codes)
    motion.CreateScalesAttr(Vt.Vec3hArray(len(joints), Gf.Vec3h(1)))
    source = UsdSkel.BindingAPI.Apply(bones.GetPrim()).CreateAnimationSourceRel()
    source.SetTargets([ANIMATION_PATH])
    binding = UsdSkel.BindingAPI.Apply(shape.GetPrim())
    binding.CreateSkeletonRel().SetTargets([SKELETON_PATH])
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1))
    chosen, weights = strongest_influences(rig.weights)
    used, count = np.where(weights > 0, chosen, 0).astype(np.int32), chosen.shape[1]
    binding.CreateJointIndicesPrimvar(False, count).Set(Vt.IntArray.FromNumpy(used.ravel()))
    binding.CreateJointWeightsPrimvar(False, count).Set(array_of(Vt.FloatArray, weights.ravel()))


def joint_paths(skeleton: Skeleton) -> list[str]:
    """Name each joint by its path from the root, such as `root/body/front_low_1`.

    A point, which divides the side of a Blender name from the rest, is none of a name in USD.
    """
    paths: list[str] = []
    for name, parent in zip(skeleton.names, skeleton.parents, strict=True):
        own = name.replace(".", "_")
        paths.append(own if parent < 0 else f"{paths[parent]}/{own}")
    return paths


def skinned_points(stage: Any, shape: Any, codes: np.ndarray) -> np.ndarray:
    """Evaluate the points of a skinned mesh with OpenUSD.

    Args:
        stage: the stage.
        shape: its mesh.
        codes: time codes, [T].

    Returns:
        Positions in the axes of the stage, [T, P, 3].

    Raises:
        InputError: The mesh is bound to no skeleton.
    """
    UsdSkel, Usd, Vt = pxr("UsdSkel"), pxr("Usd"), pxr("Vt")
    cache = UsdSkel.Cache()
    cache.Populate(UsdSkel.Root(stage.GetDefaultPrim()), Usd.PrimDefaultPredicate)
    skin = cache.GetSkinningQuery(shape.GetPrim())
    bones = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath(SKELETON_PATH)))
    if not skin or not bones:
        raise InputError(f"expected a mesh that is bound to {SKELETON_PATH} of the USD package")
    frames = []
    for code in codes:
        points = Vt.Vec3fArray(shape.GetPointsAttr().Get())
        transforms = bones.ComputeSkinningTransforms(float(code))
        if not skin.ComputeSkinnedPoints(transforms, points, float(code)):
            raise InputError("the mesh of the USD package does not fit its skeleton")
        frames.append(np.array(points))
    return np.stack(frames)


def _matrices(poses: np.ndarray) -> Any:
    """Convert poses, [J, 4, 4]."""
    rows = np.ascontiguousarray(poses.transpose(0, 2, 1), dtype=np.float64)
    return pxr("Vt").Matrix4dArray.FromNumpy(rows)
