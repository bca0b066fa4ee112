import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recon.deformation.hexplane import HexPlaneDeformation
from recon.deformation.interface import Deformation, StaticDeformation
from recon.deformation.keyframes import KeyframeDeformation
from recon.errors import SceneError
from recon.gaussians import gaussians_from_points
from recon.grid.cameras import orbit_camera
from recon.grid.source_camera import source_camera_to_json
from recon.scene import Scene, check_no_run, is_scene, load_scene, scene_folder, write_scene
from tests.recon.grid.test_source_camera import make_source

COUNT, TIMES = 6, (0.0, 0.5, 1.0)
DEFORMATIONS: dict[str, Callable[[], Deformation]] = {
    "static": StaticDeformation,
    "keyframes": lambda: KeyframeDeformation(TIMES, COUNT),
    "hexplane": lambda: HexPlaneDeformation(
        TIMES, [[-1, -1, -1], [1, 1, 1]], channels=3, resolution=(4, 4, 4, 3), hidden=5
    ),
}


def make_scene(motion: str = "keyframes", sh_degree: int = 1) -> Scene:
    torch.manual_seed(0)
    gaussians = gaussians_from_points(
        torch.rand(COUNT, 3) - 0.5, torch.rand(COUNT, 3), 0.1, sh_degree=sh_degree
    ).map(lambda tensor: tensor + 0.1 * torch.randn_like(tensor))
    deformation = DEFORMATIONS[motion]()
    with torch.no_grad():
        for parameter in deformation.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return Scene(
        gaussians,
        deformation,
        np.array(TIMES),
        tuple(orbit_camera(90 * v, 5, 3.2, 33.8, 12, 16) for v in range(2)),
        fps=12.5,
        background=(0.0, 0.25, 1.0),
        provenance={"grid": "robot", "versions": {"fourdvd": "0.1"}},
        metrics={"psnr": 33.3},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid scene folder, to be damaged."""
    write_scene(make_scene(), tmp_path)
    return tmp_path


def change_description(folder: Path, **fields: object) -> None:
    description = json.loads((folder / "scene.json").read_text())
    (folder / "scene.json").write_text(json.dumps(description | fields))


def change_tensors(folder: Path, **tensors: Tensor | None) -> None:
    """Replaces Gaussian tensors; None removes one."""
    stored = load_file(folder / "scene.safetensors")
    for name, value in tensors.items():
        if value is None:
            del stored[f"gaussians.{name}"]
        else:
            stored[f"gaussians.{name}"] = value
    save_file(stored, folder / "scene.safetensors")


@pytest.mark.parametrize("motion", DEFORMATIONS)
@pytest.mark.parametrize("sh_degree", [0, 3])
def test_a_scene_comes_back_as_it_was_saved(tmp_path: Path, motion: str, sh_degree: int):
    scene = make_scene(motion, sh_degree)
    write_scene(scene, tmp_path)
    loaded = load_scene(tmp_path)
    for time in (0.0, 0.2, 0.5, 0.77, 1.0):
        pairs = zip(loaded.at(time), scene.at(time), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert np.array_equal(loaded.times, scene.times)
    for a, b in zip(loaded.cameras, scene.cameras, strict=True):
        assert np.array_equal(a.T_world_camera, b.T_world_camera)
        assert np.array_equal(a.K, b.K)
        assert (a.width, a.height) == (b.width, b.height)
    for name in ("fps", "background", "provenance", "metrics"):
        assert getattr(loaded, name) == getattr(scene, name)


def test_a_scene_of_an_older_version_has_no_source_camera(folder: Path):
    description = json.loads((folder / "scene.json").read_text())
    del description["source_camera"]
    (folder / "scene.json").write_text(json.dumps(description))
    assert load_scene(folder).source_camera is None


def test_a_scene_keeps_its_source_camera(tmp_path: Path):
    source = make_source()
    write_scene(replace(make_scene(), source_camera=source), tmp_path)
    found = load_scene(tmp_path).source_camera
    assert found is not None
    assert source_camera_to_json(found) == source_camera_to_json(source)


def test_a_loaded_scene_saves_the_same_files(folder: Path, tmp_path: Path):
    again = tmp_path / "again"
    again.mkdir()
    write_scene(load_scene(folder), again)
    for name in ("scene.json", "scene.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_scene_without_gaussians_can_be_saved(tmp_path: Path):
    scene = make_scene("static")
    scene.gaussians = scene.gaussians.map(lambda tensor: tensor[:0])
    write_scene(scene, tmp_path)
    assert len(load_scene(tmp_path).at(0.5).means) == 0


@pytest.mark.parametrize("name", ["out", "out/scene"])
def test_of_an_unfinished_run_the_command_that_resumes_it_is_named(tmp_path, name):
    (tmp_path / "out" / "scene" / "train").mkdir(parents=True)
    (tmp_path / "out" / "run.json").write_text('{"input": "/films/robot.mp4"}')
    with pytest.raises(SceneError, match=f"fourdvd run /films/robot.mp4 -o {tmp_path / 'out'}`"):
        load_scene(tmp_path / name)


def test_of_an_unfinished_fit_the_command_that_resumes_it_is_named(tmp_path):
    (tmp_path / "fit" / "train").mkdir(parents=True)
    (tmp_path / "fit" / "train" / "log.jsonl").touch()
    with pytest.raises(SceneError, match=f"unfinished.*reconstruct GRID -o {tmp_path / 'fit'}`"):
        load_scene(tmp_path / "fit")


def test_an_unfinished_fit_inside_a_folder_is_named(tmp_path):
    (tmp_path / "fit" / "train").mkdir(parents=True)
    (tmp_path / "fit" / "train" / "log.jsonl").touch()
    with pytest.raises(SceneError, match=f"^{tmp_path / 'fit'}: .*unfinished"):
        check_no_run(tmp_path)
    (tmp_path / "fit" / "scene.json").touch()  # it is finished, and keeps its log
    check_no_run(tmp_path)


def test_a_missing_folder_or_file_is_named(folder: Path):
    with pytest.raises(SceneError, match="nowhere: no such file or folder"):
        load_scene(folder / "nowhere")
    with pytest.raises(SceneError, match=r"scene\.json is missing"):
        load_scene(folder / "scene.safetensors")
    (folder / "scene.safetensors").unlink()
    with pytest.raises(SceneError, match=r"scene\.safetensors is missing"):
        load_scene(folder)


@pytest.mark.usefixtures("unwritable")  # so that permissions count for root, too
def test_a_file_that_may_not_be_read_is_an_error_of_the_system(folder: Path):
    (folder / "scene.safetensors").chmod(0)
    with pytest.raises(PermissionError) as caught:
        load_scene(folder)
    assert caught.value.filename == str(folder / "scene.safetensors")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"not json"])
def test_a_description_that_is_not_json_is_refused(folder: Path, text: bytes):
    (folder / "scene.json").write_bytes(text)
    with pytest.raises(SceneError, match=r"scene\.json: not valid JSON") as caught:
        load_scene(folder)
    assert caught.value.path == folder / "scene.json"


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"format": "fourdvd-scene"}'])
def test_json_of_another_format_is_refused(folder: Path, text: str):
    (folder / "scene.json").write_text(text)
    with pytest.raises(SceneError, match="expected format 'fourdvd-scene' version 1"):
        load_scene(folder)


def test_another_version_is_refused(folder: Path):
    change_description(folder, version=2)
    with pytest.raises(SceneError, match=r"version 1, found .*2"):
        load_scene(folder)


@pytest.mark.parametrize(
    "field", ["motion", "deformation", "times", "fps", "background", "cameras"]
)
def test_a_missing_field_is_named(folder: Path, field: str):
    description = json.loads((folder / "scene.json").read_text())
    del description[field]
    (folder / "scene.json").write_text(json.dumps(description))
    with pytest.raises(SceneError, match=f"'{field}' is missing"):
        load_scene(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"motion": "teleport"},
        {"motion": ["keyframes"]},
        {"deformation": {"times": [0.0, 0.5, 1.0], "speed": 3}},
        {"deformation": {"times": []}},
        {"deformation": [1, 2]},
        {"deformation": {}},
        {"times": []},
        {"times": 0.5},
        {"times": [0.5, 0.0]},
        {"times": [0.0, float("nan")]},
        {"times": [0.0, 3.0]},
        {"times": ["soon"]},
        {"fps": 0},
        {"fps": float("nan")},
        {"fps": None},
        {"background": [1, 1]},
        {"background": [1, 1, float("inf")]},
        {"background": "white"},
        {"cameras": 3},
        {"cameras": [{}]},
        {"cameras": [{"transform_matrix": [[1, 2], [3, 4]]}]},
        {"source_camera": 3},
        {"source_camera": {"frames": []}},
    ],
    ids=str,
)
def test_a_field_that_is_not_valid_is_refused(folder: Path, fields: dict):
    change_description(folder, **fields)
    with pytest.raises(SceneError):
        load_scene(folder)


def test_truncated_tensors_are_refused(folder: Path):
    path = folder / "scene.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(SceneError, match="cannot be read as safetensors"):
        load_scene(folder)


@pytest.mark.parametrize("content", [b"", b"\x00" * 16, b"\xff" * 64])
def test_a_tensor_file_of_other_bytes_is_refused(folder: Path, content: bytes):
    (folder / "scene.safetensors").write_bytes(content)
    with pytest.raises(SceneError, match="cannot be read as safetensors"):
        load_scene(folder)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (Path("exploded").write_text, ("boom",))


def test_a_pickle_named_like_the_tensor_file_is_refused_without_loading_it(
    folder: Path, monkeypatch
):
    monkeypatch.chdir(folder)
    (folder / "scene.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(SceneError, match="cannot be read as safetensors"):
        load_scene(folder)
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "sh0", "shN"])
def test_a_missing_tensor_is_named(folder: Path, name: str):
    change_tensors(folder, **{name: None})
    with pytest.raises(SceneError, match=f"tensors \\['{name}'\\] are missing"):
        load_scene(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("means", (COUNT, 2)),
        ("means", (COUNT,)),
        ("means", ()),
        ("quats", (COUNT, 3)),
        ("scales", (COUNT + 1, 3)),
        ("opacities", (COUNT, 1)),
        ("sh0", (COUNT, 3)),
        ("shN", (COUNT, 4, 3)),
        ("shN", (COUNT - 1, 3, 3)),
        ("shN", (COUNT, 3, 4)),
        ("shN", (COUNT, 9)),
    ],
)
def test_a_tensor_of_another_shape_is_refused(folder: Path, name: str, shape: tuple[int, ...]):
    change_tensors(folder, **{name: torch.zeros(shape)})
    with pytest.raises(SceneError, match="has shape"):
        load_scene(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["means", "opacities"])
def test_nan_and_infinity_are_refused(folder: Path, name: str, value: float):
    tensor = load_file(folder / "scene.safetensors")[f"gaussians.{name}"]
    tensor.view(-1)[3] = value
    change_tensors(folder, **{name: tensor})
    with pytest.raises(SceneError, match="NaN or infinite"):
        load_scene(folder)


def test_a_motion_for_another_number_of_gaussians_is_refused(folder: Path):
    fewer = make_scene().gaussians.map(lambda tensor: tensor[: COUNT - 2].clone())
    change_tensors(folder, **fewer._asdict())
    with pytest.raises(SceneError, match=r"\[6\].* 4"):
        load_scene(folder)


def test_a_motion_without_its_tensors_is_refused(folder: Path):
    stored = load_file(folder / "scene.safetensors")
    kept = {name: value for name, value in stored.items() if name.startswith("gaussians.")}
    save_file(kept, folder / "scene.safetensors")
    with pytest.raises(SceneError, match="missing"):
        load_scene(folder)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of nerfstudio with a scene; reading its settings would fail."""
    run = tmp_path / "run"
    (run / "scene").mkdir(parents=True)
    (run / "config.yml").write_bytes(b"!!python/object/apply:os.abort []\xff")
    (run / "dataparser_transforms.json").write_text("{}")
    write_scene(make_scene(), run / "scene")
    return run


@pytest.mark.parametrize("name", [".", "config.yml", "scene"])
def test_a_nerfstudio_run_is_a_scene(name: str, run: Path):
    assert is_scene(run / name)
    assert scene_folder(run / name).resolve() == (run / "scene").resolve()
    assert len(load_scene(run / name).gaussians.means) == COUNT


@pytest.mark.parametrize("name", [".", "config.yml"])
def test_a_nerfstudio_run_of_another_method_is_refused(name: str, run: Path):
    (run / "scene" / "scene.json").unlink()
    with pytest.raises(SceneError, match="ns-train fourdvd"):
        load_scene(run / name)


def test_a_scene_folder_with_a_config_of_another_program_is_itself(folder: Path):
    (folder / "config.yml").write_text("")
    assert scene_folder(folder) == folder
