"""The folder of a training: what is where in it, and whether a training may go on there.

    OUT/config.json       what is trained, on what, and how
        log.jsonl         see `logbook`
        checkpoints/      see `checkpoints`
        samples/          step_00000500.png …, what the network makes of held-out samples
        weights/          at the end: what others load

What it does not know: what is in the files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from generation.training.checkpoints import check_identity
from generation.training.settings import EngineSettings
from generation.training.stage import Stage
from recon.errors import InputError
from recon.media import write_png
from recon.output import check_output, output_file, write_json

CONFIG_NAME = "config.json"
FORMAT, VERSION = "fourdvd-training", 1


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a training are."""

    path: Path

    @property
    def config(self) -> Path:
        """What is trained; it is what makes a folder that of a training."""
        return self.path / CONFIG_NAME

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """Folder of the result."""
        return self.path / "weights"

    def write_picture(self, step: int, picture: np.ndarray) -> Path:
        """Writes what a stage has drawn, uint8 RGB, [H, W, 3], and returns the file."""
        place = self.path / "samples" / f"step_{step:08d}.png"
        with output_file(place, overwrite=True) as partial:
            write_png(partial, picture)
        return place


def identity_of(stage: Stage, settings: EngineSettings) -> dict[str, Any]:
    """What a training must agree in with one that it goes on from."""
    return {"stage": stage.name, stage.name: dict(stage.settings), "engine": settings.curve}


def check_run_folder(folder: RunFolder, identity: Mapping[str, Any], overwrite: bool) -> None:
    """Tells early whether a training may begin or go on in a folder.

    Raises:
        OutputExistsError: something else is in it, and `overwrite` is False.
        OutputError: as `recon.output.check_output`.
        InputError: another training is in it, and `overwrite` is False; says what differs.
    """
    if overwrite or not folder.config.exists():
        check_output(folder.path, overwrite)
        return
    try:
        config = json.loads(folder.config.read_text(encoding="utf-8"))
        known = (config["format"], config["version"]) == (FORMAT, VERSION)
        found = config["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"damaged ({error!r}); pass --overwrite to start again", folder.config
        ) from error
    if not known:
        raise InputError(f"expected {FORMAT} of version {VERSION}", folder.config)
    check_identity(found, identity, folder.config)


def begin_run(
    folder: RunFolder,
    stage: Stage,
    settings: EngineSettings,
    shards: Sequence[Path],
    overwrite: bool,
) -> None:
    """Makes the folder, or takes it up again; after `check_run_folder`, on one process."""
    if overwrite and folder.path.exists():
        shutil.rmtree(folder.path)
    config = {
        "format": FORMAT,
        "version": VERSION,
        "identity": identity_of(stage, settings),
        "engine": asdict(settings),
        "shards": [str(folder) for folder in shards],
    }
    write_json(folder.config, config)
