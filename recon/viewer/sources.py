"""What the player's server shows: a scene folder, the checkpoints of a running fit, or PLY files.

A source is asked again and again, because a fit goes on: its `state` is cheap, `packed` is not.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from recon.errors import InputError
from recon.exporters.conventions import rotate_gaussians, rotation_to
from recon.exporters.ply import gaussians_from_ply
from recon.film.framing import ball_around
from recon.fitting.checkpoint import is_unfinished, load_unfinished_scene, state_folder
from recon.gaussians import Gaussians
from recon.player.packing import Setting, check_shown, pack_frames, pack_scene
from recon.scene import (
    CHECKPOINT,
    DESCRIPTION,
    LOG,
    check_no_run,
    is_scene,
    load_scene,
    scene_folder,
)

PLY_FPS, PLY_IMAGE_SIZE, PLY_ELEVATION_DEG = 10.0, 512, 10.0
OUTLIER_FRACTION = 0.02  # Gaussians that the first view need not contain


class State(NamedTuple):
    """State of a source.

    Attributes:
        revision: changes with the content; empty while there is nothing to show.
        text: a line for the user; empty if there is nothing to say.
        live: whether the content may still change.
    """

    revision: str
    text: str
    live: bool


class Source(Protocol):
    """Something that the player shows."""

    def state(self) -> State:
        """Return the current state."""
        ...

    def packed(self) -> bytes:
        """Return the content as `recon.player.packing` packs it.

        Raises:
            InputError: It is not valid.
        """
        ...


def open_source(path: str | Path, axes: str = "y-down") -> Source:
    """Return the source for a path.

    Args:
        path: scene folder, finished or not; nerfstudio run of one; PLY file, or folder of them.
        axes: axes of PLY files, a key of `recon.exporters.conventions.AXES`.

    Raises:
        InputError: The path is nothing of that kind.
    """
    path = Path(path)
    if is_scene(path):
        return SceneSource(scene_folder(path))
    if is_unfinished(path):
        return SceneSource(path)
    files = [path] if path.suffix.lower() == ".ply" and path.is_file() else []
    if path.is_dir():
        files = sorted(path.glob("*.ply"), key=_frame_number)
    if not path.exists():
        raise InputError.missing(path)
    if not files:
        check_no_run(path)
        raise InputError(
            "expected a scene folder, a PLY file or a folder of PLY files, found none of them", path
        )
    return PlySource(files, axes)


class SceneSource:
    """A scene folder; while its fit runs, the newest checkpoint.

    Args:
        folder: the folder; it may not exist yet if a fit is about to make it.
        refit: whether a finished scene in the folder is about to be replaced by a fit, which is
            shown instead.
    """

    def __init__(self, folder: Path, refit: bool = False):
        self.folder, self._train = folder, state_folder(folder)
        self._replaced = _modified(folder / DESCRIPTION) if refit else ""

    def state(self) -> State:
        """See `Source.state`."""
        finished = self._finished()
        if finished:
            return State(finished, "", live=False)
        checkpoint = _modified(self._train / CHECKPOINT)
        text = _last_line(self._train / LOG)
        if not checkpoint:
            text = f"{text or 'fitting'} · waiting for the first checkpoint"
        return State(checkpoint, text, live=True)

    def packed(self) -> bytes:
        """See `Source.packed`."""
        if self._finished():
            return pack_scene(load_scene(self.folder))
        return pack_scene(load_unfinished_scene(self.folder))

    def _finished(self) -> str:
        """Return the revision of the finished scene; empty if there is none to show yet."""
        found = _modified(self.folder / DESCRIPTION)
        return "" if found == self._replaced else found


class PlySource:
    """PLY files, one per frame.

    Args:
        files: the files in the order of the frames, at least one.
        axes: their axes, a key of `recon.exporters.conventions.AXES`.
    """

    def __init__(self, files: list[Path], axes: str):
        self.files = files
        self.to_world = rotation_to(axes).T

    def state(self) -> State:
        """See `Source.state`."""
        return State(_modified(self.files[0]), "", live=False)

    def packed(self) -> bytes:
        """See `Source.packed`."""
        frames = [self._read(path) for path in self.files]
        times = np.linspace(0, 1, len(frames)) if len(frames) > 1 else np.zeros(1)
        return pack_frames(frames, _setting_around(frames[0], times))

    def _read(self, path: Path) -> Gaussians:
        try:
            gaussians = gaussians_from_ply(path.read_bytes())
            check_shown(gaussians)
            return rotate_gaussians(gaussians, self.to_world)
        except InputError as error:
            raise InputError(str(error), path) from error


def _setting_around(gaussians: Gaussians, times: np.ndarray) -> Setting:
    """Place a camera in front of Gaussians so that it sees nearly all of them."""
    ball = ball_around(gaussians, OUTLIER_FRACTION)
    camera = ball.camera(0, PLY_ELEVATION_DEG, PLY_IMAGE_SIZE)
    return Setting(camera, ball.center, times, PLY_FPS, (1.0, 1.0, 1.0))


def _frame_number(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else -1, path.name


def _modified(path: Path) -> str:
    try:
        return str(path.stat().st_mtime_ns)
    except OSError:
        return ""


def _last_line(log: Path) -> str:
    """Describe the last complete line of a fit's log; empty if there is none."""
    try:
        line = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
        return (
            f"fitting · iteration {line['iteration']:,} · {line['psnr']:.1f} dB · "
            f"{line['gaussians']:,} Gaussians"
        )
    except (OSError, IndexError, ValueError, KeyError, TypeError):
        return ""
