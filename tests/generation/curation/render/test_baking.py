import numpy as np
import pytest

from generation.curation.assets.files import find_assets
from generation.curation.figures.asset import FigureAsset
from generation.curation.manifest import Status
from generation.curation.render.baked_asset import FIELDS, read_baked
from generation.curation.render.baking import CLIP_FILES, bake_asset
from generation.curation.render.rendering import AssetTask
from generation.curation.render.settings import BakeSettings, RenderSettings
from recon.errors import InputError
from recon.media import write_png
from tests.generation.curation.conftest import needs_blender
from tests.generation.curation.plain_gltf import animated_vertices
from tests.generation.curation.tiny_assets import animated_box_glb, partial_clips_glb


def normalized(vertices: np.ndarray) -> np.ndarray:
    """Center the bounding box of points [..., 3] and scale them into the ball of radius 0.8."""
    flat = vertices.reshape(-1, 3)
    flat = flat - (flat.min(0) + flat.max(0)) / 2
    return flat * 0.8 / np.linalg.norm(flat, axis=1).max()


@needs_blender
def test_several_clips_are_baked_and_each_is_normalized_over_its_own_frames(tmp_path):
    path = tmp_path / "partial.glb"
    path.write_bytes(partial_clips_glb())
    task = AssetTask(find_assets([path])[0], tmp_path / "baked", BakeSettings(3, 4), threads=1)
    row = bake_asset(task)
    assert row.status is Status.BAKED, row
    files = sorted((tmp_path / "baked").glob(CLIP_FILES))
    names = row.facts["baked"]
    assert len(files) == len(set(names)) == 3
    assert names[0] == row.clip
    for file, name in zip(files, names, strict=True):
        expected = normalized(animated_vertices(path.read_bytes(), name, 4))
        found = np.concatenate([frame.vertices for frame in read_baked(file).frames])
        np.testing.assert_allclose(found.min(0), expected.min(0), atol=1e-3)
        np.testing.assert_allclose(found.max(0), expected.max(0), atol=1e-3)
    assert bake_asset(task).seconds == row.seconds  # nothing was done again


@needs_blender
@pytest.mark.parametrize("still", [{"animated": False}, {"moves": False}])
def test_an_asset_that_does_not_move_is_baked_as_a_single_frame(still, tmp_path):
    path = tmp_path / "still.glb"
    path.write_bytes(animated_box_glb(**still))
    row = bake_asset(
        AssetTask(find_assets([path])[0], tmp_path / "baked", BakeSettings(3, 4), threads=1)
    )
    assert (row.status, row.clip_seconds, len(row.facts["baked"])) == (Status.BAKED, 0.0, 1), row
    (file,) = (tmp_path / "baked").glob(CLIP_FILES)
    (frame,) = read_baked(file).frames
    assert len(frame.triangles) == 24
    np.testing.assert_allclose(normalized(frame.vertices), frame.vertices, atol=1e-3)


def test_a_character_is_baked_as_it_is_rendered_without_blender(tmp_path, monkeypatch):
    monkeypatch.setenv("FOURDVD_BLENDER", "/nowhere/blender")
    asset = FigureAsset(3)
    row = bake_asset(AssetTask(asset, tmp_path / "baked", BakeSettings(2, 3)))
    assert (row.status, row.facts["baked"]) == (Status.BAKED, ["swing"])
    found = read_baked(tmp_path / "baked" / "clip_00.npz")
    expected = asset.bake(RenderSettings(frames=3)).asset
    assert (found.surfaces, found.textures) == (expected.surfaces, expected.textures)
    for one, other in zip(found.frames, expected.frames, strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_an_asset_that_is_refused_leaves_no_folder(tmp_path):
    (tmp_path / "cut.glb").write_bytes(partial_clips_glb()[:-40])
    asset = find_assets([tmp_path / "cut.glb"])[0]
    row = bake_asset(AssetTask(asset, tmp_path / "baked", BakeSettings()))
    assert (row.status, row.facts["code"]) == (Status.REJECTED, "truncated")
    assert not (tmp_path / "baked").exists()


@needs_blender
def test_textures_are_reduced_channel_by_channel(tmp_path):
    texture = np.zeros((8, 16, 4), np.uint8)
    texture[..., 0] = np.arange(16) * 10
    texture[:, ::2, 1] = 200
    texture[:, ::2, 3] = 1  # the opaque material ignores alpha
    texture[:, 1::2, 3] = 255
    path = tmp_path / "box.glb"
    write_png(tmp_path / "texture.png", texture)
    path.write_bytes(animated_box_glb(texture=(tmp_path / "texture.png").read_bytes()))
    asset = find_assets([path])[0]
    bake_asset(AssetTask(asset, tmp_path / "baked", BakeSettings(1, 2, texture_size=4), threads=1))
    (reduced,) = read_baked(tmp_path / "baked" / "clip_00.npz").textures
    assert reduced.shape == (2, 4, 4)
    np.testing.assert_allclose(reduced[..., 0], [[15, 55, 95, 135]] * 2, atol=1)
    np.testing.assert_allclose(reduced[..., 1], 100, atol=1)


@pytest.mark.parametrize("numbers", [(0, 8), (101, 8), (3, 0), (3, 8, 0)])
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(InputError, match=r"expected (clips|frames|texture size) from 1 to"):
        BakeSettings(*numbers)
