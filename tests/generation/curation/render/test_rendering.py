import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from generation.curation.assets.files import Asset, AssetFormat, find_assets
from generation.curation.assets.limits import Limits
from generation.curation.manifest import Row, Status
from generation.curation.render.maps import DEPTH_UNIT, read_layers
from generation.curation.render.rendering import (
    RenderTask,
    finished_row,
    loose_texture,
    render_asset,
)
from generation.curation.render.settings import Renderer, RenderSettings
from recon.errors import InputError
from recon.grid import Grid, read_grid
from recon.grid.cameras import viewing_angles_deg
from recon.grid.grid import composite
from recon.media import read_png
from tests.generation.curation.conftest import needs_blender
from tests.generation.curation.tiny_assets import (
    animated_box,
    animated_box_glb,
    morphing_box_glb,
    outlined_box_glb,
    png,
    skinned_box_glb,
    turn_about_y,
    write_animated_box_gltf,
    write_obj_sequence,
)

FAST = RenderSettings(views=4, frames=3, size=48, elevation_deg=20, renderer=Renderer.fast)
TRUTH = replace(FAST, depth=True, normals=True, layers=True, tracks=1000)


def write(path: Path, content: bytes) -> Asset:
    path.write_bytes(content)
    return find_assets([path])[0]


def render(asset: Asset, folder: Path, settings: RenderSettings = FAST, **options) -> Row:
    return render_asset(RenderTask(asset, folder, settings, threads=1, **options))


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> Path:
    """Folder of a grid of two boxes with depth, normals and tracks, by the fast renderer."""
    folder = tmp_path_factory.mktemp("box")
    asset = write(folder / "box.glb", animated_box_glb())
    row = render(replace(asset, licence="CC0-1.0", author="nobody"), folder / "grid", TRUTH)
    assert row.status is Status.RENDERED, row
    return folder / "grid"


@needs_blender
def test_an_asset_becomes_a_grid_with_the_cameras_of_the_convention(box):
    grid = read_grid(box)
    assert (grid.V, grid.T, grid.height, grid.width) == (4, 3, 48, 48)
    np.testing.assert_allclose(grid.times, [0, 0.5, 1])
    for view, camera in enumerate(grid.cameras):
        assert np.linalg.norm(camera.position) == pytest.approx(3.2)
        assert viewing_angles_deg(camera) == pytest.approx((90 * view, 20))
        assert camera.fl_x == pytest.approx(24 / np.tan(np.radians(33.8 / 2)))


@needs_blender
def test_the_row_says_what_was_rendered_and_where_it_came_from(box):
    values = json.loads((box / "render.json").read_text())
    assert (values["status"], values["licence"], values["author"]) == (
        "rendered", "CC0-1.0", "nobody",
    )  # fmt: skip
    assert (values["clip"], values["clip_seconds"]) == ("move", pytest.approx(1.0))
    assert (values["vertices"], values["triangles"]) == (48, 24)
    assert values["settings"] == json.loads(json.dumps(TRUTH.as_json()))


@needs_blender
def test_the_object_is_centered_and_scaled_to_the_radius_over_all_frames(box):
    points = load_file(box / "tracks.safetensors")["points"]
    assert points.shape == (3, 48, 3)
    assert np.linalg.norm(points, axis=-1).max() == pytest.approx(0.8, abs=1e-5)
    ends = np.stack([points.reshape(-1, 3).min(0), points.reshape(-1, 3).max(0)])
    np.testing.assert_allclose(ends.sum(0), 0, atol=1e-5)


@pytest.mark.slow
@needs_blender
def test_a_stretched_asset_is_wider_along_its_own_axes(box):
    settings = replace(TRUTH, stretch=1.6, seed=3, depth=False, normals=False, layers=False)
    asset = find_assets([box.parent / "box.glb"])[0]
    row = render(asset, box.parent / "stretched", settings)
    assert row.status is Status.RENDERED, row
    factors = np.array(settings.factors("box"))
    assert factors.max() / factors.min() > 1.1
    before, after = (
        np.ptp(load_file(folder / "tracks.safetensors")["points"], axis=(0, 1))
        for folder in (box, box.parent / "stretched")
    )
    common = after / before / factors
    np.testing.assert_allclose(common, common[0], rtol=1e-4)


def test_factors_depend_on_seed_and_name_and_stay_in_their_range():
    settings = replace(FAST, stretch=1.5)
    found = np.array([settings.factors(f"{number}") for number in range(300)])
    assert settings.factors("7") == found[7].tolist()
    assert settings.factors("7") != replace(settings, seed=1).factors("7")
    assert found.min() >= 1 / 1.5
    assert found.max() <= 1.5
    np.testing.assert_allclose(np.log(found).mean(0), 0, atol=0.06)
    assert FAST.factors("7") == [1, 1, 1]


@needs_blender
def test_tracked_points_are_on_the_depth_map_or_behind_it(box):
    grid = read_grid(box)
    points = load_file(box / "tracks.safetensors")["points"]
    for index in range(len(grid)):
        camera, frame = grid.camera_of(index), grid.frame[index]
        seen = points[frame] @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
        pixel = seen[:, :2] / seen[:, 2:] * camera.fl_x + [camera.cx, camera.cy]
        x, y = np.floor(pixel).astype(int).T
        path = box / "depth" / f"v{grid.view[index]:02d}" / f"t{frame:03d}.png"
        depth = np.asarray(Image.open(path)).astype(float) * DEPTH_UNIT
        # a corner lies at the edge of what its pixel sees: its neighbors are asked, too
        near = np.stack([depth[y + j, x + i] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        assert (near > 0).any(axis=0).all()
        nearest = np.where(near > 0, near, np.inf).min(axis=0)
        assert (seen[:, 2] > nearest - 0.03).all()
        assert (np.abs(seen[:, 2] - nearest) < 0.03).sum() >= 6


@needs_blender
def test_normal_maps_agree_with_the_planes_in_the_depth_map(box):
    camera = read_grid(box).cameras[0]
    depth = np.asarray(Image.open(box / "depth/v00/t000.png")).astype(float) * DEPTH_UNIT
    coded = np.asarray(Image.open(box / "normals/v00/t000.png")).astype(float)
    normals = coded / 255 * 2 - 1
    y, x = np.mgrid[:48, :48] + 0.5
    seen = np.stack([(x - camera.cx) / camera.fl_x, (y - camera.cy) / camera.fl_y, np.ones_like(x)])
    points = (seen * depth).transpose(1, 2, 0) @ camera.viewmat[:3, :3]
    across = np.cross(points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1])
    across /= np.linalg.norm(across, axis=-1, keepdims=True) + 1e-12
    inner = normals[1:-1, 1:-1]
    agree = np.abs((across * inner).sum(-1))[depth[1:-1, 1:-1] > 0]
    assert np.median(agree) > 0.99
    towards = (inner * (camera.position - points[1:-1, 1:-1])).sum(-1)[depth[1:-1, 1:-1] > 0]
    assert (towards > 0).mean() > 0.98


@needs_blender
def test_layers_are_the_surfaces_of_both_boxes(box):
    """The boxes are closed: a pixel shows the object where a ray enters and leaves it."""
    grid = read_grid(box)
    for index in range(len(grid)):
        layers = read_layers(box, int(grid.view[index]), int(grid.frame[index]))
        alpha = grid.images[index, ..., 3]
        assert layers.mask[alpha == 255].all() and not layers.mask[alpha == 0].any()
        thickness = (layers.depth[1] - layers.depth[0])[layers.mask]
        assert (thickness >= 0).all() and np.median(thickness) > 0.05
        front = read_png(box / f"depth/v{grid.view[index]:02d}/t{grid.frame[index]:03d}.png")
        assert np.mean(np.abs(front * DEPTH_UNIT - layers.depth[0]) < 2e-4) > 0.99


def psnr_and_iou(a: Grid, b: Grid) -> tuple[float, float]:
    error = composite(a.images).astype(float) - composite(b.images)
    inside = (a.images[..., 3] > 127, b.images[..., 3] > 127)
    iou = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    return float(10 * np.log10(255**2 / max(np.mean(error**2), 1e-9))), float(iou)


@needs_blender
def test_cycles_and_the_fast_renderer_render_nearly_the_same_image(box, tmp_path):
    asset = find_assets([box.parent / "box.glb"])[0]
    cycles = replace(FAST, renderer=Renderer.cycles, samples=64, layers=True)
    row = render(asset, tmp_path / "cycles", cycles)
    assert row.status is Status.RENDERED, row.reason
    for one, other in zip(*(read_layers(g, 2, 1) for g in (tmp_path / "cycles", box)), strict=True):
        np.testing.assert_array_equal(one, other)
    psnr, iou = psnr_and_iou(read_grid(tmp_path / "cycles"), read_grid(box))
    assert iou > 0.98
    assert psnr > 32


def shares(grid: Grid) -> np.ndarray:
    """Return the shares of black, red and green in the object's pixels."""
    opaque = grid.images[grid.images[..., 3] == 255][:, :3].astype(int)
    red, green, _ = opaque.T
    return np.array([(opaque.max(1) < 30).mean(), (red > green + 40).mean(),
                     (green > red + 40).mean()])  # fmt: skip


@needs_blender
@pytest.mark.parametrize("renderer", list(Renderer))
def test_single_sided_materials_are_seen_from_the_front_only(renderer, tmp_path):
    settings = replace(FAST, renderer=renderer, samples=16)
    seen = {}
    for double_sided in (False, True):
        asset = write(tmp_path / f"{double_sided}.glb", outlined_box_glb(double_sided))
        row = render(asset, tmp_path / f"grid {double_sided}", settings)
        assert row.status is Status.RENDERED, row.reason
        seen[double_sided] = shares(read_grid(tmp_path / f"grid {double_sided}"))
    black, red, green = seen[False]
    assert 0.05 < black < 0.5 and red > 0.2, "the box in an outline"
    assert green > 0.15, "mirrored triangles are seen from outside"
    assert seen[True][1] == 0, "the shell hides the box"


@pytest.mark.slow
@needs_blender
def test_other_formats_give_the_same_grid(box, tmp_path):
    script = Path(__file__).with_name("blender_export.py")
    command = [sys.executable, str(script), str(box.parent / "box.glb"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    expected = read_grid(box)
    for name in ("box.abc", "box.usdc", "box.fbx"):
        asset = find_assets([tmp_path / name])[0]
        row = render(asset, tmp_path / f"grid {name}")
        assert row.status is Status.RENDERED, (name, row.reason)
        _, iou = psnr_and_iou(read_grid(tmp_path / f"grid {name}"), expected)
        assert iou > 0.95, name


@pytest.mark.slow
@needs_blender
def test_a_folder_of_obj_files_is_a_clip(tmp_path):
    asset = find_assets([write_obj_sequence(tmp_path / "boxes", frames=3)])[0]
    row = render(asset, tmp_path / "grid", replace(FAST, tracks=8))
    assert row.status is Status.RENDERED, row.reason
    points = load_file(tmp_path / "grid" / "tracks.safetensors")["points"]
    steps = np.diff(points[:, :, 0], axis=0)
    np.testing.assert_allclose(steps, steps[0, 0], rtol=1e-4)
    assert steps[0, 0] > 0


@pytest.mark.slow
@needs_blender
def test_vertices_cannot_be_tracked_if_their_number_changes(tmp_path):
    folder = write_obj_sequence(tmp_path / "boxes", frames=3)
    last = folder / "box_0003.obj"
    last.write_text(last.read_text() + "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -3\n")
    row = render(find_assets([folder])[0], tmp_path / "grid", replace(FAST, tracks=8))
    assert row.status is Status.RENDERED, row.reason
    assert "no tracks" in row.facts["warnings"][-1]
    assert not (tmp_path / "grid" / "tracks.safetensors").exists()


@pytest.mark.slow
@needs_blender
@pytest.mark.parametrize("content", [skinned_box_glb(), morphing_box_glb()])
def test_skins_and_morph_targets_move(content, tmp_path):
    row = render(write(tmp_path / "it.glb", content), tmp_path / "grid", replace(FAST, tracks=100))
    assert row.status is Status.RENDERED, row.reason
    points = load_file(tmp_path / "grid" / "tracks.safetensors")["points"]
    assert np.ptp(points, axis=0).max() > 0.1


@pytest.mark.slow
@needs_blender
def test_repeated_frames_are_rendered(tmp_path):
    builder = animated_box(animated=False)
    builder.animate(2, "translation", [[0, 0, 0], [0, 0, 0], [0, 1, 0]], (0, 1.5, 2), name="wait")
    asset = write(tmp_path / "box.glb", builder.glb())
    assert render(asset, tmp_path / "grid").status is Status.RENDERED
    grid = read_grid(tmp_path / "grid")
    assert np.array_equal(grid.image(0, 0), grid.image(0, 1))
    assert not np.array_equal(grid.image(0, 0), grid.image(0, 2))


@pytest.mark.slow
@needs_blender
def test_the_animation_with_most_deformation_is_the_default(tmp_path):
    builder = animated_box(animated=False)
    builder.animate(2, "rotation", turn_about_y(np.array([0, 0.1, 0.2])), name="nod")
    builder.animate(2, "rotation", turn_about_y(np.array([0, 0.8, 1.6])), name="spin")
    asset = write(tmp_path / "two.glb", builder.glb())
    assert render(asset, tmp_path / "a").clip == "spin"
    assert render(asset, tmp_path / "b", replace(FAST, action="nod")).clip == "nod"
    row = render(asset, tmp_path / "c", replace(FAST, action="fly"))
    assert (row.status, row.facts["code"]) == (Status.REJECTED, "no_such_action")
    assert "nod, spin" in str(row.reason)
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
@needs_blender
def test_a_clip_in_which_nothing_moves_is_refused(tmp_path):
    row = render(write(tmp_path / "still.glb", animated_box_glb(moves=False)), tmp_path / "grid")
    assert (row.status, row.facts["code"]) == (Status.REJECTED, "no_motion")


@needs_blender
def test_assets_that_only_the_import_finds_invalid_are_rejected(box, tmp_path):
    asset = find_assets([write_obj_sequence(tmp_path / "boxes", frames=3)])[0]
    row = render(asset, tmp_path / "grid", limits=Limits(triangles=5))
    assert (row.status, row.facts["code"]) == (Status.REJECTED, "too_many_triangles")
    (tmp_path / "plane.usda").write_text('#usda 1.0\ndef Xform "nothing" {}\n')
    row = render(find_assets([tmp_path / "plane.usda"])[0], tmp_path / "grid")
    assert (row.status, row.facts["code"]) == (Status.REJECTED, "no_triangles")


@pytest.mark.slow
@needs_blender
def test_a_missing_texture_is_a_warning(tmp_path):
    path = write_animated_box_gltf(tmp_path, texture=png())
    (tmp_path / "textures" / "box.png").unlink()
    row = render(find_assets([path])[0], tmp_path / "grid")
    assert row.status is Status.RENDERED, row.reason
    assert any("texture" in warning for warning in row.facts["warnings"])


@pytest.mark.slow
@needs_blender
def test_textures_are_rendered(tmp_path):
    asset = write(tmp_path / "box.glb", animated_box_glb(texture=png(rgb=(0, 255, 0))))
    assert render(asset, tmp_path / "grid").status is Status.RENDERED
    image = read_grid(tmp_path / "grid").image(0, 0)
    red, green, _ = image[image[..., 3] == 255][:, :3].astype(int).T
    assert (green > red + 20).any()  # the factor's green of 0.1 is left of pure green


def test_an_image_named_after_the_asset_is_its_loose_texture(tmp_path):
    asset = tmp_path / "Dragon.fbx"
    asset.touch()
    assert loose_texture(asset) is None
    (tmp_path / "Dragon_Texture.png").touch()
    (tmp_path / "Other.png").touch()
    assert loose_texture(asset) == tmp_path / "Dragon_Texture.png"
    (tmp_path / "Dragon_Normal.png").touch()
    assert loose_texture(asset) is None, "which of two it is cannot be known"


def test_a_bad_file_is_refused_before_blender_starts(instead_of_blender, tmp_path):
    instead_of_blender("raise SystemExit('never')")
    row = render(write(tmp_path / "cut.glb", animated_box_glb()[:-50]), tmp_path / "grid")
    assert (row.status, row.facts["code"]) == (Status.REJECTED, "truncated")


def test_an_importer_that_hangs_is_killed_at_the_time_limit(instead_of_blender, tmp_path):
    instead_of_blender("import time; time.sleep(600)")
    row = render(write(tmp_path / "it.glb", animated_box_glb()), tmp_path / "grid", timeout_s=0.5)
    assert row.status is Status.FAILED
    assert "0.5 s" in str(row.reason)
    assert not (tmp_path / "grid").exists()


def test_a_crash_of_blender_is_recorded_with_the_last_line_of_its_log(instead_of_blender, tmp_path):
    instead_of_blender("import os; print('out of luck', flush=True); os.abort()")
    row = render(write(tmp_path / "it.glb", animated_box_glb()), tmp_path / "grid")
    assert row.status is Status.FAILED
    assert "out of luck" in str(row.reason)
    assert list(tmp_path.glob(".grid*")) == []


@pytest.mark.slow
@needs_blender
def test_an_installed_blender_program_gives_the_same_grid(box, instead_of_blender, tmp_path):
    instead_of_blender("import sys; exec(sys.argv[sys.argv.index('--python-expr') + 1])")
    row = render(find_assets([box.parent / "box.glb"])[0], tmp_path / "grid")
    assert row.status is Status.RENDERED, row.reason
    assert np.array_equal(read_grid(tmp_path / "grid").images, read_grid(box).images)


@needs_blender
def test_a_finished_grid_is_not_rendered_again(box, instead_of_blender):
    instead_of_blender("raise SystemExit('never')")
    asset = find_assets([box.parent / "box.glb"])[0]
    assert finished_row(box, asset, FAST) is None, "other settings"
    assert finished_row(box, replace(asset, path=box), TRUTH) is None, "another asset"
    assert render(asset, box, TRUTH) == finished_row(box, asset, TRUTH)


@pytest.mark.parametrize(
    "wrong", [{"views": 0}, {"size": 1}, {"samples": 0}, {"frames": 10**6}, {"stretch": 0.5}]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        replace(FAST, **wrong)


def test_an_asset_is_named_by_its_format():
    assert {str(each) for each in AssetFormat} == {"glb", "gltf", "fbx", "abc", "usd", "obj"}
