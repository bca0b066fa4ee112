"""The log has each step once, whatever happened in between."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from generation.training.logbook import LOG_NAME, Logbook, read_log


def test_steps_that_will_be_made_again_are_removed(tmp_path):
    first = Logbook(tmp_path)
    for step in range(1, 6):
        first.tell(step, {"loss": 1 / step})
    first.close()
    second = Logbook(tmp_path, step=3)
    second.tell(4, {"loss": 0.5})
    assert [(record["step"], record["loss"]) for record in read_log(tmp_path)] == [
        (1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.5),
    ]  # fmt: skip


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / LOG_NAME).write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    Logbook(tmp_path, step=2).tell(2, {"loss": 1.0})
    lines = (tmp_path / LOG_NAME).read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [2.0, 1.0]


def test_a_training_without_a_log_has_no_lines(tmp_path):
    assert read_log(tmp_path) == []


def test_a_number_that_json_lacks_is_no_line(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Logbook(tmp_path).tell(1, {"loss": math.nan})
    assert read_log(tmp_path) == []


def test_numbers_become_curves_where_tensorboard_is_installed(tmp_path, monkeypatch):
    drawn = []

    class Writer:
        def __init__(self, folder, purge_step):
            drawn.append((Path(folder), purge_step))

        def add_scalar(self, *arguments):
            drawn.append(arguments)

        def close(self):
            drawn.append("closed")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer)
    )
    logbook = Logbook(tmp_path, step=2)
    logbook.tell(3, {"loss": 0.5})
    logbook.close()
    assert drawn == [(tmp_path / "tensorboard", 3), ("loss", 0.5, 3), "closed"]
