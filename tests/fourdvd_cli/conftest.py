"""The command line as a function and as a process, and a tiny scene for it to work on."""

import dataclasses
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from fourdvd_cli import interrupts
from fourdvd_cli.app import main
from generation.weights import model_weights
from generation.weights.catalogue import published
from recon.deformation.interface import StaticDeformation
from recon.fitting import config
from recon.gaussians import gaussians_from_points
from recon.grid import Grid, orbit_camera
from recon.media import write_video
from recon.scene import Scene, write_scene
from tests.generation.tiny_networks import tiny_clip, tiny_weights
from tests.generation.tiny_trained import write_trained_cascade

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 180  # imports alone take a minute on a machine with other work


class Outcome(NamedTuple):
    """Exit code and output of a command."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def fourdvd(monkeypatch, capsys) -> Iterator[Callable[..., Outcome]]:
    """Call the entry point in this process; signal handlers, hooks and logging are restored."""
    handlers = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    hook = sys.unraisablehook
    root = logging.getLogger()
    root_handlers, root_level = root.handlers, root.level

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fourdvd", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        code = ending.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook
    logging.captureWarnings(False)
    root.handlers = root_handlers
    root.setLevel(root_level)


class Process(subprocess.Popen):
    """The command line in a process of its own."""

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; fail if the process ends first."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.poll() is None, self.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ending(self) -> Outcome:
        """Wait for the end of the process."""
        stdout, stderr = self.communicate(timeout=PATIENCE_SECONDS)
        return Outcome(self.returncode, stdout, stderr)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start the command line, for signals and pipes; kill what still runs after the test."""
    processes: list[Process] = []

    def begin(*arguments: object, stdout: int = subprocess.PIPE) -> Process:
        command = [sys.executable, "-m", "fourdvd_cli", *map(str, arguments)]
        process = Process(command, cwd=REPOSITORY, stdout=stdout, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        with process:  # closes its pipes
            process.kill()


@pytest.fixture
def short_fits(monkeypatch) -> None:
    """Fits of a handful of iterations and Gaussians, with small previews."""
    usual = config.fit_config

    def short(*arguments, **named) -> config.FitConfig:
        settings = usual(*arguments, **named)
        return dataclasses.replace(
            settings, iterations=12, initial_gaussians=60, max_gaussians=60, threads=1
        )

    monkeypatch.setattr("recon.fitting.reconstruction.fit_config", short)
    monkeypatch.setattr("recon.fitting.reconstruction.PREVIEW_SIZE", 32)


@pytest.fixture
def videos(tiny_grid: Grid, tmp_path) -> list[Path]:
    """The tiny grid as one video for each view, over white."""
    paths = [tmp_path / f"view_{view}.mp4" for view in range(tiny_grid.V)]
    for view, path in enumerate(paths):
        write_video(path, tiny_grid.over(indices=tiny_grid.of_view(view)), tiny_grid.fps)
    return paths


@pytest.fixture
def scene_folder(tmp_path) -> Path:
    """A colored ball of 300 Gaussians, 4 views of 24 × 24 pixels, 3 frames."""
    folder = tmp_path / "scene"
    folder.mkdir()
    write_scene(make_ball(), folder)
    return folder


def make_ball(count: int = 300) -> Scene:
    height = torch.linspace(-1, 1, count)
    turn = torch.arange(count) * 2.39996  # the golden angle spreads points evenly over a sphere
    radius = (1 - height**2).clamp_min(0).sqrt()
    points = torch.stack([radius * turn.cos(), radius * turn.sin(), height], dim=1) / 2
    gaussians = gaussians_from_points(points, points + 0.5, 0.06, opacity=0.95)
    cameras = tuple(orbit_camera(90 * view, 10, 3.2, 33.8, 24, 24) for view in range(4))
    return Scene(gaussians, StaticDeformation(), np.linspace(0, 1, 3), cameras, fps=5.0)


@pytest.fixture
def clip_video(tmp_path) -> Path:
    """Seven frames of a disc on white."""
    clip = tiny_clip(7)
    alpha = clip.images[..., 3:] / 255
    path = tmp_path / "video.mp4"
    write_video(path, np.rint(clip.images[..., :3] * alpha + 255 * (1 - alpha)).astype("uint8"), 7)
    return path


@pytest.fixture
def tiny_networks(tmp_path, monkeypatch) -> Path:
    """A folder of weights whose networks are tiny."""
    folder = tmp_path / "weights"
    folder.mkdir()
    files = tiny_weights(folder, *published)
    monkeypatch.setattr(model_weights, "open_published", lambda path, model: files[model.name])
    return folder


@pytest.fixture(scope="module")
def written_cascade(tmp_path_factory) -> Path:
    return write_trained_cascade(tmp_path_factory.mktemp("cascade"))


@pytest.fixture
def trained_cascade(written_cascade, tmp_path) -> Path:
    """A folder of a whole trained cascade of tiny networks."""
    return shutil.copytree(written_cascade, tmp_path / "cascade")
