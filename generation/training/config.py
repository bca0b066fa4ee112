"""Configuration of a training, read from TOML. Light to import: no torch.

    [engine]        for all stages          ─┐
    [STAGE.engine]  overrides for one stage  ─┼─▶ EngineConfig ◀─ command-line options
    [STAGE]         settings of the stage    ───▶ the stage's dataclass
    [STAGE.FIELD]   settings of a field that is a dataclass itself

The key `extends`, in front of the tables, names another configuration, whose values the file
overrides one by one. Unknown keys and values of another type are errors.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar

from recon.errors import InputError

STAGES = ("vae", "reference-views", "base", "coarse", "fine", "lift")
CONFIGS = ("mini", "mini_noisy", "mini_more", "paper", "lift")
PRECISIONS = ("float32", "bfloat16")
WEIGHTS_PRECISIONS = ("float32", "bfloat16", "float16")
ON_ERROR = ("raise", "skip")
RENAMED = {
    "accumulate": "grad_accum_steps",
    "average_decay": "ema_decay",
    "batch": "batch_size",
    "cooldown": "cooldown_steps",
    "drop": "cond_drop_prob",
    "edges": "edge_weight",
    "generated": "upstream_prob",
    "generated_steps": "upstream_steps",
    "gradient_limit": "max_grad_norm",
    "kl": "kl_weight",
    "pictures_every": "images_every",
    "recompute": "gradient_checkpointing",
    "sampled": "eval_grids",
    "score_every": "eval_every",
    "steps": "sampler_steps",  # in the tables of stages
    "tower_side": "image_encoder_side",
    "tower_widths": "image_encoder_widths",
    "varied": "augment",
    "warmup": "warmup_steps",
    "workers": "num_workers",
}
"""Keys of older configurations and their present names."""

Config = TypeVar("Config")

_FOLDER = resources.files("generation.training") / "configs"


@dataclass(frozen=True)
class EngineConfig:
    """Configuration of the training loop, the same for all stages.

    Attributes:
        steps: optimizer steps in total.
        batch_size: samples per step, over all processes and accumulation steps.
        grad_accum_steps: micro-batches into which each process splits its part of a batch.
        learning_rate: learning rate of AdamW after the warm-up.
        warmup_steps: steps over which the learning rate rises from 0.
        cooldown_steps: last steps, over which the learning rate falls to 0.
        cooldown_share: the same as a share of all steps; the longer of the two counts.
        weight_decay: weight decay of AdamW.
        betas: betas of AdamW.
        max_grad_norm: gradient clipping threshold.
        average_every: steps between averages of the weights of all processes (local SGD); 0
            averages their gradients in each step instead. Each process trains on its share of each
            batch alone between the averages.
        ema_decay: decay of the exponential moving average (EMA) of the weights, which is published.
        precision: "float32", or "bfloat16" for mixed precision; parameters are always float32.
        weights_precision: floating-point type of the published weights.
        seed: seed of sample order, augmentation and noise.
        held_out: number of samples that are for evaluation only: the last of the shards, or drawn
            samples of held-out assets.
        device: "cpu" or "cuda".
        num_workers: data loader processes per training process; 0 loads in the training process.
        on_error: "raise" stops at a damaged sample, "skip" replaces it with another one.
        log_every: steps between lines of the log.
        eval_every: steps between evaluations on the held-out samples.
        images_every: steps between images of generated held-out samples.
        checkpoint_every: steps between checkpoints.
        checkpoint_seconds: maximum time between checkpoints in seconds.

    Raises:
        InputError: a name is unknown or a number out of range.
    """

    steps: int = 1000
    batch_size: int = 4
    grad_accum_steps: int = 1
    learning_rate: float = 1e-4
    warmup_steps: int = 100
    cooldown_steps: int = 0
    cooldown_share: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    max_grad_norm: float = 1.0
    average_every: int = 0
    ema_decay: float = 0.999
    precision: str = "float32"
    weights_precision: str = "float32"
    seed: int = 0
    held_out: int = 4
    device: str = "cpu"
    num_workers: int = 0
    on_error: Literal["raise", "skip"] = "skip"
    log_every: int = 10
    eval_every: int = 500
    images_every: int = 500
    checkpoint_every: int = 1000
    checkpoint_seconds: float = 900.0

    def __post_init__(self):
        for name, known in (
            ("precision", PRECISIONS),
            ("weights_precision", WEIGHTS_PRECISIONS),
            ("on_error", ON_ERROR),
        ):
            if getattr(self, name) not in known:
                raise InputError(
                    f"expected {name} to be one of {', '.join(known)}, "
                    f"found {getattr(self, name)!r}"
                )
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"expected a finite {name} above 0, found {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"expected {name} of at least 0, found {getattr(self, name)}")
        for name in ("eval_every", "images_every", "checkpoint_every"):
            if self.average_every and getattr(self, name) % self.average_every:
                raise InputError(
                    f"expected {name} to be a multiple of average_every, found "
                    f"{getattr(self, name)} and {self.average_every}"
                )
        if self.cooldown_share > 1:
            raise InputError(f"expected cooldown_share in [0, 1], found {self.cooldown_share}")
        decays = (*self.betas, self.ema_decay)
        if len(self.betas) != 2 or not all(0 <= decay < 1 for decay in decays):
            raise InputError(
                f"expected two betas and ema_decay in [0, 1), found {self.betas} and "
                f"{self.ema_decay}"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Values that must match the saved state to resume a training.

        Other values may change. Most only decide how the training is computed and what it writes;
        `steps`, `cooldown_steps` and `cooldown_share`, which change the learning rate of the steps
        to come, may change on purpose, so that a training can be prolonged or ended early.
        """
        averaging = {"average_every": self.average_every} if self.average_every else {}
        return {name: getattr(self, name) for name in _IDENTITY} | averaging


_POSITIVE = (
    "steps", "batch_size", "grad_accum_steps", "learning_rate", "max_grad_norm", "held_out",
    "log_every", "eval_every", "images_every", "checkpoint_every", "checkpoint_seconds",
)  # fmt: skip
_NOT_NEGATIVE = (
    "warmup_steps",
    "cooldown_steps",
    "cooldown_share",
    "weight_decay",
    "seed",
    "num_workers",
    "average_every",
)
_IDENTITY = (
    "batch_size", "learning_rate", "warmup_steps", "weight_decay", "betas", "max_grad_norm",
    "ema_decay", "precision", "seed", "held_out",
)  # fmt: skip


def read_config(
    config: str | Path,
    stage: str,
    kind: type[Config],
    overrides: Mapping[str, Any] | None = None,
) -> tuple[EngineConfig, Config]:
    """Read the configuration of one stage.

    Args:
        config: name in `CONFIGS`, or path of a TOML file.
        stage: name in `STAGES`.
        kind: dataclass of the stage's configuration; all of its fields have defaults.
        overrides: fields of `EngineConfig` that override the file; None leaves the file's value.

    Returns:
        The configuration of the training loop and that of the stage.

    Raises:
        InputError: the file is missing or not TOML, or a key is unknown, of another type or out of
            range.
    """
    tables, source = _read_toml(config)
    _check_names(tables, ("engine", *STAGES), "table", source)
    own = _table(tables, stage, source)
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    engine = _table(tables, "engine", source) | _table(own, "engine", source)
    try:
        return (
            _parse(EngineConfig, engine | given),
            _parse(kind, {name: own[name] for name in own if name != "engine"}),
        )
    except InputError as error:
        raise InputError(str(error), source) from error


def _read_toml(config: str | Path, extended_by: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """Read a configuration with those it extends; return its tables and its name for messages."""
    if str(config) in CONFIGS:
        path, source = _FOLDER / f"{config}.toml", f"{config}.toml"
    else:
        path, source = Path(config).resolve(), str(config)
    if str(path) in extended_by:
        raise InputError(
            "expected extends to name another configuration, but this one extends itself", source
        )
    tables = _load(path, source)
    extended = tables.pop("extends", None)
    if extended is None:
        return tables, source
    if not isinstance(extended, str):
        raise InputError(
            f"expected extends to name a configuration or a TOML file, found {extended!r}", source
        )
    parent = extended if extended in CONFIGS else Path(config).parent / extended
    return _merge(_read_toml(parent, (*extended_by, str(path)))[0], tables), source


def _load(path: Traversable, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"no such configuration; expected one of {', '.join(CONFIGS)}, or a TOML file", source
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"not a readable TOML file ({error})", source) from error


def _merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Override single values of nested tables."""
    return base | {
        name: _merge(base[name], value)
        if isinstance(value, dict) and isinstance(base.get(name), dict)
        else value
        for name, value in overrides.items()
    }


def _table(tables: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"expected {name} to be a table, found {found!r}", source)
    return found


def _parse(kind: type[Config], values: Mapping[str, Any]) -> Config:
    default = kind()
    fields = {field.name: getattr(default, field.name) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    _check_names(values, fields, "setting")
    return kind(**{name: _converted(name, value, fields[name]) for name, value in values.items()})


def _converted(name: str, value: Any, default: Any) -> Any:
    """Convert a value to its default's type: TOML has arrays for tuples, and 1 may mean 1.0."""
    if dataclasses.is_dataclass(default) and isinstance(value, dict):
        return _parse(type(default), value)
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_converted(name, each, default[0]) if default else each for each in value)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not type(default):
        raise InputError(
            f"expected {name} to be of type {type(default).__name__}, e.g. {default!r}, found "
            f"{value!r}"
        )
    return value


def _check_names(
    found: Iterable[str], known: Iterable[str], what: str, source: str | None = None
) -> None:
    unknown = [name for name in found if name not in known]
    renamed = [
        f"{name} is now called {RENAMED[name]}, rename it" for name in unknown if name in RENAMED
    ]
    if renamed:
        raise InputError("; ".join(renamed), source)
    if unknown:
        raise InputError(
            f"unknown {what} {', '.join(unknown)}; expected {', '.join(known)}", source
        )
