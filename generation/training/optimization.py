"""The optimizer step: gradients, clipping, AdamW, EMA.

    micro-batches ─▶ loss, gradients ─▶ mean over processes ─▶ clipping ─▶ AdamW ─▶ EMA

It optimizes the network of a `Stage`. A step whose loss or gradient is not finite never changes the
weights.

With `average_every`, each process makes its steps alone, and every few steps the weights, their EMA
and the moments of AdamW are averaged over the processes, which is called local SGD:

    micro-batches ─▶ loss, gradients ─▶ clipping ─▶ AdamW ─▶ EMA ─▶ every few steps: mean of all

Source: Stich 2019, "Local SGD Converges Fast and Communicates Little".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from generation.models.loading import compare_shapes
from generation.training.batches import MicroBatch
from generation.training.clip_sampling import SampleRng
from generation.training.config import EngineConfig
from generation.training.processes import average, distribute_like, fill, gather, on_device
from generation.training.samples import AnySamples, SampleSet
from recon.errors import DivergedError, InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

Result = TypeVar("Result")

COUNTER = "step"  # AdamW's step count of a parameter: one number on the CPU, never sharded


class StageLoss(NamedTuple):
    """Loss of a batch.

    Attributes:
        loss: mean over the samples of the batch, of lift over their pixels, [].
        parts: terms of the loss for the log, by name, each [].
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Stage(Protocol[AnySamples]):
    """A network with its loss, its samples and its evaluation.

    A stage takes random numbers only from the given generators, so that a training is the same on
    any number of processes, except that of lift, see `LiftStage.loss`.
    """

    @property
    def name(self) -> str:
        """One of `config.STAGES`."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Values that the loss depends on, as JSON; they must match the saved state to resume."""
        ...

    @property
    def module(self) -> nn.Module:
        """The network; each parameter that requires a gradient gets one in every step.

        Frozen networks are submodules, too, so that they are moved to the device. Checkpoints hold
        the trained parameters only.
        """
        ...

    def dataset(self, folders: Sequence[str | Path], config: EngineConfig) -> SampleSet[AnySamples]:
        """Open the samples in folders.

        Raises:
            InputError: a folder does not hold data for this stage; see its data set.
        """
        ...

    def loss(self, batch: AnySamples, rng: SampleRng) -> StageLoss:
        """Compute the loss of a batch on the module's device, with a generator per sample."""
        ...

    def evaluate(self, samples: AnySamples, rng: SampleRng) -> dict[str, float]:
        """Compute metrics on held-out samples, with the same random numbers each time."""
        ...

    def images(self, samples: AnySamples, rng: SampleRng) -> np.ndarray:
        """Draw generated images of the held-out samples, uint8 RGB, [H, W, 3]."""
        ...

    def save(
        self,
        folder: Path,
        weights: Mapping[str, Tensor],
        samples: AnySamples,
        dtype: torch.dtype,
    ) -> None:
        """Write the published weights.

        Args:
            folder: an empty folder.
            weights: the complete trained parameters by name; those of the module may be sharded.
            samples: held-out samples, for statistics.
            dtype: floating-point type in the files.
        """
        ...


class StepResult(NamedTuple):
    """Result of one optimizer step.

    Attributes:
        losses: "loss" and its terms by name, means over the batch of all processes; in a step
            without a communication, over the part of this process.
        learning_rate: learning rate of the step.
        grad_norm: norm of the gradient before clipping.
        replaced: number of damaged samples that were replaced by others since the last
            communication; 0 in a step without one.
        control_flags: number of processes that set each flag, see `Optimization.step_once`; 0 in a
            step without a communication.
    """

    losses: dict[str, float]
    learning_rate: float
    grad_norm: float
    replaced: int
    control_flags: tuple[int, ...]

    @property
    def is_finite(self) -> bool:
        """Whether all losses and the norm are finite."""
        return all(map(math.isfinite, (*self.losses.values(), self.grad_norm)))


class EMA:
    """Exponential moving average of parameters, which may be sharded.

        ema ← d · ema + (1 − d) · weights,   d = min(decay, (1 + step) / (10 + step))

    The smaller decay of early steps keeps the initialization from dominating.

    Attributes:
        tensors: averaged parameters by name.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float):
        """Initialize the averages with the current parameters.

        Args:
            parameters: parameters by name; read at each update.
            decay: maximum of d, in [0, 1).
        """
        self._parameters, self._decay = parameters, decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in self.tensors.items():
            tensor.lerp_(self._parameters[name].detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Swap the averages into the network while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self.tensors.items():
            parameter = self._parameters[name]
            weights = parameter.detach().clone()
            parameter.copy_(tensor)
            tensor.copy_(weights)


class Optimization:
    """A stage's network with its optimizer and EMA.

    Attributes:
        step: number of steps made.
        parameters: trained parameters by name.
        ema: moving average of the parameters.
    """

    def __init__(self, stage: Stage[Any], config: EngineConfig, accelerator: Accelerator):
        """Start at step 0; move the network to the device of the process."""
        self._stage, self._config, self._accelerator = stage, config, accelerator
        trained = [each for each in stage.module.parameters() if each.requires_grad]
        assert trained, f"no parameter of {stage.name} requires a gradient"
        first, second = config.betas
        optimizer = torch.optim.AdamW(
            trained, config.learning_rate, (first, second), weight_decay=config.weight_decay
        )
        # FSDP replaces the parameters by shards here, so they are listed afterwards.
        self._model, self._optimizer = accelerator.prepare(_Runner(stage.module), optimizer)
        self.parameters: dict[str, nn.Parameter] = {
            name: each for name, each in stage.module.named_parameters() if each.requires_grad
        }
        self.ema = EMA(self.parameters, config.ema_decay)
        self.step = 0
        self._alone = config.average_every > 0 and accelerator.num_processes > 1
        self._replaced, self._diverged = 0, False  # since the last communication

    def step_once(
        self, micro_batches: Sequence[MicroBatch], control_flags: Sequence[bool] = ()
    ) -> StepResult:
        """Make one optimizer step.

        Args:
            micro_batches: this process's part of the batch, in parts of equal size.
            control_flags: decisions that all processes must share, such as whether to stop.

        Raises:
            DivergedError: the loss or the gradient is not finite; the weights are unchanged.
        """
        self._stage.module.train()
        rate = learning_rate(self._config, self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        losses = [self._accumulate(part) for part in micro_batches[:-1]]
        with self._accelerator.accumulate(self._model), self._without_exchange():
            losses.append(self._backward(micro_batches[-1]))
            norm = self._accelerator.clip_grad_norm_(
                list(self.parameters.values()), self._config.max_grad_norm
            )
            assert norm is not None  # None only for distribution types that were rejected before
            self._replaced += sum(int(part.samples.replaced.sum()) for part in micro_batches)
            result = self._shared(losses, rate, norm, control_flags)
            if not self._diverged:
                self._optimizer.step()
            self._optimizer.zero_grad()
        self.step += 1
        self.ema.update(self.step)
        if self._alone and self._communicates(self.step):
            self._average()
        return result

    def with_ema(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Call a method of the stage with the EMA weights in the network.

        Must be called on every process, because a sharded network only runs on all of them.
        """
        self._stage.module.eval()
        with self.ema.applied(), torch.no_grad():
            return self._model(work, *arguments)

    def ema_weights(self) -> dict[str, Tensor]:
        """Return complete copies of the EMA weights; must be called on every process."""
        return {name: gather(tensor).clone() for name, tensor in self.ema.tensors.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the complete tensors of a checkpoint; must be called on every process.

        Their names are "weights/NAME", "ema/NAME" and "optimizer/NAME/MOMENT".
        """
        moments = {
            f"optimizer/{name}/{moment}": gather(tensor)
            for name, parameter in self.parameters.items()
            for moment, tensor in self._optimizer.state[parameter].items()
        }
        weights = {f"weights/{name}": gather(x.detach()) for name, x in self.parameters.items()}
        ema = {f"ema/{name}": gather(x) for name, x in self.ema.tensors.items()}
        return weights | ema | moments

    def load_state_dict(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: the tensors belong to another network.
        """
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "ema": {}, "optimizer": {}}
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = tensor
        difference = compare_shapes(_shapes(groups["weights"]), _shapes(self.parameters))
        if difference.total:
            raise InputError(
                f"expected a checkpoint of this network, but its tensors differ: {difference}; "
                "resume with the same configuration"
            )
        for name, parameter in self.parameters.items():
            fill(parameter, groups["weights"][name])
            fill(self.ema.tensors[name], groups["ema"][name])
        for key, tensor in groups["optimizer"].items():
            name, _, moment = key.rpartition("/")
            parameter = self.parameters[name]
            state = self._optimizer.state[parameter]
            state[moment] = tensor if moment == COUNTER else distribute_like(tensor, parameter)
        self.step = step

    def _accumulate(self, part: MicroBatch) -> StageLoss:
        """Add the gradients of a micro-batch, without exchanging them between processes."""
        with self._accelerator.accumulate(self._model):
            return self._backward(part)

    def _backward(self, part: MicroBatch) -> StageLoss:
        device = self._accelerator.device
        samples = on_device(part.samples, device)
        rng = SampleRng(self._config.seed, self.step, part.positions, device)
        result: StageLoss = self._model(self._stage.loss, samples, rng)
        self._accelerator.backward(result.loss)
        return result

    def _without_exchange(self) -> AbstractContextManager[None]:
        """Keep DDP from exchanging gradients, if the weights are averaged instead."""
        return self._accelerator.no_sync(self._model) if self._alone else nullcontext()

    def _communicates(self, step: int) -> bool:
        """Return whether the processes communicate in a step, counted from 1."""
        last = step == self._config.steps
        return not self._alone or last or step % self._config.average_every == 0

    def _average(self) -> None:
        """Average weights, EMA and moments over all processes."""
        moments = [
            tensor
            for parameter in self.parameters.values()
            for moment, tensor in self._optimizer.state[parameter].items()
            if moment != COUNTER
        ]
        for tensors in (self.parameters.values(), self.ema.tensors.values(), moments):
            average(tensors, self._accelerator)

    def _shared(
        self, losses: Sequence[StageLoss], rate: float, norm: Tensor, control_flags: Sequence[bool]
    ) -> StepResult:
        """Return the result of the step, common to all processes if they communicate in it.

        Raises:
            DivergedError: the loss or the gradient is not finite, in a process that steps alone
                possibly of an earlier step.
        """
        if self._communicates(self.step + 1):
            if self._diverged:
                norm = norm * torch.nan
            result = self._reduce(losses, rate, norm, (self._replaced, *map(int, control_flags)))
            self._check(result)
            self._replaced = 0
            return result
        names = ("loss", *losses[0].parts)
        means = {
            name: float(torch.stack([_term(x, name).detach() for x in losses]).mean())
            for name in names
        }
        result = StepResult(means, rate, float(norm), 0, (0,) * len(control_flags))
        # The others would wait forever for a process that raises now.
        self._diverged |= not (math.isfinite(means["loss"]) and math.isfinite(float(norm)))
        return result

    def _reduce(
        self, losses: Sequence[StageLoss], rate: float, norm: Tensor, counts: Sequence[int]
    ) -> StepResult:
        """Average losses and gradient norms, and sum counts, in one communication."""
        names = ["loss", *losses[0].parts]
        means = [torch.stack([_term(each, name) for each in losses]).mean() for name in names]
        means.append(gather(norm).to(means[0]))
        own = torch.cat(
            [
                torch.stack(means).detach().double(),
                torch.tensor(counts, dtype=torch.float64, device=self._accelerator.device),
            ]
        )
        sums: list[float] = cast("Tensor", self._accelerator.reduce(own, "sum")).tolist()
        processes = cast("int", self._accelerator.num_processes)
        averages = {name: sums[i] / processes for i, name in enumerate(names)}
        replaced, *flags = (round(number) for number in sums[len(means) :])
        mean_norm = sums[len(names)] / processes
        return StepResult(averages, rate, mean_norm, replaced, tuple(flags))

    def _check(self, result: StepResult) -> None:
        loss = result.losses["loss"]
        if not (math.isfinite(loss) and math.isfinite(result.grad_norm)):
            raise DivergedError(
                f"step {self.step + 1}: the loss is {loss:.4g} and the gradient norm "
                f"{result.grad_norm:.4g}; the last checkpoint is kept, try a lower learning rate"
            )


class _Runner(nn.Module):
    """The module that accelerate wraps, with the network as its submodule.

    Its forward calls any function that uses the network, so that mixed precision, DDP and FSDP
    apply to every stage, whatever the arguments of its network.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _term(result: StageLoss, name: str) -> Tensor:
    return result.loss if name == "loss" else result.parts[name]


def learning_rate(config: EngineConfig, step: int) -> float:
    """Compute the learning rate after `step` steps: linear warm-up, constant, linear cooldown."""
    up = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    cooldown = max(config.cooldown_steps, config.cooldown_share * config.steps, 1)
    down = min(1.0, (config.steps - step) / cooldown)
    return config.learning_rate * min(up, max(down, 0.0))
