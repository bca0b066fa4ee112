"""The length of a run, in an environment without nerfstudio, of which the trainer is a stand-in."""

import importlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from recon.fitting.config import QUALITIES, REFERENCE_FRAMES, fit_config

TRAINER = "recon.nerfstudio.trainer"
FRAMES = 4 * REFERENCE_FRAMES


@dataclass
class TrainerConfig:
    """The settings that the trainer reads."""

    pipeline: Any
    max_num_iterations: int = 0
    machine: Any = field(default_factory=lambda: SimpleNamespace(device_type="cpu"))
    mixed_precision: bool = False
    use_grad_scaler: bool = False
    load_dir: Path | None = None
    load_checkpoint: Path | None = None


class Trainer:
    """Sets up in nerfstudio's order: the model, the optimizers, the writers."""

    def __init__(self, config: TrainerConfig, local_rank: int, world_size: int):
        self.config = config

    def setup(self, test_mode: str) -> None:
        settings = self.config.pipeline.model
        config = fit_config("draft").for_grid(256, FRAMES)
        total = settings.iterations or config.iterations
        fit = SimpleNamespace(config=SimpleNamespace(iterations=total), iteration=0, done=False)
        self.pipeline = SimpleNamespace(model=SimpleNamespace(fit=fit))
        self.optimizers = self.setup_optimizers()
        self.shown_total = self.config.max_num_iterations

    def setup_optimizers(self) -> None:
        return None


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    modules = {
        "nerfstudio": {},
        "nerfstudio.engine": {},
        "nerfstudio.engine.optimizers": {"Optimizers": object},
        "nerfstudio.engine.trainer": {"Trainer": Trainer, "TrainerConfig": TrainerConfig},
    }
    for name, values in modules.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, TRAINER, raising=False)
    yield importlib.import_module(TRAINER)
    sys.modules.pop(TRAINER, None)


@pytest.mark.parametrize(
    ("asked", "expected"), [(0, round(QUALITIES["draft"].iterations * math.sqrt(4))), (300, 300)]
)
def test_a_run_has_the_iterations_that_its_frames_need_unless_they_are_given(
    trainer: Any, asked: int, expected: int
):
    model = SimpleNamespace(quality="draft", iterations=0)
    config = trainer.FourdvdTrainerConfig(SimpleNamespace(model=model), max_num_iterations=asked)
    run = trainer.FourdvdTrainer(config)
    run.setup()
    assert run.iterations == run.shown_total == expected
