"""The folder of a training: configuration, log, checkpoints, images and the final weights.

It holds

    config.json       identity and configuration of the training
    log.jsonl         losses and metrics, one JSON object per line
    tensorboard/      the same for TensorBoard, if it is installed
    checkpoints/      step_00001000.safetensors …, the newest two
    samples/          step_00000500.png …, generated held-out samples
    weights/          the final weights, once the training is finished
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from generation.training.config import EngineConfig
from generation.training.optimization import Stage
from recon.errors import InputError
from recon.media import write_png
from recon.output import check_output, output_file, write_json
from recon.resume import check_same, load_state, save_state

FORMAT, VERSION = "fourdvd-training", 2
CHECKPOINT_FORMAT, CHECKPOINT_VERSION = "fourdvd-training-checkpoint", "1"
KEPT_CHECKPOINTS = 2
_CHECKPOINT_NAME = re.compile(r"step_(\d{8,})\.safetensors")


@dataclass(frozen=True)
class RunFolder:
    """Paths in the folder of a training."""

    path: Path

    @property
    def config(self) -> Path:
        """Path of the configuration, which marks a folder as that of a training."""
        return self.path / "config.json"

    @property
    def log(self) -> Path:
        """Path of the log."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """Folder of the final weights."""
        return self.path / "weights"

    def write_image(self, step: int, image: np.ndarray) -> Path:
        """Write an image of held-out samples, uint8 RGB, [H, W, 3]; return its path."""
        path = self.path / "samples" / f"step_{step:08d}.png"
        with output_file(path, overwrite=True) as partial:
            write_png(partial, image)
        return path


def identity_of(stage: Stage[Any], config: EngineConfig) -> dict[str, Any]:
    """Return the values that must match the saved state to resume a training."""
    return {"stage": stage.name, stage.name: dict(stage.identity), "engine": config.identity}


def check_run_folder(folder: RunFolder, identity: Mapping[str, Any], overwrite: bool) -> None:
    """Check early that a training can start, or resume, in a folder.

    Raises:
        OutputExistsError: the folder holds another training or other files, and `overwrite` is
            False.
        OutputError: see `recon.output.check_output`.
        InputError: its config.json is damaged or has another version.
    """
    if overwrite or not folder.config.exists():
        check_output(folder.path, overwrite)
        return
    try:
        config = json.loads(folder.config.read_text(encoding="utf-8"))
        found = config["format"], config["version"]
        saved = config["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the configuration of the training is damaged ({error!r}); pass --overwrite to start "
            "again",
            folder.config,
        ) from error
    if found == (FORMAT, 1):
        raise InputError(
            "this training was started by an older version of fourdvd and cannot be resumed; "
            "choose another folder, or pass --overwrite (weights of a finished one stay usable)",
            folder.config,
        )
    if found != (FORMAT, VERSION):
        raise InputError(
            f"expected {FORMAT} version {VERSION}, found {found[0]} version {found[1]}; choose "
            "another folder, or pass --overwrite",
            folder.config,
        )
    check_same(saved, identity, folder.path, "a training")


def begin_run(
    folder: RunFolder,
    stage: Stage[Any],
    config: EngineConfig,
    data: Sequence[Path],
    overwrite: bool,
) -> None:
    """Create the folder, or update its config.json.

    Must be called after `check_run_folder`, and on one process only.
    """
    if overwrite and folder.path.exists():
        shutil.rmtree(folder.path)
    description = {
        "format": FORMAT,
        "version": VERSION,
        "identity": identity_of(stage, config),
        "engine": asdict(config),
        "data": [str(folder) for folder in data],
    }
    write_json(folder.config, description)


@dataclass(frozen=True)
class Checkpoint:
    """State of a training after a step.

    Attributes:
        step: number of steps made.
        tensors: tensors by name, see `Optimization.state_dict`.
        order: state of `EpochSampler`.
        identity: identity of the training, see `identity_of`.
        replaced: number of damaged samples that were replaced.
        seconds: training time so far in seconds.
    """

    step: int
    tensors: Mapping[str, Tensor]
    order: Mapping[str, Any]
    identity: Mapping[str, Any]
    replaced: int = 0
    seconds: float = 0.0


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint atomically and remove all but the newest ones.

    Returns:
        Path of the checkpoint.

    Raises:
        OSError: the checkpoint cannot be written; older ones are kept.
    """
    path = folder / f"step_{checkpoint.step:08d}.safetensors"
    for leftover in folder.glob(".step_*"):  # partial file of a killed process
        leftover.unlink()
    save_state(
        path,
        checkpoint.tensors,
        {
            "step": checkpoint.step,
            "order": dict(checkpoint.order),
            "identity": dict(checkpoint.identity),
            "replaced": checkpoint.replaced,
            "seconds": checkpoint.seconds,
        },
        format=CHECKPOINT_FORMAT,
        version=CHECKPOINT_VERSION,
    )
    for old in list_checkpoints(folder)[:-KEPT_CHECKPOINTS]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder in the order of their steps."""
    found = [path for path in folder.glob("step_*") if _CHECKPOINT_NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem.removeprefix("step_")))


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: the file, which must exist.
        identity: identity of the training.

    Raises:
        InputError: the checkpoint is damaged.
        OutputExistsError: the checkpoint belongs to another training; the message names the
            differences.
    """
    state = load_state(path, format=CHECKPOINT_FORMAT, version=CHECKPOINT_VERSION)
    assert state is not None, path
    try:
        saved = state.description
        checkpoint = Checkpoint(
            saved["step"],
            state.tensors,
            saved["order"],
            saved["identity"],
            saved["replaced"],
            saved["seconds"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the checkpoint is damaged ({error!r}); delete it to resume from the one before", path
        ) from error
    check_same(checkpoint.identity, identity, path, "a checkpoint of a training")
    return checkpoint


class TrainingLog:
    """Log in log.jsonl and TensorBoard; each line is written to disk at once.

    When a training resumes from a checkpoint, lines of later steps are removed, because these steps
    are made again.
    """

    def __init__(self, folder: RunFolder, step: int = 0):
        """Continue after `step` steps."""
        self._path = folder.log
        kept = [record for record in read_log(folder.path) if record["step"] <= step]
        with output_file(self._path, overwrite=True) as partial:
            partial.write_text("".join(json.dumps(record) + "\n" for record in kept), "utf-8")
        self._tensorboard = _tensorboard_writer(folder.path / "tensorboard", step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line.

        Args:
            step: number of steps made.
            values: numbers by name.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of a training's log; an incomplete last line is ignored."""
    path = RunFolder(folder).log
    if not path.exists():
        return []
    return [record for line in path.read_text("utf-8").splitlines() if (record := _parse(line))]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


def _tensorboard_writer(folder: Path, step: int) -> Any:
    """Make TensorBoard's writer; None if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
