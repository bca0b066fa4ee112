"""A camera that looks straight ahead sees a moving object where the source camera sees it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon.errors import InputError
from recon.exporters.conventions import rotation_to
from recon.exporters.folder import export
from recon.exporters.glb_mesh import glb_files, mesh_from_glb
from recon.exporters.gltf import read_glb
from recon.exporters.options import ExportOptions
from recon.exporters.ply import gaussians_from_ply, ply_files
from recon.exporters.root_motion import root_motion, scene_root_motion
from recon.grid import Camera, orbit_camera
from recon.grid.source_camera import SourceCamera
from recon.scene import Scene
from recon.similarity import Similarity
from tests.recon.player.conftest import make_scene

SMALL = ExportOptions(faces=300, color="vertices", resolution=24)
SIDE = 100  # of the squares that were cut out


def make_source(widths: float, T: int = 5, moving: bool = True) -> SourceCamera:
    """A video as wide as some squares, which an object crosses from one corner to the other."""
    width, height = round(widths * SIDE), round(0.7 * widths * SIDE)
    square = orbit_camera(10, 10, 2.5, 33.8, SIDE, SIDE)
    margin = 0.4 * SIDE
    x = np.linspace(margin, width - margin, T) if moving else np.full(T, width / 2)
    y = np.linspace(margin, height - margin, T) if moving else np.full(T, height / 2)
    camera = replace(square, cx=float(x[0]), cy=float(y[0]), width=width, height=height)
    return SourceCamera(camera, np.linspace(0, 1, T), np.stack([x, y], axis=1), tuple(range(T)))


def ball(count: int = 300) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(count, 3))
    return 0.45 * points / np.linalg.norm(points, axis=1, keepdims=True)


def image_errors(camera: Camera, moved: np.ndarray, source: SourceCamera, still: np.ndarray):
    """Distances in the image over the size of the object in it, root mean square, per time."""
    errors = []
    for time, here, there in zip(source.times, moved, still, strict=True):
        expected, _ = source.at(float(time)).project(there)
        found, _ = camera.project(here)
        size = np.ptp(expected, axis=0).max()
        errors.append(np.sqrt(((found - expected) ** 2).sum(axis=-1).mean()) / size)
    return np.array(errors)


def test_an_object_in_the_middle_stays_as_it_is():
    source = make_source(1.5, moving=False)
    found = root_motion(source, source.times, ball())
    np.testing.assert_allclose(found.poses, np.tile(np.eye(4), (5, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(found.camera.K, source.camera.K)
    pose = source.camera.T_world_camera
    np.testing.assert_allclose(found.camera.T_world_camera, pose, atol=1e-12)


@pytest.mark.parametrize(("widths", "error_max"), [(1.5, 0.015), (2, 0.02), (3, 0.04), (5, 0.05)])
def test_the_images_agree_up_to_a_few_percent_of_the_object(widths, error_max):
    source, points = make_source(widths), ball()
    found = root_motion(source, source.times, points)
    assert (found.camera.cx, found.camera.cy) == (found.camera.width / 2, found.camera.height / 2)
    np.testing.assert_allclose(found.poses[0], np.eye(4), atol=1e-12)
    moved = points @ np.swapaxes(found.poses[:, :3, :3], 1, 2) + found.poses[:, None, :3, 3]
    errors = image_errors(found.camera, moved, source, np.tile(points, (5, 1, 1)))
    assert errors.max() < error_max
    np.testing.assert_allclose(found.undone(moved), np.tile(points, (5, 1, 1)), atol=1e-12)


def test_motions_are_rigid_and_the_same_in_another_world():
    source, points = make_source(3), ball()
    found = root_motion(source, source.times, points)
    turns, still = found.poses[:, :3, :3], np.tile(np.eye(3), (5, 1, 1))
    np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), still, atol=1e-12)
    world = Similarity(2.0, np.array([3.0, -1.0, 0.5]))
    there = world.source_camera(source)
    assert there is not None
    moved = root_motion(there, source.times, world.points(points))
    for here, other in zip(found.poses, moved.poses, strict=True):
        expected = world.points(points @ here[:3, :3].T + here[:3, 3])
        mapped = world.points(points) @ other[:3, :3].T + other[:3, 3]
        np.testing.assert_allclose(mapped, expected, atol=1e-9)


def glb_camera(document: dict) -> Camera:
    """The camera of a GLB, with an image of 100 pixels in height."""
    (node,) = [node for node in document["nodes"] if "camera" in node]
    lens = document["cameras"][node["camera"]]["perspective"]
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(node["rotation"]).as_matrix()
    pose[:3, 3] = node["translation"]
    focal = 50 / np.tan(lens["yfov"] / 2)
    width = 100 * lens["aspectRatio"]
    return Camera(pose, focal, focal, width / 2, 50, round(width), 100)


@pytest.mark.parametrize("animation", ["auto", "morph"])
def test_a_glb_moves_in_front_of_the_camera_of_the_video(animation):
    scene = make_scene("bones", count=300)
    source = replace(make_source(2, T=len(scene.times)), times=scene.times)
    scene = replace(scene, source_camera=source)
    options = replace(SMALL, animation=animation)
    ((_, data),) = glb_files(scene, scene.times, options)
    ((_, still),) = glb_files(scene, scene.times, replace(options, root_motion=False))
    document = read_glb(data).json
    assert "cameras" not in read_glb(still).json
    moved, there = mesh_from_glb(data).positions, mesh_from_glb(still).positions
    R = rotation_to("y-up").numpy()
    camera = glb_camera(document)
    camera = camera.resized(source.camera.height, source.camera.width)
    assert image_errors(camera, moved, source, there @ R).max() < 0.03
    root = "root" if animation == "auto" else "object"
    driven = {
        (document["nodes"][channel["target"]["node"]]["name"], channel["target"]["path"])
        for channel in document["animations"][0]["channels"]
    }
    assert {(root, "translation"), (root, "rotation")} <= driven


@pytest.mark.parametrize("formats", [["glb"], ["ply", "splat"]])
def test_verification_undoes_the_motion(tmp_path, formats, scene: Scene):
    scene = replace(scene, source_camera=make_source(2, T=len(scene.times)))
    options = replace(SMALL, animation="morph", root_motion=True)
    with_motion = export(scene, tmp_path / "with", formats, options, verify=True)["formats"]
    without = replace(options, root_motion=False)
    still = export(scene, tmp_path / "without", formats, without, verify=True)["formats"]
    for name in formats:
        found, expected = (entry[name]["verification"] for entry in (with_motion, still))
        assert found["psnr"] == pytest.approx(expected["psnr"], abs=1.0) or found["psnr"] > 60


def test_a_ply_sequence_moves_on_request_only(scene: Scene):
    scene = replace(scene, source_camera=make_source(2, T=len(scene.times)))

    def centers(options: ExportOptions) -> np.ndarray:
        files = ply_files(scene, scene.times, options)
        return np.stack([gaussians_from_ply(data).means.numpy() for _, data in files])

    still = centers(ExportOptions(axes="z-up"))
    moved = centers(ExportOptions(axes="z-up", root_motion=True))
    found = scene_root_motion(scene, scene.times)
    assert found is not None
    np.testing.assert_allclose(found.undone(moved), still, atol=1e-5)
    assert np.abs(moved - still).max() > 0.5


def test_a_motion_that_the_scene_does_not_know_is_refused(scene: Scene, tmp_path):
    with pytest.raises(InputError, match="source camera"):
        export(scene, tmp_path / "x", ["ply"], ExportOptions(root_motion=True))
    assert not (tmp_path / "x" / "ply").exists()
