from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from generation.curation.figures.asset import FigureAsset
from generation.curation.render.baked_asset import BakedAsset, Surface
from generation.curation.render.fast_renderer import FastRenderer
from generation.curation.render.maps import (
    DEPTH_UNIT,
    read_layer_normals,
    read_layers,
    write_layers,
    write_maps,
)
from generation.curation.render.settings import RenderSettings
from generation.surface_layers import layer_normals, solid_layers
from recon.errors import GridError
from tests.generation.curation.tiny_meshes import asset, ball, joined, mesh, quad

SETTINGS = RenderSettings(views=2, frames=2, size=24, layers=True)


@pytest.fixture
def baked() -> BakedAsset:
    return FigureAsset(3).bake(SETTINGS)[0]


def test_layers_that_were_written_are_read_again(baked, tmp_path):
    write_maps(baked, SETTINGS, tmp_path)
    renderer = FastRenderer(baked, SETTINGS.light, 1)
    for frame in range(2):
        for view, crossings in enumerate(renderer.crossings(frame, SETTINGS.cameras())):
            expected = solid_layers(crossings, 24, 24)
            found = read_layers(tmp_path, view, frame)
            np.testing.assert_allclose(found.depth, expected.depth, atol=0.51 * DEPTH_UNIT)
            for name in ("color", "mask", "gap"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
            assert [array.dtype for array in found] == [array.dtype for array in expected]
            normals = read_layer_normals(tmp_path, view, frame)
            assert normals.dtype == np.float32
            np.testing.assert_allclose(normals, layer_normals(crossings, 24, 24), atol=0.01)
            assert not normals[:, ~found.mask].any()
            assert found.gap.any() and not found.mask.all()


def test_the_front_layer_is_the_depth_and_the_normal_map(baked, tmp_path):
    settings = RenderSettings(
        views=2, frames=2, size=64, depth=True, normals=True, layers=True, elevation_deg=20
    )
    write_maps(baked, settings, tmp_path)
    depth = np.asarray(Image.open(tmp_path / "depth/v01/t001.png"))
    layers = np.asarray(Image.open(tmp_path / "layers/depth/v01/t001.png"))
    assert layers.shape == (4 * 64, 64) and layers.dtype == depth.dtype
    front = layers[:64].astype(int)
    assert np.mean(np.abs(front - depth) <= 1) > 0.998
    same = (np.abs(front - depth) <= 1) & (depth > 0)
    normals = [
        np.asarray(Image.open(tmp_path / name / "v01/t001.png"))[:64].astype(int)
        for name in ("normals", "layers/normals")
    ]
    assert np.mean(np.abs(normals[0] - normals[1])[same].max(-1) <= 1) > 0.99


def test_only_the_requested_maps_are_written(baked, tmp_path):
    nothing = RenderSettings(views=1, frames=2, size=8)
    write_maps(baked, nothing, tmp_path)
    assert not list(tmp_path.iterdir())
    for settings in (
        replace(nothing, depth=True), replace(nothing, normals=True), replace(nothing, layers=True),
    ):  # fmt: skip
        write_maps(baked, settings, tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("t001.png")}
    layers = {f"layers/{name}" for name in ("parts", "depth", "colors", "normals")}
    assert found == {f"{name}/v00/t001.png" for name in {"depth", "normals", *layers}}


def test_a_frame_without_triangles_has_empty_layers(tmp_path):
    empty = asset(mesh(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3))))
    write_maps(empty, RenderSettings(views=1, frames=1, size=8, layers=True), tmp_path)
    assert not any(array.any() for array in read_layers(tmp_path, 0, 0))


def test_translucent_surfaces_are_no_layer():
    frame = joined(quad(1.4, (0, -0.9, 0), surface=1), ball(0.5), quad(1.4, (0, 0.9, 0), surface=2))
    surfaces = Surface(), Surface((1, 1, 1, 0.4)), Surface((1, 1, 1, 0.6))
    settings = RenderSettings(views=1, size=33)
    renderer = FastRenderer(asset(frame, *surfaces), settings.light, 1)
    (found,) = renderer.crossings(0, settings.cameras())
    depth = solid_layers(found, 33, 33).depth[:, 16, 16]
    np.testing.assert_allclose(depth, [2.7, 3.7, 4.1, 4.1], atol=0.02)


def test_the_layers_show_what_the_images_show_of_single_sided_surfaces():
    """Through a hole in its front, a shell shows its far side only if it is double-sided."""
    shell = ball(0.6, rings=12)
    front = shell.vertices[shell.triangles].mean(axis=1)[:, 1] < -0.45
    fields = ("triangles", "normals", "colors", "surface")
    opened = replace(
        shell, uv=shell.uv[:, ~front], **{name: getattr(shell, name)[~front] for name in fields}
    )
    frame = joined(opened, quad(0.3, (0, 0, 0.5), (0, 1, 0)))  # a sheet, seen from behind
    settings = RenderSettings(views=1, size=64)
    masks = []
    for double_sided in (True, False):
        renderer = FastRenderer(asset(frame, Surface(double_sided=double_sided)), settings.light, 1)
        (found,) = renderer.crossings(0, settings.cameras())
        layers = solid_layers(found, 64, 64)
        truth = renderer.surface_truth(0, settings.cameras()[0])
        assert np.mean(layers.mask == (truth.triangle >= 0)) > 0.998
        same = np.abs(layers.depth[0] - truth.depth) < 1e-3
        assert same.mean() > 0.998
        masks.append(layers.mask)
    assert masks[0][32, 32] and not masks[1][32, 32]


@pytest.mark.parametrize("name", ["parts", "depth", "colors"])
def test_layers_that_are_missing_or_damaged_are_an_error(name, baked, tmp_path):
    (crossings, _) = FastRenderer(baked, SETTINGS.light, 1).crossings(0, SETTINGS.cameras())
    write_layers(tmp_path, "v00/t000.png", crossings, 24, 24)
    path = tmp_path / "layers" / name / "v00/t000.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(GridError) as error:
        read_layers(tmp_path, 0, 0)
    assert error.value.path == path
    Image.open(tmp_path / "layers/normals/v00/t000.png").resize((8, 8)).save(path)
    with pytest.raises(GridError) as error:
        read_layers(tmp_path, 0, 0)
    assert error.value.path == path
    path.unlink()
    with pytest.raises(GridError) as error:
        read_layers(tmp_path, 0, 0)
    assert error.value.path == path
