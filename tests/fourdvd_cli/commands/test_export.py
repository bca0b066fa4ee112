import json
import signal
from pathlib import Path

import pytest

from recon.errors import BackendError
from recon.exporters.manifest import read_manifest
from recon.exporters.packages import check_package


def test_each_format_gets_a_folder_and_the_manifest_names_its_files(
    fourdvd, scene_folder, tmp_path
):
    formats = ["--format", "ply", "--format", "splat", "--format", "glb-splats"]
    outcome = fourdvd("export", scene_folder, "-o", tmp_path / "out", *formats)
    assert outcome.exit_code == 0
    assert outcome.stdout == ""
    for name, suffix in {"ply": "ply", "splat": "splat", "glb-splats": "glb"}.items():
        files = sorted(path.name for path in (tmp_path / "out" / name).iterdir())
        assert files == [f"frame_{frame:04d}.{suffix}" for frame in range(3)]
    assert set(read_manifest(tmp_path / "out")["formats"]) == {"ply", "splat", "glb-splats"}


def test_the_mesh_is_one_file_with_at_most_the_requested_faces(fourdvd, scene_folder, tmp_path):
    arguments = ["--format", "glb", "--faces", 200, "--texture-size", 32, "--json"]
    arguments += ["--mesh-animation", "morph"]
    outcome = fourdvd("export", scene_folder, "-o", tmp_path / "out", *arguments)
    assert outcome.exit_code == 0
    assert (tmp_path / "out" / "glb" / "scene.glb").is_file()
    options = json.loads(outcome.stdout)["formats"]["glb"]["options"]
    assert (options["faces"], options["animation"]) == (200, "morph")


def test_verification_reports_the_psnr_against_the_scene(fourdvd, scene_folder, tmp_path):
    arguments = ["export", scene_folder, "-o", tmp_path / "out", "--format", "ply", "--verify"]
    outcome = fourdvd(*arguments, "--json")
    assert outcome.exit_code == 0
    verification = json.loads(outcome.stdout)["formats"]["ply"]["verification"]
    assert verification["worst_psnr"] > 45
    table = fourdvd(*arguments, "--overwrite").stdout
    assert "ply" in table
    assert "dB" in table
    assert "MB" in table
    assert "45 dB or more" in table
    assert "vertices" not in table  # which only meshes have


def test_a_mesh_that_differs_from_the_scene_is_warned_of_when_verified(
    fourdvd, scene_folder, tmp_path
):
    small = ["--max-faces", 4, "--texture-size", 16, "--verify", "--json"]
    outcome = fourdvd("export", scene_folder, "-o", tmp_path / "out", "--format", "glb", *small)
    psnr = json.loads(outcome.stdout)["formats"]["glb"]["verification"]["psnr"]
    assert psnr < 27
    assert f"warning: the mesh of glb has {psnr:.1f} dB" in outcome.stderr
    options = ["--format", "ply", "--format", "glb", "--overwrite", *small[:-1]]
    table = fourdvd("export", scene_folder, "-o", tmp_path / "out", *options).stdout
    assert "vertices" in table
    assert [line.split()[-1] for line in table.splitlines() if "ply" in line] == ["–"]


def test_a_format_whose_package_is_missing_exits_with_5_and_the_command(
    fourdvd, scene_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("recon.exporters.packages.importlib.util.find_spec", lambda _: None)
    outcome = fourdvd("export", scene_folder, "-o", tmp_path / "out", "--format", "spz")
    assert outcome.exit_code == 5
    assert "pip install 'fourdvd[formats]'" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_animation_of_the_mesh_is_wrong_usage(fourdvd, scene_folder, tmp_path):
    arguments = ["--format", "glb", "--mesh-animation", "skin"]
    assert fourdvd("export", scene_folder, "-o", tmp_path, *arguments).exit_code == 2


def test_axes_and_number_of_frames_can_be_chosen(fourdvd, scene_folder, tmp_path):
    options = ["--format", "ply", "--axes", "z-up", "--frames", 5, "--verify"]
    outcome = fourdvd("export", scene_folder, "-o", tmp_path / "out", *options)
    assert outcome.exit_code == 0
    assert len(list((tmp_path / "out" / "ply").iterdir())) == 5


def test_another_format_can_be_added_but_an_existing_one_is_not_replaced(
    fourdvd, scene_folder, tmp_path
):
    arguments = ["export", scene_folder, "-o", tmp_path / "out", "--format"]
    assert fourdvd(*arguments, "ply").exit_code == 0
    assert fourdvd(*arguments, "splat").exit_code == 0
    refused = fourdvd(*arguments, "ply")
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert fourdvd(*arguments, "ply", "--overwrite").exit_code == 0


def test_a_missing_scene_is_reported_on_one_line(fourdvd, tmp_path):
    outcome = fourdvd("export", tmp_path / "none", "-o", tmp_path / "out", "--format", "ply")
    assert outcome.exit_code == 3
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_signal_while_exporting_leaves_no_partial_format(start, scene_folder, tmp_path):
    options = ["--format", "ply", "--frames", 10_000, "--quiet"]
    process = start("export", scene_folder, "-o", tmp_path / "out", *options)
    process.wait_until(lambda: list(tmp_path.glob("out/.ply.partial-*/frame_*.ply")))
    process.send_signal(signal.SIGTERM)
    outcome = process.ending()
    assert outcome.exit_code == 130
    assert "Traceback" not in outcome.stderr
    assert list((tmp_path / "out").iterdir()) == []


FILES = ["ply", "html", "zip", "usd", "splat4d", "sog"]  # of each way to write one


def small_export(scene_folder: Path, output: Path, name: str) -> list[object]:
    """Arguments for an export; skips if the format's package is missing."""
    try:
        check_package(name)
    except BackendError as error:
        pytest.skip(str(error))
    small = ["--max-faces", 100, "--texture-size", 32, "--frames", 2]
    return ["export", scene_folder, "-o", output, "--format", name, *small]


@pytest.mark.parametrize("name", FILES)
def test_a_disk_that_fills_ends_with_exit_code_1_and_leaves_nothing(
    fourdvd, scene_folder, tmp_path, full_disk, name
):
    arguments = small_export(scene_folder, tmp_path / "out", name)
    full_disk(500)
    outcome = fourdvd(*arguments)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"error: {Path(tmp_path.anchor)}")  # names a place
    assert len(outcome.stderr.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["html", "usd"])
def test_a_folder_without_permission_ends_with_exit_code_1(fourdvd, scene_folder, unwritable, name):
    outcome = fourdvd(*small_export(scene_folder, unwritable, name))
    assert outcome.exit_code == 1
    assert outcome.stderr == f"error: {unwritable}/{name}: Permission denied\n"
    assert list(unwritable.iterdir()) == []


def test_more_gaussians_than_a_page_shows_end_with_exit_code_3(
    fourdvd, scene_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("recon.player.packing.MAX_GAUSSIANS", 299)
    outcome = fourdvd("export", scene_folder, "-o", tmp_path / "out", "--format", "html")
    assert outcome.exit_code == 3
    assert "300" in outcome.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_nerfstudio_run_is_exported_and_one_of_another_method_exits_with_3(
    fourdvd, scene_folder, tmp_path
):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yml").write_text("!!python/object:nerfstudio.engine.trainer.TrainerConfig")
    refused = fourdvd("export", run / "config.yml", "-o", tmp_path / "out", "-f", "ply")
    assert refused.exit_code == 3
    assert "ns-train fourdvd" in refused.stderr and len(refused.stderr.splitlines()) == 1
    scene_folder.rename(run / "scene")
    done = fourdvd("export", run / "config.yml", "-o", tmp_path / "out", "-f", "ply")
    assert done.exit_code == 0
    assert len(list((tmp_path / "out" / "ply").glob("*.ply"))) == 3


@pytest.mark.parametrize(
    "options", [["--format", "usd", "--axes", "y-down"], ["--format", "ply", "--frames", 20_000]]
)
def test_options_that_no_scene_can_have_are_wrong_usage(fourdvd, tmp_path, options):
    outcome = fourdvd("export", tmp_path / "no scene", "-o", tmp_path / "export", *options)
    assert outcome.exit_code == 2


def test_padding_without_a_ply_is_wrong_usage(fourdvd, scene_folder, tmp_path):
    arguments = ["export", scene_folder, "-o", tmp_path / "out", "--pad-sh", "--format", "splat"]
    outcome = fourdvd(*arguments)
    assert outcome.exit_code == 2
    assert "--pad-sh" in outcome.stderr and "splat" in outcome.stderr
    assert fourdvd(*arguments, "--format", "ply").exit_code == 0
