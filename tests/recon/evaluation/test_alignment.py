"""A known similarity that was applied to a sequence is found again."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from trimesh.visual import ColorVisuals

from recon.errors import InputError
from recon.evaluation import evaluate
from recon.evaluation.alignment import align
from recon.evaluation.mesh_sequence import MeshFrame, mesh_sequence
from recon.evaluation.ply_sequence import PlyFrame, ply_sequence
from recon.evaluation.sequences import Placement
from recon.exporters.conventions import rotate_gaussians, rotation_to
from recon.exporters.ply import ply_from_gaussians
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid import grid_from_views, orbit_camera, read_grid
from recon.grid.writing import write_posed_images
from recon.mesh.animated_mesh import AnimatedMesh
from recon.similarity import Similarity

CAMERAS = [orbit_camera(60 * view, 15, 3.2, 33.8, 48, 48) for view in range(6)]
APPLIED = Placement(2.5, 130.0, np.array([0.4, -0.7, 0.3]))


def inverse(placement: Placement) -> Placement:
    turned = -placement.rotation.T @ placement.offset / placement.scale
    return Placement(1 / placement.scale, -placement.yaw_deg, turned)


def placed(gaussians: Gaussians) -> Gaussians:
    turned = rotate_gaussians(gaussians, torch.from_numpy(APPLIED.rotation))
    return Similarity(APPLIED.scale, APPLIED.offset).gaussians(turned)


def character(frame: int, radius: float = 0.05, count: int = 120) -> PlyFrame:
    """A body with a head to one side and a leg that moves, of different colors."""
    rng = np.random.default_rng(0)
    parts = (
        ((0.0, 0.0, 0.0), (0.45, 0.15, 0.2), (0.8, 0.2, 0.1)),
        ((0.5, 0.0, 0.25), (0.15, 0.12, 0.12), (0.1, 0.3, 0.9)),
        ((-0.3, 0.1 * frame, -0.35), (0.06, 0.06, 0.2), (0.1, 0.7, 0.2)),
    )
    points, colors = [], []
    for center, radii, color in parts:
        steps = rng.standard_normal((count, 3))
        steps *= rng.random((count, 1)) ** (1 / 3) / np.linalg.norm(steps, axis=1, keepdims=True)
        points.append(np.array(center) + steps * radii)
        colors.append(np.broadcast_to(color, (count, 3)))
    tensors = [torch.from_numpy(np.concatenate(each)).float() for each in (points, colors)]
    return PlyFrame(gaussians_from_points(tensors[0], tensors[1], radius, 0.9))


def write_sequence(folder: Path, frames: Sequence[PlyFrame], side: int) -> None:
    """Write what 6 cameras see of frames, and PLY files (Y down) of the moved frames."""
    (folder / "ply").mkdir()
    cameras = [camera.resized(side, side) for camera in CAMERAS]
    images = np.empty((6, len(frames), side, side, 4), np.uint8)
    for number, frame in enumerate(frames):
        for view, camera in enumerate(cameras):
            rgb, alpha = frame.draw(camera)
            straight = ((rgb + alpha[..., None] - 1) / alpha[..., None].clip(1e-6)).clip(0, 1)
            rgba = np.concatenate([straight, alpha[..., None]], axis=-1)
            images[view, number] = np.rint(255 * rgba)
        moved = rotate_gaussians(placed(frame.gaussians), rotation_to("y-down"))
        (folder / "ply" / f"{number}.ply").write_bytes(ply_from_gaussians(moved))
    write_posed_images(grid_from_views(cameras, images), folder)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """The folder of a truth of two frames, and PLY files (Y down) of the moved character."""
    folder = tmp_path_factory.mktemp("alignment")
    write_sequence(folder, [character(0), character(1)], 48)
    return folder


@pytest.fixture(scope="module")
def detailed(tmp_path_factory):
    """Like `sequence`, of one frame of many small Gaussians, as fitted objects have them."""
    folder = tmp_path_factory.mktemp("detailed")
    write_sequence(folder, [character(0, radius=0.01, count=2000)], 128)
    return folder


def test_the_similarity_of_a_ply_sequence_is_found_and_reported(sequence):
    before = evaluate(sequence / "ply", sequence, "cpu")
    found = evaluate(sequence / "ply", sequence, "cpu", aligned=True)
    assert before.iou < 0.3 and before.alignment is None
    assert found.iou > 0.97 and found.psnr > 30 and found.alignment is not None
    placement, expected = found.alignment.placement, inverse(APPLIED)
    assert placement.scale == pytest.approx(expected.scale, rel=0.01)
    assert placement.yaw_deg == pytest.approx(expected.yaw_deg, abs=1.0)
    assert placement.offset == pytest.approx(expected.offset, abs=0.01)
    assert "scale 0." in found.notes[1] and "turned by -1" in found.notes[1]
    written = found.to_json()["alignment"]
    assert written["scale"] == placement.scale and len(written["offset"]) == 3
    assert written["iou_before"] < 0.3 and written["iou"] > 0.97


def test_small_gaussians_do_not_look_too_large_in_small_images(detailed):
    found = evaluate(detailed / "ply", detailed, "cpu", aligned=True)
    assert found.alignment is not None
    placement, expected = found.alignment.placement, inverse(APPLIED)
    assert placement.scale == pytest.approx(expected.scale, rel=0.01)
    assert placement.yaw_deg == pytest.approx(expected.yaw_deg, abs=1.0)
    assert found.iou > 0.97 and found.psnr > 30


def test_a_match_is_left_as_it_is(detailed, tmp_path):
    truth = read_grid(detailed)
    frame = character(0, radius=0.01, count=2000)
    noise = 0.3 * torch.randn(frame.gaussians.sh0.shape, generator=torch.manual_seed(0))
    noisy = frame.gaussians._replace(sh0=frame.gaussians.sh0 + noise)
    turned = rotate_gaussians(noisy, rotation_to("y-down"))
    (tmp_path / "0.ply").write_bytes(ply_from_gaussians(turned))
    found = align(ply_sequence([tmp_path / "0.ply"]), truth)
    assert found.placement.scale == 1 and found.placement.yaw_deg == 0
    assert not found.placement.offset.any() and found.iou == found.iou_before > 0.97
    assert "left as it is" in str(found)


def test_meshes_are_aligned_too(sequence, tmp_path):
    truth = read_grid(sequence)
    body = trimesh.creation.box((0.9, 0.3, 0.4))
    head = trimesh.creation.box(
        (0.3, 0.25, 0.25), trimesh.transformations.translation_matrix((0.5, 0, 0.25))
    )
    for mesh, color in ((body, (204, 51, 25, 255)), (head, (25, 77, 230, 255))):
        mesh.visual = ColorVisuals(mesh, vertex_colors=np.tile(color, (len(mesh.vertices), 1)))
    both = trimesh.util.concatenate([body, head])
    assert isinstance(both, trimesh.Trimesh)
    both.vertices = APPLIED.points(both.vertices) @ rotation_to("y-up").numpy().T
    both.export(tmp_path / "0.glb")
    found = align(mesh_sequence([tmp_path / "0.glb"]), truth)
    assert found.placement.yaw_deg == pytest.approx(-130, abs=10)
    assert found.placement.scale == pytest.approx(0.4, rel=0.1) and found.iou > 0.6


def test_a_moved_camera_sees_what_the_camera_sees_of_the_moved_object():
    frame = character(0)
    camera = orbit_camera(70, 15, 8.0, 33.8, 48, 48)
    images = PlyFrame(placed(frame.gaussians)).draw(camera)
    for found, expected in zip(frame.draw(APPLIED.camera(camera)), images, strict=True):
        assert expected.min() < 0.5 or expected.max() > 0.5
        assert found == pytest.approx(expected, abs=1e-3)


def test_samples_lie_on_the_object():
    frame = character(0)
    points = frame.samples(200, np.random.default_rng(1))
    means = frame.gaussians.means.numpy()
    gaps = np.linalg.norm(points[:, None] - means[None], axis=-1).min(axis=1)
    assert points.shape == (200, 3) and gaps.max() < 0.05 * 3**0.5 + 1e-6
    positions = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]])
    unlit = np.zeros_like(positions)
    mesh = AnimatedMesh(positions[None], unlit[None], positions, unlit, np.array([[0, 1, 2]]))
    points = MeshFrame(mesh).samples(50, np.random.default_rng(1))
    assert (points[:, 2] == 0).all() and (points[:, 0] + points[:, 1] / 2 <= 1 + 1e-9).all()


def test_what_cannot_be_aligned_is_refused(sequence, tmp_path):
    with pytest.raises(InputError, match="only a folder of PLY"):
        evaluate(sequence, sequence, "cpu", aligned=True)
    truth = read_grid(sequence)
    files = ply_sequence(sorted((sequence / "ply").iterdir()))
    with pytest.raises(InputError, match="2 views"):
        align(files, truth.subset(np.flatnonzero(truth.view == 0)))
    empty = grid_from_views(CAMERAS, np.zeros((6, 2, 48, 48, 4), np.uint8))
    with pytest.raises(InputError, match="no object"):
        align(files, empty)
