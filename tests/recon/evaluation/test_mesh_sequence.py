"""Meshes of other programs, one per frame, are drawn where and as they are."""

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.sample import sample_surface
from trimesh.visual import ColorVisuals, TextureVisuals

from recon.errors import InputError
from recon.evaluation import evaluate
from recon.evaluation.mesh_sequence import read_mesh_frame
from recon.exporters.conventions import rotation_to
from recon.grid import Camera, grid_from_views, orbit_camera
from recon.grid.writing import write_posed_images
from recon.mesh.rendering import render_mesh

CAMERA = orbit_camera(30, 20, 3.2, 33.8, 48, 48)


def box_with_colors(center: float) -> trimesh.Trimesh:
    """A box whose right half (+X) is red, and whose left half is blue, in our world."""
    box = trimesh.creation.box((1.0, 0.4, 0.3))
    colors = np.where(box.vertices[:, :1] > 0, [[255, 0, 0, 255]], [[0, 0, 255, 255]])
    box.visual = ColorVisuals(box, vertex_colors=colors.astype(np.uint8))
    box.apply_translation((center, 0, 0))
    return box


def drawn(mesh: trimesh.Trimesh, camera: Camera) -> np.ndarray:
    """A silhouette by projecting dense samples of the surface into 4 × 4 parts of pixels, bool."""
    points = sample_surface(mesh, 60_000, seed=0)[0]
    pixels, _ = camera.resized(4 * camera.height, 4 * camera.width).project(np.asarray(points))
    column, row = np.floor(pixels).astype(int).T
    parts = np.zeros((camera.height, 4, camera.width, 4))
    parts.reshape(4 * camera.height, -1)[row, column] = 1
    return parts.mean(axis=(1, 3)) > 0.5


def exported(mesh: trimesh.Trimesh, axes: str, scale: float, path) -> None:
    turned = mesh.copy()
    turned.vertices = mesh.vertices @ rotation_to(axes).numpy().T / scale
    turned.export(path)


@pytest.mark.parametrize(("suffix", "axes"), [("glb", "y-up"), ("obj", "z-up")])
def test_a_sequence_covers_the_pixels_of_the_truth(tmp_path, suffix, axes):
    (tmp_path / "meshes").mkdir()
    masks = []
    for frame, center in enumerate((0.0, 0.3)):
        mesh = box_with_colors(center)
        exported(mesh, axes, 2.0, tmp_path / "meshes" / f"mesh_{9 + frame}.{suffix}")
        masks.append(drawn(mesh, CAMERA))
    images = np.zeros((1, 2, 48, 48, 4), np.uint8)
    images[0, ..., 3] = 255 * np.stack(masks)
    write_posed_images(grid_from_views([CAMERA], images), tmp_path)
    found = evaluate(tmp_path / "meshes", tmp_path, axes=axes, scale=2.0)
    assert len(found.images) == 2 and found.iou > 0.9
    assert found.notes == ()
    assert evaluate(tmp_path / "meshes", tmp_path, axes=axes, scale=1.0).iou < 0.5


def test_colors_of_vertices_are_shown(tmp_path):
    exported(box_with_colors(0), "y-up", 1.0, tmp_path / "0.glb")
    mesh = read_mesh_frame(tmp_path / "0.glb", "y-up", 1.0)
    front = orbit_camera(0, 0, 3.2, 33.8, 32, 32)
    image = render_mesh(mesh, 0, front, (1.0, 1.0, 1.0))
    red, blue = image[16, 20], image[16, 12]  # +X is to the right of the front
    assert red[0] > red[2] and blue[2] > blue[0]


def test_a_texture_is_shown_upright(tmp_path):
    square = trimesh.Trimesh(
        [[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], [[0, 1, 2], [0, 2, 3]], process=False
    )
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[:4, :, 0] = 255  # the upper half is red
    square.visual = TextureVisuals(
        uv=[[0, 0], [1, 0], [1, 1], [0, 1]], image=Image.fromarray(texture)
    )
    exported(square, "y-up", 1.0, tmp_path / "0.glb")
    mesh = read_mesh_frame(tmp_path / "0.glb", "y-up", 1.0)
    image = render_mesh(mesh, 0, orbit_camera(0, 0, 4, 33.8, 32, 32), (1.0, 1.0, 1.0))
    assert image[10, 16, 0] > 0.9 and image[22, 16, 0] < 0.1


def test_files_that_are_no_meshes_are_named(tmp_path):
    path = tmp_path / "0.glb"
    path.write_bytes(b"not a mesh")
    with pytest.raises(InputError, match=r"0\.glb"):
        read_mesh_frame(path, "y-up", 1.0)
    (tmp_path / "1.obj").write_text("v 0 0 0\n")
    with pytest.raises(InputError, match=r"1\.obj"):
        read_mesh_frame(tmp_path / "1.obj", "y-up", 1.0)
