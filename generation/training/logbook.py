"""The log of a training: a JSON object a line, and the same curves for TensorBoard if it is there.

When a training goes on from a checkpoint, lines of later steps, which will be made again, are
removed: each step is told once. What it does not know: what is told.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.output import output_file

LOG_NAME, CURVES_NAME = "log.jsonl", "tensorboard"


class Logbook:
    """Appends to a log; what it is told is on disk at once."""

    def __init__(self, folder: Path, step: int = 0):
        """Goes on after a step.

        Args:
            folder: of the training.
            step: how many were made; nothing later stays in the log.
        """
        self._path = folder / LOG_NAME
        _cut(self._path, step)
        self._curves = _curves(folder / CURVES_NAME, step)

    def tell(self, step: int, facts: Mapping[str, Any]) -> None:
        """Appends one line.

        Args:
            step: how many were made.
            facts: by name; numbers become curves.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **facts}, allow_nan=False) + "\n")
        if self._curves is not None:
            for name, value in facts.items():
                self._curves.add_scalar(name, value, step)

    def close(self) -> None:
        """Ends the curves."""
        if self._curves is not None:
            self._curves.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log; a last one that was cut off is left out."""
    path = folder / LOG_NAME
    if not path.exists():
        return []
    return [record for line in path.read_text("utf-8").splitlines() if (record := _parsed(line))]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


def _cut(path: Path, step: int) -> None:
    kept = [record for record in read_log(path.parent) if record["step"] <= step]
    with output_file(path, overwrite=True) as partial:
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept), "utf-8")


def _curves(folder: Path, step: int) -> Any:
    """TensorBoard's writer; None where it is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
