"""One step of training after another: gradients, their norm, AdamW, the moving average.

    pieces of a batch ─▶ loss, gradients ─▶ mean over all processes ─▶ cut ─▶ AdamW ─▶ average

Nothing that is not finite reaches the weights. What it does not know: files, the log, the order of
samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from generation.models.loading import compare_shapes
from generation.training.average import Average
from generation.training.batches import Piece
from generation.training.draws import Draws
from generation.training.processes import fill, on_device, shared_like, whole
from generation.training.settings import EngineSettings
from generation.training.stage import Stage, StageLoss
from recon.errors import DivergedError, InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

Result = TypeVar("Result")

COUNTER = "step"  # AdamW's own, of each parameter: one number on the CPU, never a shard


class Outcome(NamedTuple):
    """What one step did.

    Attributes:
        losses: "loss" and its parts by name, means over the batch of all processes.
        learning_rate: that was used.
        gradient_norm: before it was cut.
        replaced: damaged samples that others stood in for.
        wishes: sums over all processes of what each one wished, see `Optimisation.advance`.
    """

    losses: dict[str, float]
    learning_rate: float
    gradient_norm: float
    replaced: int
    wishes: tuple[int, ...]


class Optimisation:
    """A stage's network on its way.

    Attributes:
        step: how many were made.
        parameters: that are trained, by name.
        average: of them.
    """

    def __init__(self, stage: Stage, settings: EngineSettings, accelerator: Accelerator):
        """At step 0; moves the network to the device of the process."""
        self._stage, self._settings, self._accelerator = stage, settings, accelerator
        trained = [each for each in stage.module.parameters() if each.requires_grad]
        assert trained, f"nothing of {stage.name} is to be trained"
        first, second = settings.betas
        optimizer = torch.optim.AdamW(
            trained, settings.learning_rate, (first, second), weight_decay=settings.weight_decay
        )
        # Only now do the parameters have their final form: shards take the place of whole ones.
        self._model, self._optimizer = accelerator.prepare(_Working(stage.module), optimizer)
        self.parameters: dict[str, nn.Parameter] = {
            name: each for name, each in stage.module.named_parameters() if each.requires_grad
        }
        self.average = Average(self.parameters, settings.average_decay)
        self.step = 0

    def advance(self, pieces: Sequence[Piece], wishes: Sequence[bool] = ()) -> Outcome:
        """One step.

        Args:
            pieces: of this process's part of the batch, all of the same size.
            wishes: anything that all processes must agree about, such as whether to stop.

        Raises:
            DivergedError: the loss or its gradient is not finite; the weights stay as they were.
        """
        self._stage.module.train()
        rate = learning_rate(self._settings, self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        told = [self._backward(piece) for piece in pieces[:-1]]
        with self._accelerator.accumulate(self._model):
            told.append(self._gradients(pieces[-1]))
            norm = self._accelerator.clip_grad_norm_(
                list(self.parameters.values()), self._settings.gradient_limit
            )
            replaced = sum(int(piece.samples.replaced.sum()) for piece in pieces)  # type: ignore[attr-defined]
            assert norm is not None  # it is, except for sharing that is not supported
            outcome = self._shared(told, rate, norm, (replaced, *map(int, wishes)))
            self._check(outcome)
            self._optimizer.step()
            self._optimizer.zero_grad()
        self.step += 1
        self.average.update(self.step)
        return outcome

    def evaluate(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """What a method of the stage makes with the averaged weights in the network.

        To be called on every process: a network that is spread over them works only together.
        """
        self._stage.module.eval()
        with self.average.applied(), torch.no_grad():
            return self._model(work, *arguments)

    def averaged_weights(self) -> dict[str, Tensor]:
        """Whole ones, of their own; to be called on every process."""
        return {name: whole(tensor).clone() for name, tensor in self.average.tensors.items()}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that a checkpoint needs, whole; to be called on every process."""
        moments = {
            f"{name}/{moment}": whole(tensor)
            for name, parameter in self.parameters.items()
            for moment, tensor in self._optimizer.state[parameter].items()
        }
        return {
            "weights": {name: whole(each.detach()) for name, each in self.parameters.items()},
            "average": {name: whole(tensor) for name, tensor in self.average.tensors.items()},
            "optimizer": moments,
        }

    def load(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Goes on from a checkpoint.

        Raises:
            InputError: its tensors are those of another network.
        """
        difference = compare_shapes(_shapes(tensors["weights"]), _shapes(self.parameters))
        if difference.total:
            raise InputError(f"the checkpoint is of another network; tensors: {difference}")
        for name, parameter in self.parameters.items():
            fill(parameter, tensors["weights"][name])
            fill(self.average.tensors[name], tensors["average"][name])
        for key, tensor in tensors["optimizer"].items():
            name, _, moment = key.rpartition("/")
            parameter = self.parameters[name]
            state = self._optimizer.state[parameter]
            state[moment] = tensor if moment == COUNTER else shared_like(tensor, parameter)
        self.step = step

    def _backward(self, piece: Piece) -> StageLoss:
        """Adds the gradients of a piece; the processes exchange theirs only at the last one."""
        with self._accelerator.accumulate(self._model):
            return self._gradients(piece)

    def _gradients(self, piece: Piece) -> StageLoss:
        device = self._accelerator.device
        samples = on_device(piece.samples, device)
        draws = Draws(self._settings.seed, self.step, piece.places, device)
        found: StageLoss = self._model(self._stage.loss, samples, draws)
        self._accelerator.backward(found.loss)
        return found

    def _shared(
        self, told: Sequence[StageLoss], rate: float, norm: Tensor, counts: Sequence[int]
    ) -> Outcome:
        """The means and sums over all processes, in one exchange."""
        names = ["loss", *told[0].parts]
        means = [torch.stack([_value(each, name) for each in told]).mean() for name in names]
        own = torch.cat(
            [
                torch.stack(means).detach().double(),
                torch.tensor(counts, dtype=torch.float64, device=self._accelerator.device),
            ]
        )
        sums: list[float] = cast("Tensor", self._accelerator.reduce(own, "sum")).tolist()
        processes = cast("int", self._accelerator.num_processes)
        losses = {name: sums[i] / processes for i, name in enumerate(names)}
        replaced, *wishes = (round(number) for number in sums[len(names) :])
        return Outcome(losses, rate, float(whole(norm)), replaced, tuple(wishes))

    def _check(self, outcome: Outcome) -> None:
        loss = outcome.losses["loss"]
        if not (math.isfinite(loss) and math.isfinite(outcome.gradient_norm)):
            raise DivergedError(
                f"step {self.step + 1}: the loss is {loss:.4g} and the norm of its gradient "
                f"{outcome.gradient_norm:.4g}; the last checkpoint is kept, try a lower "
                "learning rate"
            )


class _Working(nn.Module):
    """A network as the module that accelerate wraps.

    Its forward runs whatever works with the network, so that arithmetic, exchange of gradients and
    gathering of shards are in force there, although each stage calls its network in its own way.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _value(told: StageLoss, name: str) -> Tensor:
    return told.loss if name == "loss" else told.parts[name]


def learning_rate(settings: EngineSettings, step: int) -> float:
    """Of the step after `step` steps: up in the warm-up, level, down in the cooldown."""
    up = min(1.0, (step + 1) / max(settings.warmup, 1))
    down = min(1.0, (settings.steps - step) / max(settings.cooldown, 1))
    return settings.learning_rate * min(up, max(down, 0.0))
