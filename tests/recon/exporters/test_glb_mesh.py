import dataclasses

import numpy as np
import torch
import trimesh

from recon.exporters.conventions import frame_seconds
from recon.exporters.glb_mesh import glb_files, mesh_from_glb
from recon.exporters.gltf import read_glb
from recon.exporters.options import ExportOptions
from recon.scene import Scene

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
