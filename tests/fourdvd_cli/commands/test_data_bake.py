import json

from generation.curation.render.baked_asset import read_baked
from tests.generation.curation.conftest import needs_blender
from tests.generation.curation.tiny_assets import animated_box_glb, partial_clips_glb

OPTIONS = ["--frames", 2, "--workers", 1, "--json"]


@needs_blender
def test_assets_and_characters_are_baked_once_and_invalid_ones_do_not_stop_the_others(
    fourdvd, tmp_path
):
    assets, out = tmp_path / "assets", tmp_path / "out"
    assets.mkdir()
    (assets / "partial.glb").write_bytes(partial_clips_glb())
    (assets / "cut.glb").write_bytes(animated_box_glb()[:-40])
    options = [assets, "-o", out, "--clips", 2, "--figures", 2, "--seed", 7, *OPTIONS]
    outcome = fourdvd("data", "bake", *options)
    assert outcome.exit_code == 0, outcome.stderr
    summary = json.loads(outcome.stdout)
    assert (summary["baked"], summary["rejected"], summary["failed"]) == (3, 1, 0)
    assert sorted(str(path.relative_to(out)) for path in out.glob("*/*.npz")) == [
        "figure_00000007/clip_00.npz",
        "figure_00000008/clip_00.npz",
        "partial/clip_00.npz",
        "partial/clip_01.npz",
    ]
    assert len(read_baked(out / "partial" / "clip_01.npz").frames) == 2
    lines = (out / "manifest.jsonl").read_text().splitlines()
    again = fourdvd("data", "bake", *options)
    assert json.loads(again.stdout)["from_before"] == 4
    assert (out / "manifest.jsonl").read_text().splitlines() == lines
    other = fourdvd("data", "bake", *options, "--frames", 3)
    assert other.exit_code == 1
    assert "--overwrite" in other.stderr


def test_characters_need_no_assets_but_something_must_be_named(fourdvd, tmp_path):
    outcome = fourdvd("data", "bake", "-o", tmp_path / "out", "--figures", 1, *OPTIONS)
    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["baked"] == 1
    outcome = fourdvd("data", "bake", "-o", tmp_path / "none", *OPTIONS)
    assert outcome.exit_code == 2
    assert "--figures" in outcome.stderr
