import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recon.errors import BackendError, InputError, OutputError, OutputExistsError, SceneError
from recon.exporters import exporters
from recon.exporters import folder as folder_module
from recon.exporters.folder import export, find_exporter
from recon.exporters.manifest import read_manifest
from recon.exporters.options import ExportOptions
from recon.exporters.packages import check_package
from recon.exporters.ply import gaussians_from_ply
from recon.exporters.verification import verify_export
from recon.progress import Progress
from recon.scene import Scene


def test_every_exporter_of_the_table_exists(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_module, "check_package", lambda _: None)
    assert all(callable(find_exporter(name)) for name in exporters)


def test_files_have_the_documented_paths(scene: Scene, tmp_path: Path):
    export(scene, tmp_path / "out", ["ply", "splat", "glb-splats"])
    for name, suffix in (("ply", "ply"), ("splat", "splat"), ("glb-splats", "glb")):
        found = sorted(path.name for path in (tmp_path / "out" / name).iterdir())
        assert found == [f"frame_{frame:04d}.{suffix}" for frame in range(5)]


def test_the_manifest_names_every_file_with_size_and_hash(scene: Scene, tmp_path: Path):
    returned = export(scene, tmp_path, ["ply"])
    assert read_manifest(tmp_path) == returned
    files = returned["formats"]["ply"]["files"]
    assert len(files) == 5
    for file in files:
        data = (tmp_path / file["path"]).read_bytes()
        assert file["bytes"] == len(data)
        assert file["sha256"] == hashlib.sha256(data).hexdigest()


def test_another_format_is_added_to_an_existing_export(scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["ply"])
    export(scene, tmp_path, ["splat"])
    assert sorted(read_manifest(tmp_path)["formats"]) == ["ply", "splat"]


def test_the_same_format_again_needs_overwrite(scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["ply"])
    with pytest.raises(OutputExistsError):
        export(scene, tmp_path, ["splat", "ply"])
    assert not (tmp_path / "splat").exists()
    export(scene, tmp_path, ["ply"], ExportOptions(frames=2), overwrite=True)
    assert len(list((tmp_path / "ply").iterdir())) == 2


def test_frames_are_resampled_evenly(scene: Scene, tmp_path: Path):
    manifest = export(scene, tmp_path, ["ply"], ExportOptions(frames=3))
    assert manifest["formats"]["ply"]["times"] == [0, 0.5, 1]
    middle = gaussians_from_ply((tmp_path / "ply/frame_0001.ply").read_bytes())
    expected = scene.at(0.5).means.numpy() @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    np.testing.assert_allclose(middle.means, expected, atol=1e-6)


def test_each_written_file_is_reported(scene: Scene, tmp_path: Path):
    steps: list[Progress] = []
    export(scene, tmp_path, ["ply"], on_step=steps.append)
    paths = [f"ply/frame_{frame:04d}.ply" for frame in range(5)]
    assert [step.phase for step in steps] == [*paths, "done"]
    assert [(step.step, step.steps) for step in steps] == [
        (16, 100), (33, 100), (50, 100), (66, 100), (83, 100), (100, 100),
    ]  # fmt: skip


def test_each_part_of_the_work_on_a_mesh_is_reported(scene: Scene, tmp_path: Path):
    steps: list[Progress] = []
    small = ExportOptions(faces=400, texture_size=64, resolution=32)
    export(scene, tmp_path, ["glb"], small, on_step=steps.append, verify=True)
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == [
        "glb: comparing poses", "glb: extracting the surface", "glb: unwrapping the surface",
        "glb: rendering the views", "glb: baking the texture", "glb: moving the mesh",
        "glb/scene.glb", "glb: comparing with the scene", "glb: comparing the motion of the mesh",
        "done",
    ]  # fmt: skip
    done = [step.step for step in steps]
    assert done == sorted(done)
    assert (done[0], done[-1], done.count(100)) == (0, 100, 1)
    assert {step.steps for step in steps} == {100}
    assert sum(step.phase == "glb: rendering the views" for step in steps) == 20


def test_an_unknown_format_is_refused_with_the_known_names(scene: Scene, tmp_path: Path):
    with pytest.raises(InputError, match="ply, glb, glb-splats, splat"):
        export(scene, tmp_path / "out", ["ply", "obj"])
    assert not (tmp_path / "out").exists()


def test_a_scene_without_gaussians_is_refused(scene: Scene, tmp_path: Path):
    scene.gaussians = scene.gaussians.map(lambda tensor: tensor[:0])
    with pytest.raises(SceneError, match="without Gaussians"):
        export(scene, tmp_path, ["ply"])


def test_a_scene_without_a_surface_is_refused_and_leaves_nothing(scene: Scene, tmp_path: Path):
    scene.gaussians = scene.gaussians._replace(opacities=scene.gaussians.opacities - 20)
    with pytest.raises(SceneError, match="surface"):
        export(scene, tmp_path / "out", ["glb"])
    assert not list((tmp_path / "out").glob("*"))


def test_a_format_that_fails_leaves_the_finished_ones(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object):
        yield "frame_0000.splat", b"half"
        raise OSError(28, "No space left on device")

    found = find_exporter
    monkeypatch.setattr(
        folder_module, "find_exporter", lambda name: fails if name == "splat" else found(name)
    )
    with pytest.raises(OSError, match="No space left"):
        export(scene, tmp_path, ["ply", "splat"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "ply"]
    assert list(read_manifest(tmp_path)["formats"]) == ["ply"]


def test_a_folder_with_a_foreign_manifest_is_left_unchanged(scene: Scene, tmp_path: Path):
    (tmp_path / "export.json").write_text(json.dumps({"mine": 1}))
    with pytest.raises(OutputError, match="choose another folder"):
        export(scene, tmp_path, ["ply"])
    assert not (tmp_path / "ply").exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "fourdvd-export", "formats": {}}'])
def test_a_manifest_that_is_not_valid_is_refused(tmp_path: Path, text: str):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(InputError):
        read_manifest(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(scene: Scene, tmp_path: Path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError):
        export(scene, tmp_path / "out", ["ply"])


def test_a_disk_that_fills_at_the_manifest_leaves_no_format_without_an_entry(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    export(scene, tmp_path, ["ply"], ExportOptions(frames=1))
    monkeypatch.setattr(folder_module, "json_text", full)
    for formats, overwrite in ((["splat"], False), (["ply"], True)):
        with pytest.raises(OSError, match="No space"):
            export(scene, tmp_path, formats, overwrite=overwrite)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "ply"]
        assert len(list((tmp_path / "ply").iterdir())) == 1


def test_a_scene_with_nan_is_refused_before_anything_is_written(scene: Scene, tmp_path: Path):
    scene.gaussians.scales[3] = float("nan")
    with pytest.raises(SceneError, match="scales contain NaN"):
        export(scene, tmp_path / "out", ["ply"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["ply", "glb", "4dgs", "splat4d"])
def test_a_still_scene_is_exported_as_one_frame_and_not_as_several(
    name: str, scene: Scene, tmp_path: Path
):
    still = replace(scene, times=np.zeros(1))
    small = ExportOptions(frames=3, color="vertices", faces=400, resolution=32)
    try:
        check_package(name)
    except BackendError as error:
        pytest.skip(str(error))
    with pytest.raises(InputError, match="one time") as refusal:
        export(still, tmp_path, [name], small)
    assert refusal.value.argument == "frames"
    assert list(tmp_path.iterdir()) == []
    for frames in (None, 1):
        manifest = export(still, tmp_path, [name], replace(small, frames=frames), overwrite=True)
        assert len(manifest["formats"][name]["times"]) == 1
    assert verify_export(still, tmp_path)[name].worst_psnr > 20
