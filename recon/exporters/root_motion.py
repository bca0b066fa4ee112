"""Root motion: where the object was in the video, for programs whose cameras look straight ahead.

The principal point of a source camera is off the middle of its image and may move. Cameras of glTF
and most programs have it in the middle. A fixed camera of that kind, and a rigid motion of the
object, say nearly the same: about the center of the camera, the object is turned from the optical
axis onto the ray through the principal point, at an angle θ, and moved along that ray to

    d' = k d / cos^(3/2) θ

where its image, which grows by 1 / cos² θ along and 1 / cos θ across the ray's direction, has the
size that it had at the depth d. The focal length k f of the fixed camera follows from nothing; the
one is taken with which the images of the object deviate least.
Letters: F times, P points. Frames: world, +Z up; camera in OpenCV axes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from recon.grid.cameras import OPENGL_FROM_OPENCV, Camera
from recon.grid.source_camera import SourceCamera
from recon.mesh.skeleton import rigid_inverse
from recon.scene import Scene

CAMERA_NAME = "source"
CLIPPING = 1000.0  # of the near and the far plane, relative to the size of the object
FOCAL_FACTORS = np.geomspace(1.0, 8.0, 25)  # k; 1 leaves an object in the middle as it is
MAX_POINTS, MAX_FRAMES = 500, 32  # with which factors are compared


class RootMotion(NamedTuple):
    """A fixed camera, and rigid motions of the object in front of it.

    Attributes:
        camera: a camera with its principal point in the middle of the video's image.
        poses: T_world_object at each time, the identity in the first frame, float64, [F, 4, 4].
    """

    camera: Camera
    poses: np.ndarray

    def rotated(self, rotation: np.ndarray) -> RootMotion:
        """Return the same in axes that are rotated by a matrix, [3, 3]."""
        turn = np.eye(4)
        turn[:3, :3] = rotation
        pose = turn @ self.camera.T_world_camera
        return RootMotion(replace(self.camera, T_world_camera=pose), turn @ self.poses @ turn.T)

    def undone(self, positions: np.ndarray) -> np.ndarray:
        """Move points back to where they are without the motion, [F, P, 3]."""
        return (positions - self.poses[:, None, :3, 3]) @ self.poses[:, :3, :3]


def scene_root_motion(scene: Scene, times: np.ndarray) -> RootMotion | None:
    """Return the root motion of a scene at some times; None if it has no source camera.

    Args:
        scene: the scene.
        times: times in [0, 1], [F].
    """
    if scene.source_camera is None:
        return None
    means = scene.gaussians.means.detach().double().cpu().numpy()
    return root_motion(scene.source_camera, times, means)


def root_motion(source: SourceCamera, times: np.ndarray, points: np.ndarray) -> RootMotion:
    """Convert a source camera to a fixed camera and the motion of an object.

    Args:
        source: the source camera.
        times: times in [0, 1], [F].
        points: points of the object in the world, P ≥ 1, [P, 3].
    """
    camera = source.camera
    T_world_cv = camera.T_world_camera @ OPENGL_FROM_OPENCV
    chosen = points[:: -(-len(points) // MAX_POINTS)]
    seen = chosen @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    some = source.times[:: -(-len(source.times) // MAX_FRAMES)]
    errors = [_image_error(source, some, seen, factor) for factor in FOCAL_FACTORS]
    factor = FOCAL_FACTORS[np.argmin(errors)]
    depth = float(seen[:, 2].mean())
    poses = _poses(source, np.array([source.times[0], *times]), depth, factor)
    poses = T_world_cv @ poses @ rigid_inverse(T_world_cv)
    back = rigid_inverse(poses[0])
    fixed = _straight(camera, factor)
    return RootMotion(replace(fixed, T_world_camera=back @ camera.T_world_camera), back @ poses[1:])


def clipping_range(size: float) -> tuple[float, float]:
    """Return the distances of the near and the far plane for an object of some size."""
    size = size or 1.0
    return size / CLIPPING, size * CLIPPING


def pose_quats(poses: np.ndarray) -> np.ndarray:
    """Return the rotations of poses, [F, 4, 4], as quaternions, xyzw, [F, 4].

    Their real parts are positive: turns are small, so signs do not jump over time.
    """
    quats = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    return quats * np.where(quats[:, 3:] < 0, -1.0, 1.0)


def _straight(camera: Camera, factor: float) -> Camera:
    return replace(
        camera,
        fl_x=factor * camera.fl_x,
        fl_y=factor * camera.fl_y,
        cx=camera.width / 2,
        cy=camera.height / 2,
    )


def _poses(source: SourceCamera, times: np.ndarray, depth: float, factor: float) -> np.ndarray:
    """Place an object at each time in front of a fixed camera, in its axes, [F, 4, 4]."""
    fixed = _straight(source.camera, factor)
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    for pose, time in zip(poses, times, strict=True):
        now = source.at(float(time))
        x, y = (now.cx - fixed.cx) / fixed.fl_x, (now.cy - fixed.cy) / fixed.fl_y
        ray = np.array([x, y, 1.0]) / np.sqrt(x * x + y * y + 1)
        pose[:3, :3] = _turn_to(ray)
        pose[:3, 3] = (factor * depth / ray[2] ** 1.5 - depth) * ray
    return poses


def _turn_to(ray: np.ndarray) -> np.ndarray:
    """Return the smallest rotation from +Z to a unit vector with a positive z, [3, 3]."""
    x, y, z = ray
    cross = np.array([[0, 0, x], [0, 0, y], [-x, -y, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)


def _image_error(source: SourceCamera, times: np.ndarray, seen: np.ndarray, factor: float) -> float:
    """Return the mean squared distance of the images of points in pixels².

    Args:
        source: the source camera.
        times: times in [0, 1], [F].
        seen: points in the axes of the camera, [P, 3].
        factor: focal length of the fixed camera over that of the source camera.
    """
    fixed = _straight(source.camera, factor)
    poses = _poses(source, times, float(seen[:, 2].mean()), factor)
    moved = seen @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]
    centers = np.array([(now.cx, now.cy) for now in (source.at(float(time)) for time in times)])
    focal = np.array([source.camera.fl_x, source.camera.fl_y])
    expected = focal * seen[:, :2] / seen[:, 2:] + centers[:, None]
    found = factor * focal * moved[..., :2] / moved[..., 2:] + [fixed.cx, fixed.cy]
    return float(((found - expected) ** 2).sum(axis=-1).mean())
