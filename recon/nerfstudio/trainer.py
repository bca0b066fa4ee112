"""The trainer: nerfstudio's, with a total number of iterations, atomic checkpoints and Ctrl-C.

RUN/config.yml                          nerfstudio's settings
RUN/nerfstudio_models/step-NNN.ckpt     the state of the fit, from which --load-dir resumes
RUN/scene/                              the scene at the last checkpoint
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig

from recon.devices import resolve_device
from recon.errors import BackendError, InputError, Interrupted
from recon.fitting.fit import Fit
from recon.fitting.reconstruction import kernel_threads, memory_errors
from recon.nerfstudio.failures import sentences
from recon.scene import RUN_SCENE

USE_CPU = "or use --machine.device-type cpu"


@dataclass
class FourdvdTrainerConfig(TrainerConfig):
    """Settings of a run."""

    _target: Callable[..., Any] = field(default_factory=lambda: FourdvdTrainer)
    max_num_iterations: int = 0
    """Iterations of the whole fit, resumed runs included; 0: by quality and number of frames."""


class FourdvdTrainer(Trainer):
    """Train one fit on one device; arguments as nerfstudio's `Trainer`."""

    def __init__(self, config: FourdvdTrainerConfig, local_rank: int = 0, world_size: int = 1):
        self._interrupted = False
        with sentences():
            _check_machine(config, world_size)
            config.pipeline.model.iterations = config.max_num_iterations
            super().__init__(config, local_rank, world_size)

    @property
    def fit(self) -> Fit:
        """The fit of the model."""
        return self.pipeline.model.fit

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Read the data, begin or resume the fit, and start the viewer."""
        with sentences():
            _check_checkpoints(self.config)
            super().setup(test_mode)
            if self.fit.done:
                raise InputError(
                    f"the run has all of its {self.iterations} iterations; for a longer fit start "
                    "a new run with more --max-num-iterations"
                )

    def setup_optimizers(self) -> Optimizers:
        """Return no optimizers; nerfstudio asks for them once the fit and its length are known."""
        self.iterations = self.config.max_num_iterations = self.fit.config.iterations
        return super().setup_optimizers()

    def train(self) -> None:
        """Run the remaining iterations; Ctrl-C saves the state and ends with exit code 130."""
        self.config.max_num_iterations = self.iterations - self.fit.iteration
        with sentences(), memory_errors(), kernel_threads(self.fit.config), self._stop_at_ctrl_c():
            super().train()

    def save_checkpoint(self, step: int) -> None:
        """Write the checkpoint and the scene, each of which replaces the older one when complete.

        Args:
            step: nerfstudio's number of the step, which may not have run yet; the name of the file
                is that of the last step that did.
        """
        if self.fit.iteration == 0:
            return
        final, last = self.checkpoint_dir, self.fit.iteration - 1
        final.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".checkpoint-", dir=self.base_dir) as staged:
            self.checkpoint_dir = Path(staged)
            try:
                super().save_checkpoint(last)
            finally:
                self.checkpoint_dir = final
            for path in Path(staged).iterdir():
                path.replace(final / path.name)
        if self.config.save_only_latest_checkpoint:
            for path in final.glob("*.ckpt"):
                if path.name != f"step-{last:09d}.ckpt":
                    path.unlink()
        self.pipeline.model.current_scene().save(self.base_dir / RUN_SCENE, overwrite=True)

    def _after_train(self) -> None:
        if not self._interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ends the viewer
            super()._after_train()
            return
        self.save_checkpoint(self.step)
        done = self.fit.iteration
        state = (
            "nothing is saved"
            if done == 0
            else (
                f"resume with `ns-train fourdvd --data {self.config.data} --load-dir "
                f"{self.checkpoint_dir}` and the same settings"
            )
        )
        raise Interrupted(f"stopped at iteration {done} of {self.iterations}; {state}")

    @contextmanager
    def _stop_at_ctrl_c(self) -> Iterator[None]:
        """Stop after the current step on the first Ctrl-C, at once on the second."""

        def stop(number: int, frame: Any) -> None:
            self._interrupted = self.stop_training = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _check_machine(config: FourdvdTrainerConfig, world_size: int) -> None:
    """Check device and precision.

    Raises:
        BackendError: the device is not available.
        InputError: a setting is not supported.
    """
    device = config.machine.device_type
    if device not in ("cpu", "cuda"):
        raise BackendError(f"the method fourdvd runs on cuda or cpu, found {device}; {USE_CPU}")
    try:
        resolve_device(device)
    except BackendError as error:
        raise BackendError(f"{error}: --machine.device-type cpu") from error
    if world_size != 1:
        raise InputError(f"the method fourdvd trains on one device, found {world_size}")
    if config.mixed_precision or config.use_grad_scaler:
        raise InputError("the method fourdvd computes in float32; leave out --mixed-precision")


def _check_checkpoints(config: FourdvdTrainerConfig) -> None:
    """Check that there is a checkpoint where one is to be loaded from.

    Raises:
        InputError: there is none.
    """
    folder, file = config.load_dir, config.load_checkpoint
    if folder is not None and not any(folder.glob("step-*.ckpt")):
        raise InputError("expected step-*.ckpt, as in nerfstudio_models of a run", folder)
    if folder is not None and config.load_step is not None:
        file = folder / f"step-{config.load_step:09d}.ckpt"
    if file is not None and not file.is_file():
        raise InputError("expected a checkpoint, found no such file", file)
