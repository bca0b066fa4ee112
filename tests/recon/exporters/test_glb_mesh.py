import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from recon.errors import InputError
from recon.exporters import glb_mesh
from recon.exporters.conventions import frame_seconds
from recon.exporters.folder import export
from recon.exporters.glb_mesh import exact_motion, glb_files, mesh_from_glb, rest_time_of
from recon.exporters.gltf import read_glb
from recon.exporters.options import ExportOptions
from recon.exporters.verification import verify_export
from recon.media import encode_image
from recon.scene import Scene
from tests.recon.player.conftest import make_scene

SMALL = ExportOptions(faces=400, texture_size=64, resolution=32, axes="z-up")


def one_file(scene: Scene, options: ExportOptions = SMALL) -> bytes:
    ((name, data),) = glb_files(scene, scene.times, options)
    assert name == "scene.glb"
    return data


def test_vertices_move_as_the_scene_does(scene: Scene):
    """The motion of the fixture is rigid, so every vertex must follow it exactly."""
    mesh = mesh_from_glb(one_file(scene))
    for frame, time in enumerate(scene.times):
        turn = np.array(
            [[np.cos(time), -np.sin(time), 0], [np.sin(time), np.cos(time), 0], [0, 0, 1]]
        )
        expected = mesh.positions[0] @ turn.T + [time / 2, 0, 0]
        np.testing.assert_allclose(mesh.positions[frame], expected, atol=2e-6)
        np.testing.assert_allclose(mesh.normals[frame], mesh.normals[0] @ turn.T, atol=2e-5)


def test_front_and_back_have_their_colors_in_the_texture(scene: Scene):
    mesh = mesh_from_glb(one_file(scene))
    assert mesh.texture is not None
    assert mesh.uv is not None
    column, row = np.floor(mesh.uv * mesh.texture.shape[0]).astype(int).clip(0, 63).T
    colors = mesh.texture[row, column].astype(float)
    front, back = mesh.positions[0][:, 1] < -0.1, mesh.positions[0][:, 1] > 0.1
    assert (colors[front, 0] > 2 * colors[front, 2]).mean() > 0.95  # corners can be on a seam
    assert (colors[back, 2] > 2 * colors[back, 0]).mean() > 0.95


def test_textures_are_read_as_jpeg_and_as_png_and_others_are_refused(scene: Scene, monkeypatch):
    def with_suffix(suffix: str) -> bytes:
        def encode(image: np.ndarray, _: str, **options) -> bytes:
            return encode_image(image, suffix)

        monkeypatch.setattr(glb_mesh, "encode_image", encode)
        return one_file(scene)

    expected = mesh_from_glb(one_file(scene)).texture
    found = mesh_from_glb(with_suffix(".png")).texture
    assert expected is not None and found is not None
    assert np.abs(found.astype(float) - expected).mean() < 3
    with pytest.raises(InputError, match="not a valid JPEG or PNG image"):
        mesh_from_glb(with_suffix(".webp"))


def test_vertex_colors_are_linear_in_the_file_and_srgb_when_read(scene: Scene):
    data = one_file(scene, dataclasses.replace(SMALL, color="vertices"))
    mesh = mesh_from_glb(data)
    assert mesh.vertex_colors is not None
    front = mesh.positions[0][:, 1] < -0.1
    np.testing.assert_allclose(np.median(mesh.vertex_colors[front, 0]), 0.8, atol=0.05)
    glb = read_glb(data)
    stored = glb.array(glb.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"])
    np.testing.assert_allclose(np.median(stored[front, 0]), 0.8**2.2, atol=0.08)


def test_the_animation_shows_one_frame_after_another(scene: Scene):
    glb = read_glb(one_file(scene))
    mesh, animation = glb.json["meshes"][0], glb.json["animations"][0]
    assert mesh["extras"]["targetNames"] == [f"frame_{k:04d}" for k in range(1, 5)]
    sampler = animation["samplers"][0]
    assert sampler["interpolation"] == "LINEAR"
    np.testing.assert_allclose(glb.array(sampler["input"]), np.arange(5) / scene.fps)
    weights = glb.array(sampler["output"]).reshape(5, 4)
    np.testing.assert_array_equal(weights, np.eye(5)[:, 1:])


def test_a_still_scene_has_neither_targets_nor_animation(scene: Scene):
    ((_, data),) = glb_files(scene, scene.times[:1], SMALL)
    document = read_glb(data).json
    assert "animations" not in document
    assert "targets" not in document["meshes"][0]["primitives"][0]


def test_trimesh_reads_the_same_mesh_upright(scene: Scene):
    """trimesh reads the base: +Y up, the front (red) towards +Z."""
    data = one_file(scene, dataclasses.replace(SMALL, axes=None))
    loaded = trimesh.load_scene(trimesh.util.wrap_as_stream(data), file_type="glb").to_geometry()
    assert isinstance(loaded, trimesh.Trimesh)
    size = loaded.extents
    assert size[1] > size[0] > size[2]  # 0.4 in height, 0.3 in width, 0.2 in depth
    merged = loaded.copy()
    merged.merge_vertices(merge_tex=True, merge_norm=True)
    assert merged.is_watertight
    assert merged.volume > 0


def test_resampled_frames_take_as_long_as_the_fitted_ones(scene: Scene):
    seconds = frame_seconds(scene, np.linspace(0, 1, 9))
    np.testing.assert_allclose(seconds, np.linspace(0, 4 / scene.fps, 9))


def test_exporting_leaves_the_scene_as_it_was(scene: Scene):
    before = scene.gaussians.map(torch.clone)
    one_file(scene)
    for now, then in zip(scene.gaussians, before, strict=True):
        assert torch.equal(now, then)


@pytest.fixture(scope="module")
def boned() -> Scene:
    """Random Gaussians that 12 bones move, by some degrees a frame."""
    scene = make_scene("bones", count=300)
    for rotation in scene.deformation.rotations:  # type: ignore[union-attr]
        rotation.data.lerp_(torch.tensor([1.0, 0.0, 0.0, 0.0]), 0.8)
    return scene


@pytest.fixture(scope="module")
def skinned(boned: Scene) -> bytes:
    return one_file(boned)


@pytest.fixture(scope="module")
def morphed(boned: Scene) -> bytes:
    return one_file(boned, dataclasses.replace(SMALL, animation="morph"))


def test_a_scene_of_bones_gets_a_skin_and_no_targets(skinned: bytes, morphed: bytes):
    document = read_glb(skinned).json
    primitive = document["meshes"][0]["primitives"][0]
    assert "targets" not in primitive
    assert {"JOINTS_0", "WEIGHTS_0", "JOINTS_1", "WEIGHTS_1"} <= set(primitive["attributes"])
    assert {c["target"]["path"] for c in document["animations"][0]["channels"]} == {
        "translation",
        "rotation",
    }
    assert len(skinned) < len(morphed)


def test_joints_are_a_tree_below_one_root(skinned: bytes):
    document = read_glb(skinned).json
    joints = document["skins"][0]["joints"]
    children = [child for joint in joints for child in document["nodes"][joint].get("children", [])]
    assert document["nodes"][joints[0]]["name"] == "root"
    assert document["scenes"][0]["nodes"] == [0, joints[0]]
    assert sorted(children) == joints[1:]  # each has one parent
    names = [document["nodes"][joint]["name"] for joint in joints]
    assert len(set(names)) == len(names)


def test_a_skin_moves_vertices_and_normals_as_the_scene_does(
    boned: Scene, skinned: bytes, morphed: bytes
):
    mesh = mesh_from_glb(skinned)
    expected = exact_motion(boned, boned.times, SMALL, rest_time_of(skinned))
    size = np.linalg.norm(np.ptp(expected[0], axis=0))
    errors = np.linalg.norm(mesh.positions - expected, axis=-1) / size
    assert errors.mean() < 0.005
    other = mesh_from_glb(morphed)
    np.testing.assert_allclose(other.positions, expected, atol=1e-6)
    assert np.median((mesh.normals * other.normals).sum(axis=-1)) > 0.98


def test_weights_sum_to_one_and_the_strongest_come_first(skinned: bytes):
    glb = read_glb(skinned)
    attributes = glb.json["meshes"][0]["primitives"][0]["attributes"]
    weights = np.concatenate([glb.array(attributes[f"WEIGHTS_{n}"]) for n in (0, 1)], axis=1)
    joints = np.concatenate([glb.array(attributes[f"JOINTS_{n}"]) for n in (0, 1)], axis=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert (np.diff(weights, axis=1) <= 1 / 65535).all()
    assert (joints[weights == 0] == 0).all()


def test_the_nodes_are_in_the_pose_of_the_first_frame(skinned: bytes):
    glb = read_glb(skinned)
    animated = {c["target"]["node"]: c for c in glb.json["animations"][0]["channels"]
                if c["target"]["path"] == "translation"}  # fmt: skip
    for node, channel in animated.items():
        sampler = glb.json["animations"][0]["samplers"][channel["sampler"]]
        first = glb.array(sampler["output"])[0]
        np.testing.assert_array_equal(np.float32(glb.json["nodes"][node]["translation"]), first)


def test_the_root_stands_upright_in_the_axes_of_gltf(boned: Scene):
    skinned = one_file(boned, dataclasses.replace(SMALL, axes=None))
    glb = read_glb(skinned)
    matrices = glb.array(glb.json["skins"][0]["inverseBindMatrices"]).reshape(-1, 4, 4)
    np.testing.assert_allclose(matrices[0, :3, :3], np.eye(3), atol=1e-6)
    ground = mesh_from_glb(skinned).rest[:, 1].min()
    np.testing.assert_allclose(-matrices[0, 3, 1], ground, atol=1e-6)


def test_verification_measures_the_vertices_between_frames_too(boned: Scene, tmp_path: Path):
    export(boned, tmp_path, ["glb", "splat"], SMALL)
    results = verify_export(boned, tmp_path)
    found = results["glb"]
    assert found.mean_vertex_error is not None
    assert found.max_vertex_error is not None
    assert 0 < found.mean_vertex_error < found.max_vertex_error < 0.1
    assert found.bytes == (tmp_path / "glb/scene.glb").stat().st_size
    assert results["splat"].mean_vertex_error is None


def test_a_skeleton_that_misses_the_motion_is_warned_of(boned: Scene, monkeypatch, caplog):
    one_file(boned)
    assert "skeleton" not in caplog.text
    monkeypatch.setattr(glb_mesh, "LARGEST_ERROR", 1e-3)
    one_file(boned)
    assert "%" in caplog.text and ("--frames" in caplog.text or "morph" in caplog.text)


def test_the_errors_of_a_skeleton_are_those_that_verification_finds(
    boned: Scene, tmp_path: Path, monkeypatch
):
    found = []
    monkeypatch.setattr(glb_mesh, "_warn_of_errors", found.append)
    export(boned, tmp_path, ["glb"], SMALL)
    verified = verify_export(boned, tmp_path)["glb"].max_vertex_error
    assert max(found[0]) == pytest.approx(verified, rel=0.2)  # relative to another pose's size


def test_an_unknown_animation_is_refused():
    with pytest.raises(InputError, match=r"'skin'.*auto, morph"):
        ExportOptions(animation="skin")
