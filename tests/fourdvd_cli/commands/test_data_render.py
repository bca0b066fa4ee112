import json

import pytest

from recon.grid import read_grid
from tests.generation.curation.conftest import instead_of_blender, needs_blender
from tests.generation.curation.tiny_assets import animated_box_glb, edited

__all__ = ["instead_of_blender"]
OPTIONS = ["--views", 2, "--frames", 3, "--size", 32, "--renderer", "fast", "--workers", 1]


@pytest.fixture
def assets(tmp_path):
    """One sound asset, one cut off, one without an animation."""
    folder = tmp_path / "assets"
    folder.mkdir()
    (folder / "box.glb").write_bytes(animated_box_glb())
    (folder / "cut.glb").write_bytes(animated_box_glb()[:-40])
    (folder / "still.glb").write_bytes(edited(animated_box_glb(), lambda d: d.pop("animations")))
    (folder / "assets.csv").write_text("file,licence,author\nbox.glb,CC0-1.0,nobody\n")
    return folder


@needs_blender
def test_invalid_assets_do_not_stop_the_others_and_nothing_is_rendered_twice(
    fourdvd, assets, tmp_path
):
    outcome = fourdvd("data", "render", assets, "-o", tmp_path / "out", *OPTIONS, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    summary = json.loads(outcome.stdout)
    assert (summary["rendered"], summary["rejected"], summary["failed"]) == (1, 2, 0)
    rows = {row["name"]: row for row in summary["assets"]}
    assert rows["box"]["licence"] == "CC0-1.0"
    assert (rows["cut"]["code"], rows["still"]["code"]) == ("truncated", "no_animation")
    assert read_grid(tmp_path / "out" / "box").V == 2
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["name"] for line in lines) == ["box", "cut", "still"]

    again = fourdvd("data", "render", assets, "-o", tmp_path / "out", *OPTIONS, "--json")
    assert json.loads(again.stdout)["from_before"] == 3
    assert (tmp_path / "out" / "manifest.jsonl").read_text().splitlines() == lines

    other = fourdvd("data", "render", assets, "-o", tmp_path / "out", *OPTIONS, "--size", 40)
    assert other.exit_code == 1
    assert "--overwrite" in other.stderr
    assert read_grid(tmp_path / "out" / "box").height == 32


def test_a_finished_grid_without_a_manifest_row_gets_one(fourdvd, assets, tmp_path, request):
    request.getfixturevalue("instead_of_blender")("raise SystemExit('never')")
    settings = {
        "action": None, "views": 2, "frames": 3, "size": 32, "elevation_deg": 0.0, "yaw_deg": 0.0,
        "stretch": 1.0, "seed": 0, "samples": 16, "renderer": "fast", "depth": False,
        "normals": False, "layers": False, "tracks": 0,
        "light": {"ambient": 0.55, "sun": 1.6, "direction": [0.55, 0.75, -0.9], "angle_deg": 5.0},
    }  # fmt: skip
    row = {"name": "box", "status": "rendered", "settings": settings}
    row["asset"] = str(assets / "box.glb")
    (tmp_path / "out" / "box").mkdir(parents=True)
    (tmp_path / "out" / "box" / "render.json").write_text(json.dumps(row))
    outcome = fourdvd("data", "render", assets / "box.glb", "-o", tmp_path / "out", *OPTIONS)
    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text())["status"] == "rendered"


def test_it_is_an_input_error_if_no_asset_can_be_rendered(fourdvd, assets, tmp_path):
    outcome = fourdvd("data", "render", assets / "cut.glb", "-o", tmp_path / "out", *OPTIONS)
    assert outcome.exit_code == 3
    assert "cut.glb" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_folder_with_other_files_is_left_unchanged(fourdvd, assets, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("dear")
    outcome = fourdvd("data", "render", assets, "-o", tmp_path / "out", *OPTIONS)
    assert outcome.exit_code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["diary.txt"]


def test_a_missing_blender_has_its_exit_code(fourdvd, assets, tmp_path, monkeypatch):
    monkeypatch.setenv("FOURDVD_BLENDER", "/nowhere/blender")
    outcome = fourdvd("data", "render", assets, "-o", tmp_path / "out", *OPTIONS)
    assert outcome.exit_code == 5
    assert not (tmp_path / "out").exists()


@needs_blender
def test_an_unavailable_device_has_its_exit_code(fourdvd, assets, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    options = ["--views", 1, "--frames", 2, "--size", 16, "--device", "cuda"]
    outcome = fourdvd("data", "render", assets / "box.glb", "-o", tmp_path / "out", *options)
    assert outcome.exit_code == 5
    assert "CUDA" in outcome.stderr


@needs_blender
@pytest.mark.slow
def test_a_cluster_that_loses_a_node_renders_every_asset_once(start, tmp_path):
    pytest.importorskip("ray", reason="needs pip install 'fourdvd[cluster]'")
    from ray.cluster_utils import Cluster

    names = [f"box{number}" for number in range(8)]
    for name in names:
        (tmp_path / f"{name}.glb").write_bytes(animated_box_glb())
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = cluster.add_node(num_cpus=1)
        process = start(
            "data", "render", *(tmp_path / f"{name}.glb" for name in names),
            "-o", tmp_path / "out", *OPTIONS, "--ray", cluster.address, "--json",
        )  # fmt: skip
        manifest = tmp_path / "out" / "manifest.jsonl"
        process.wait_until(manifest.exists)
        cluster.remove_node(lost, allow_graceful=False)
        outcome = process.ending()
    finally:
        cluster.shutdown()
    assert outcome.exit_code == 0, outcome.stderr
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert sorted(row["name"] for row in rows) == names
    assert {row["status"] for row in rows} == {"rendered"}
    assert all(read_grid(tmp_path / "out" / name).V == 2 for name in names)


@needs_blender
@pytest.mark.slow
def test_ray_can_be_started_on_this_machine(fourdvd, assets, tmp_path):
    pytest.importorskip("ray", reason="needs pip install 'fourdvd[cluster]'")
    options = [*OPTIONS, "--ray", "local", "--json"]
    outcome = fourdvd("data", "render", assets, "-o", tmp_path / "out", *options)
    assert outcome.exit_code == 0, outcome.stderr
    summary = json.loads(outcome.stdout)
    assert (summary["rendered"], summary["rejected"]) == (1, 2)
