import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from generation.curation.assets.files import find_assets
from generation.curation.render.blender_process import run_blender
from generation.curation.render.rendering import RenderTask, blender_request
from generation.curation.render.settings import Renderer, RenderSettings
from tests.generation.curation.conftest import needs_blender
from tests.generation.curation.plain_gltf import animated_vertices
from tests.generation.curation.tiny_assets import (
    animated_box,
    holding_box_glb,
    moving_parts_glb,
    partial_clips_glb,
)
from tests.generation.curation.tiny_fbx import tetrahedra_fbx

FRAMES = 7


def clip_and_box(path: Path, action: str | None = None) -> tuple[str, np.ndarray]:
    """Return the clip that is rendered, and the corners of its bounding box over all frames."""
    settings = RenderSettings(action=action, frames=FRAMES, renderer=Renderer.fast)
    (asset,) = find_assets([path])
    task = RenderTask(asset, path.parent / "grid", settings, threads=1)
    result = run_blender(blender_request(asset, task, path.parent), timeout_s=60)
    assert not result.reason, result.message
    return result.clip, np.array(result.bounds) / result.scale + result.center


@pytest.fixture
def partial_clips(tmp_path) -> Path:
    path = tmp_path / "partial.glb"
    path.write_bytes(partial_clips_glb())
    return path


@needs_blender
@pytest.mark.parametrize("clip", ["A_lift", "B_bend", "C_swell", "D_widen", "E_turn"])
def test_a_clip_leaves_everything_it_does_not_key_at_the_values_of_the_file(partial_clips, clip):
    vertices = animated_vertices(partial_clips.read_bytes(), clip, FRAMES).reshape(-1, 3)
    found, box = clip_and_box(partial_clips, clip)
    assert found == clip
    size = np.ptp(vertices, axis=0).max()
    np.testing.assert_allclose(box, [vertices.min(0), vertices.max(0)], atol=1e-3 * size)


@needs_blender
def test_a_clip_does_not_depend_on_the_clips_that_were_measured_before_it(partial_clips):
    clip, box = clip_and_box(partial_clips)
    np.testing.assert_array_equal(box, clip_and_box(partial_clips, clip)[1])


TWO = {"one": (0, 0, 1), "two": (3, 0, 0)}
LIFT, SLIDE = [(0, 0, 5), (0, 0, 7)], [(6, 0, 0), (9, 2, 0)]


@needs_blender
@pytest.mark.parametrize(
    ("clip", "expected"),
    [("A_lift", [[0, 0, 0], [4, 1, 8]]), ("B_slide", [[0, 0, 0], [10, 3, 2]])],
)
def test_clips_of_fbx_files_start_from_the_pose_of_the_file(tmp_path, clip, expected):
    path = tmp_path / "two.fbx"
    path.write_text(tetrahedra_fbx(TWO, {"A_lift": ("one", LIFT), "B_slide": ("two", SLIDE)}))
    np.testing.assert_allclose(clip_and_box(path, clip)[1], expected, atol=1e-5)


@needs_blender
def test_fbx_animations_that_are_named_after_their_objects_are_one_clip(tmp_path):
    path = tmp_path / "two.fbx"
    path.write_text(tetrahedra_fbx(TWO, {"one|run": ("one", LIFT), "two|run": ("two", SLIDE)}))
    clip, box = clip_and_box(path)
    assert clip == "run"
    np.testing.assert_allclose(box, [[0, 0, 0], [10, 3, 8]], atol=1e-5)


@needs_blender
@pytest.mark.parametrize("clip", ["armature|walk|layer", "armature|run|layer"])
def test_animations_of_a_gltf_file_whose_names_end_alike_are_clips_of_their_own(tmp_path, clip):
    builder = animated_box(animated=False)
    builder.animate(2, "translation", [[0, 1, 0], [0, 2, 0], [0, 1, 0]], name="armature|walk|layer")
    builder.animate(2, "translation", [[0, 1, 0], [2, 1, 0], [0, 1, 0]], name="armature|run|layer")
    path = tmp_path / "box.glb"
    path.write_bytes(builder.glb())
    vertices = animated_vertices(builder.glb(), clip, FRAMES).reshape(-1, 3)
    found, box = clip_and_box(path, clip)
    assert found == clip
    np.testing.assert_allclose(box, [vertices.min(0), vertices.max(0)], atol=1e-5)


@needs_blender
def test_a_bone_of_a_scaled_armature_holds_its_child_where_the_file_says(tmp_path):
    path = tmp_path / "holding.glb"
    path.write_bytes(holding_box_glb(scale=20))
    vertices = animated_vertices(path.read_bytes(), "twist", FRAMES).reshape(-1, 3)
    np.testing.assert_allclose(
        clip_and_box(path)[1], [vertices.min(0), vertices.max(0)], atol=1e-3 * 20
    )


@pytest.mark.slow
@needs_blender
@pytest.mark.parametrize("name", ["box.usdc", "box.abc"])
def test_all_parts_of_a_format_with_one_timeline_move_together(tmp_path, name):
    (tmp_path / "parts.glb").write_bytes(moving_parts_glb())
    script = Path(__file__).parents[1] / "render" / "blender_export.py"
    command = [sys.executable, str(script), str(tmp_path / "parts.glb"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    vertices = animated_vertices(moving_parts_glb(), "move", FRAMES).reshape(-1, 3)
    box = clip_and_box(tmp_path / name)[1]
    np.testing.assert_allclose(box, [vertices.min(0), vertices.max(0)], atol=0.02)
