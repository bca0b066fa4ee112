"""The camera of the video in USD, and the motion of the stage's root in front of it.

USD's cameras look along −Z with +Y up, as those of this project. Letters: T frames.
Source: openusd.org, UsdGeomCamera and UsdGeomXformable, OpenUSD 26.11.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.exporters.root_motion import CAMERA_NAME, RootMotion, clipping_range, pose_quats
from recon.exporters.usd_stage import pxr

CAMERA_PATH = f"/{CAMERA_NAME}"  # beside the root, so that it does not move with it
APERTURE = 36.0  # width of the film, in the unit of the focal length; only their ratio matters


def add_root_motion(stage: Any, motion: RootMotion, codes: np.ndarray, size: float) -> None:
    """Move the root of a stage, and add the camera of the video.

    Args:
        stage: the stage; its default prim has no transform yet.
        motion: motion at the time codes and camera, in the axes of the stage.
        codes: time codes, ascending, [T].
        size: size of the object, which determines the clipping planes.
    """
    UsdGeom, Gf = pxr("UsdGeom"), pxr("Gf")
    _place(UsdGeom.Xformable(stage.GetDefaultPrim()), motion.poses, codes)
    camera, seen = UsdGeom.Camera.Define(stage, CAMERA_PATH), motion.camera
    _place(camera, seen.T_world_camera[None], codes[:1])
    camera.CreateHorizontalApertureAttr(APERTURE)
    camera.CreateVerticalApertureAttr(APERTURE * seen.height / seen.width)
    camera.CreateFocalLengthAttr(APERTURE * seen.fl_x / seen.width)
    camera.CreateClippingRangeAttr(Gf.Vec2f(*clipping_range(size)))


def _place(prim: Any, poses: np.ndarray, codes: np.ndarray) -> None:
    """Give a prim a translation and a rotation, over time unless all poses are the same."""
    UsdGeom, Gf = pxr("UsdGeom"), pxr("Gf")
    translation = prim.AddTranslateOp()
    orientation = prim.AddOrientOp(UsdGeom.XformOp.PrecisionDouble)
    same = (poses == poses[0]).all()
    for pose, quat, code in zip(poses, pose_quats(poses), codes, strict=True):
        at = pxr("Usd").TimeCode.Default() if same else float(code)
        translation.Set(Gf.Vec3d(*map(float, pose[:3, 3])), at)
        orientation.Set(Gf.Quatd(float(quat[3]), *map(float, quat[:3])), at)
        if same:
            break
