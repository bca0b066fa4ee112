"""The commands of nerfstudio itself; `make test-nerfstudio` runs them in an environment of theirs.

Training, evaluation, rendering, resumption after SIGKILL and Ctrl-C, the viewer, and bad input, on
a CPU with the bundled example.
"""

# pyright: reportMissingImports=false

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from imageio.v3 import imread
from safetensors.numpy import load_file

from recon.evaluation import evaluate
from recon.fitting.config import fit_config
from recon.fitting.reconstruction import reconstruct
from recon.grid import Splits, read_splits
from recon.grid.dnerf import write_dnerf
from recon.scene import load_scene

pytestmark = pytest.mark.nerfstudio

ROOT = Path(__file__).parents[3]
ROBOT = ROOT / "examples" / "robot"
ITERATIONS = 300
PATIENCE_SECONDS = 1800  # on a machine with other work
MODEL = ("--pipeline.model.quality", "draft")
QUIT = ("--viewer.quit-on-train-completion", "True")


class Outcome(NamedTuple):
    """Exit code and output of a command."""

    exit_code: int
    output: str


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def run(name: str, *arguments: object, cwd: Path) -> Outcome:
    done = subprocess.run(
        [program(name), *map(str, arguments)], cwd=cwd, text=True, timeout=PATIENCE_SECONDS,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"COLUMNS": "400"},
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout)


def training(name: str, iterations: int = ITERATIONS, data: Path = ROBOT) -> list[object]:
    return [
        "fourdvd", "--data", data, "--machine.device-type", "cpu", "--max-num-iterations",
        iterations, "--experiment-name", name, "--timestamp", "run", *MODEL, *QUIT,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program ffmpeg on the path, which ns-render looks for, from a package if need be."""
    if shutil.which("ffmpeg") is None:
        import imageio_ffmpeg

        (tmp_path / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


@pytest.fixture(scope="module")
def trained(work: Path) -> Path:
    """The folder of a run of 300 iterations."""
    outcome = run("ns-train", *training("robot"), cwd=work)
    assert outcome.exit_code == 0, outcome.output
    folder = work / "outputs" / "robot" / "fourdvd" / "run"
    names = [path.name for path in (folder / "nerfstudio_models").iterdir()]
    assert names == [f"step-{ITERATIONS - 1:09d}.ckpt"]
    return folder


def test_the_environment_is_the_supported_one(work: Path):
    assert run("python", "-m", "recon.nerfstudio", cwd=ROOT).exit_code == 0
    outcome = run("ns-train", "fourdvd", "--help", cwd=work)
    assert outcome.exit_code == 0
    assert "--pipeline.model.motion" in outcome.output


def test_a_run_is_the_scene_of_reconstruct(trained: Path, work: Path):
    """The same bits: one implementation, the same seed and a CPU."""
    config = replace(fit_config("draft"), iterations=ITERATIONS)
    ours = reconstruct(ROBOT, work / "ours", config=config)
    theirs = load_scene(trained / "config.yml")
    for name, tensor in ours.gaussians._asdict().items():
        np.testing.assert_array_equal(tensor.numpy(), getattr(theirs.gaussians, name).numpy())


def test_ns_eval_agrees_with_evaluate(trained: Path, work: Path):
    outcome = run("ns-eval", "--load-config", trained / "config.yml", cwd=work)
    assert outcome.exit_code == 0, outcome.output
    results = json.loads((work / "output.json").read_text())["results"]
    truth = evaluate(trained / "config.yml", ROBOT / "transforms_test.json", "cpu")
    assert results["psnr"] == pytest.approx(truth.psnr, abs=0.02)
    assert results["ssim"] == pytest.approx(truth.ssim, abs=2e-3)
    assert truth.psnr > 20


def test_ns_render_draws_a_camera_path_with_time(trained: Path, work: Path, ffmpeg: None):
    scene = load_scene(trained)
    path = {
        "render_height": 96, "render_width": 128, "fps": 4, "seconds": 1, "camera_type":
        "perspective", "camera_path": [
            {
                "camera_to_world": scene.cameras[0].T_world_camera.flatten().tolist(),
                "fov": 40, "aspect": 4 / 3, "render_time": step / 3,
            }
            for step in range(4)
        ],
    }  # fmt: skip
    (work / "path.json").write_text(json.dumps(path))
    arguments = ["camera-path", "--load-config", trained / "config.yml"]
    arguments += ["--camera-path-filename", work / "path.json", "--output-path", work / "path.mp4"]
    arguments += ["--output-format", "images", "--image-format", "png"]
    outcome = run("ns-render", *arguments, cwd=work)
    assert outcome.exit_code == 0, outcome.output
    frames = np.stack([imread(path) for path in sorted((work / "path").glob("*.png"))])
    assert frames.shape[:3] == (4, 96, 128)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 40  # the object moves
    for camera in path["camera_path"]:
        del camera["render_time"]
    (work / "path.json").write_text(json.dumps(path))
    refused = run("ns-render", *arguments, cwd=work)
    assert refused.exit_code == 3
    assert "render_time" in refused.output and "Traceback" not in refused.output


def test_ns_render_draws_the_data_set(trained: Path, work: Path):
    arguments = ["dataset", "--load-config", trained / "config.yml", "--output-path", work / "set"]
    names = ["--rendered-output-names", "rgb", "gt-rgb", "depth", "rgba"]
    outcome = run("ns-render", *arguments, *names, "--image-format", "png", cwd=work)
    assert outcome.exit_code == 0, outcome.output
    test = read_splits(ROBOT).test
    assert test is not None
    for name in ("rgb", "gt-rgb", "depth", "rgba"):
        assert len(list((work / "set" / "test" / name).rglob("*.png"))) == len(test)


def test_a_run_is_exported_without_nerfstudio(trained: Path, work: Path):
    arguments = ["export", trained / "config.yml", "-o", work / "out", "--format", "glb"]
    outcome = run("fourdvd", *arguments, "--max-faces", 2000, "--texture-size", 256, cwd=work)
    assert outcome.exit_code == 0, outcome.output
    assert list((work / "out" / "glb").glob("*.glb"))


class Process(subprocess.Popen):
    """A command that runs on its own."""

    def wait_for(self, found: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not found():
            assert self.poll() is None, self.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def start(work: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(name: str, *arguments: object, log: Path) -> Process:
        with log.open("w") as file:
            process = Process(
                [program(name), *map(str, arguments)], cwd=work, stdout=file,
                stderr=subprocess.STDOUT, env=os.environ | {"COLUMNS": "400"},
            )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def checkpoints(work: Path, name: str) -> list[Path]:
    return sorted((work / "outputs" / name / "fourdvd" / "run" / "nerfstudio_models").glob("*"))


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGINT"])
def test_a_stopped_run_resumes_to_the_same_bits(ending: str, start, trained: Path, work: Path):
    log = work / f"{ending}.log"
    arguments = [*training(ending), "--steps-per-save", 20]
    process = start("ns-train", *arguments, log=log)
    process.wait_for(lambda: checkpoints(work, ending))
    process.send_signal(getattr(signal, ending))
    code = process.wait(PATIENCE_SECONDS)
    assert code == (130 if ending == "SIGINT" else -signal.SIGKILL)
    if ending == "SIGINT":
        assert "resume with" in log.read_text() and "Traceback" not in log.read_text()
    kept = checkpoints(work, ending)
    assert kept[-1].name < f"step-{ITERATIONS - 1:09d}.ckpt"
    outcome = run("ns-train", *arguments, "--load-dir", kept[-1].parent, cwd=work)
    assert outcome.exit_code == 0, outcome.output
    run_folder = kept[-1].parent.parent
    ours, theirs = (load_file(f / "scene" / "scene.safetensors") for f in (trained, run_folder))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, theirs[name])
    finished = run("ns-train", *arguments, "--load-dir", kept[-1].parent, cwd=work)
    assert finished.exit_code == 3
    assert f"all of its {ITERATIONS} iterations" in finished.output


def test_the_viewer_answers_while_training(start, work: Path):
    log = work / "viewer.log"
    arguments = [*training("viewer"), "--viewer.websocket-port", 7717]
    process = start("ns-train", *arguments, log=log)
    process.wait_for(lambda: checkpoints(work, "viewer") or "7717" in log.read_text())
    page = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not page and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen("http://127.0.0.1:7717/", timeout=30) as answer:
                page = answer.read()
        except OSError:
            time.sleep(0.5)
    assert re.search(rb"<title>.*viser", page, re.IGNORECASE | re.DOTALL)


def without_times(folder: Path) -> Path:
    values = json.loads((folder / "transforms.json").read_text())
    for index, frame in enumerate(values["frames"]):
        for key in ("time", "view", "frame"):
            del frame[key]
        frame["transform_matrix"][2][3] += 1e-3 * index  # a camera for each image
    (folder / "transforms.json").write_text(json.dumps(values))
    (folder / "transforms_test.json").unlink()
    return folder


def test_images_without_times_are_refused(work: Path):
    data = without_times(Path(shutil.copytree(ROBOT, work / "still")))
    outcome = run("ns-train", *training("still", data=data), cwd=work)
    assert outcome.exit_code == 3
    assert "several times" in outcome.output and "Traceback" not in outcome.output


@pytest.mark.parametrize(
    ("changes", "code", "found"),
    [
        (["--data", "nowhere"], 3, "nowhere"),
        (["--machine.device-type", "mps"], 5, "--machine.device-type cpu"),
        (["--load-dir", "nowhere"], 3, "step-*.ckpt"),
        (["--mixed-precision", "True"], 3, "float32"),
        (["--pipeline.datamanager.camera-res-scale-factor", "0.5"], 3, "resize"),
        (["dnerf-data"], 3, "fourdvd-grid"),
    ],
)
def test_bad_input_is_a_sentence_and_an_exit_code(changes, code, found, work: Path):
    outcome = run("ns-train", *training("bad"), *changes, cwd=work)
    assert outcome.exit_code == code, outcome.output
    assert found in outcome.output and "Traceback" not in outcome.output


def test_cuda_where_there_is_none_is_a_sentence(work: Path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    outcome = run("ns-train", *training("cuda"), "--machine.device-type", "cuda", cwd=work)
    assert outcome.exit_code == 5
    assert "--machine.device-type cpu" in outcome.output and "Traceback" not in outcome.output


def test_a_checkpoint_of_other_settings_is_refused(trained: Path, work: Path):
    arguments = training("other", ITERATIONS + 1)
    resumed = ["--load-dir", trained / "nerfstudio_models"]
    outcome = run("ns-train", *arguments, *resumed, cwd=work)
    assert outcome.exit_code == 3
    assert "settings.iterations was 300, is now 301" in outcome.output


@pytest.mark.filterwarnings("ignore")  # those of the packages that nerfstudio imports
def test_nerfstudios_own_dataparsers_read_our_grids(work: Path):
    from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    train, test = read_splits(ROBOT)
    config = NerfstudioDataParserConfig(
        data=ROBOT, eval_mode="all", orientation_method="none", center_method="none",
        auto_scale_poses=False, downscale_factor=1,
    )  # fmt: skip
    outputs = config.setup().get_dataparser_outputs("train")
    poses = np.stack([train.camera_of(i).T_world_camera[:3] for i in range(len(train))])
    np.testing.assert_allclose(outputs.cameras.camera_to_worlds.numpy(), poses, atol=1e-5)
    assert all(path.is_file() for path in outputs.image_filenames)
    write_dnerf(Splits(train, test), work / "dnerf")
    outputs = DNeRFDataParserConfig(data=work / "dnerf").setup().get_dataparser_outputs("train")
    np.testing.assert_allclose(outputs.cameras.camera_to_worlds.numpy(), poses, atol=1e-5)
    np.testing.assert_allclose(
        outputs.cameras.times.flatten().numpy(), train.times[train.frame], atol=1e-6
    )
    np.testing.assert_allclose(outputs.cameras.fx.numpy(), train.cameras[0].fl_x, rtol=1e-5)
    assert all(path.is_file() for path in outputs.image_filenames)
