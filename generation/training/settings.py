"""What decides how a training goes, read from TOML. Light to import: no torch.

    [engine]        of every stage          ─┐
    [STAGE.engine]  other numbers for one   ─┼─▶ EngineSettings ◀─ options of the command line
    [STAGE]         the stage's own         ───▶ a dataclass of the stage

`extends`, in front of the tables, names another configuration: this one then says only what differs
from it, table by table.

A key that no dataclass has is an error, and so is a value of another type: a misspelt learning rate
must not cost a night. What it does not know: what a stage does with its settings.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar

from recon.errors import InputError

STAGES = ("vae", "reference-views", "base", "coarse", "fine")
CONFIGS = ("mini", "mini_noisy", "mini_more", "paper")
PRECISIONS = ("float32", "bfloat16")
WEIGHTS_PRECISIONS = ("float32", "bfloat16", "float16")
ON_ERROR = ("raise", "skip")

Settings = TypeVar("Settings")

_PLACE = resources.files("generation.training") / "configs"


@dataclass(frozen=True)
class EngineSettings:
    """How the loop goes, whatever is trained.

    Attributes:
        steps: of the optimiser, in all.
        batch: samples of a step, over all processes and accumulated gradients together.
        accumulate: in how many pieces a batch goes through the network.
        learning_rate: of AdamW, after the warm-up.
        warmup: steps in which it rises from 0.
        cooldown: last steps, in which it falls to 0.
        weight_decay: of AdamW.
        betas: of AdamW.
        gradient_limit: norm at which gradients are cut.
        average_decay: of the moving average of the weights, which is what is handed out.
        precision: of the networks' arithmetic; weights are always float32 while they are trained.
        weights_precision: of the file that is handed out.
        seed: of order, choices and noise.
        held_out: how many samples at the end of the pack are never trained on, but looked at.
        device: "cpu" or "cuda".
        workers: processes that read samples, for each process that trains; 0 for none.
        on_error: what a damaged sample does: end the training, or give way to another one.
        log_every: steps between two lines of the log.
        score_every: steps between two scores of the held-out samples.
        pictures_every: steps between two pictures of them.
        checkpoint_every: steps between two checkpoints.
        checkpoint_seconds: after which there is one in any case.

    Raises:
        InputError: a name is not known or a number out of its range.
    """

    steps: int = 1000
    batch: int = 4
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: int = 100
    cooldown: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    gradient_limit: float = 1.0
    average_decay: float = 0.999
    precision: str = "float32"
    weights_precision: str = "float32"
    seed: int = 0
    held_out: int = 4
    device: str = "cpu"
    workers: int = 0
    on_error: Literal["raise", "skip"] = "skip"
    log_every: int = 10
    score_every: int = 500
    pictures_every: int = 500
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
        decays = (*self.betas, self.average_decay)
        if len(self.betas) != 2 or not all(0 <= decay < 1 for decay in decays):
            raise InputError("expected two betas and average_decay from 0 to below 1")

    @property
    def curve(self) -> dict[str, Any]:
        """What must not change when a training goes on, for the losses to be those of one run."""
        return {name: getattr(self, name) for name in _CURVE}


_POSITIVE = (
    "steps", "batch", "accumulate", "learning_rate", "gradient_limit", "held_out", "log_every",
    "score_every", "pictures_every", "checkpoint_every", "checkpoint_seconds",
)  # fmt: skip
_NOT_NEGATIVE = ("warmup", "cooldown", "weight_decay", "seed", "workers")
_CURVE = (
    "batch", "learning_rate", "warmup", "weight_decay", "betas", "gradient_limit", "average_decay",
    "precision", "seed", "held_out",
)  # fmt: skip


def read_settings(
    config: str | Path,
    stage: str,
    kind: type[Settings],
    overrides: Mapping[str, Any] | None = None,
) -> tuple[EngineSettings, Settings]:
    """The settings of one stage.

    Args:
        config: one of `CONFIGS`, or a TOML file.
        stage: one of `STAGES`.
        kind: dataclass of the stage's own settings, all of whose fields have defaults.
        overrides: fields of `EngineSettings` that count more than the file; None says nothing.

    Returns:
        Those of the loop, and those of the stage.

    Raises:
        InputError: there is no such file, it is no TOML, or something in it is not known, of
            another type or out of its range.
    """
    tables, source = _read_toml(config)
    _check_names(tables, ("engine", *STAGES), "table", source)
    own = _table(tables, stage, source)
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    engine = _table(tables, "engine", source) | _table(own, "engine", source)
    try:
        return (
            _dataclass_of(EngineSettings, engine | given),
            _dataclass_of(kind, {name: own[name] for name in own if name != "engine"}),
        )
    except InputError as error:
        raise InputError(str(error), source) from error


def _read_toml(config: str | Path, extended_by: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """A configuration's tables, over those that it extends, and its name for messages."""
    if str(config) in CONFIGS:
        path, source = _PLACE / f"{config}.toml", f"{config}.toml"
    else:
        path, source = Path(config).resolve(), str(config)
    if str(path) in extended_by:
        raise InputError("extends itself", source)
    tables = _parse(path, source)
    extended = tables.pop("extends", None)
    if extended is None:
        return tables, source
    if not isinstance(extended, str):
        raise InputError(
            f"expected extends to name a configuration or a TOML file, found {extended!r}", source
        )
    beside = extended if extended in CONFIGS else Path(config).parent / extended
    return _over(tables, _read_toml(beside, (*extended_by, str(path)))[0]), source


def _parse(path: Traversable, source: str) -> dict[str, Any]:
    """What one file says."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"no such configuration; name one of {', '.join(CONFIGS)}, or a TOML file", source
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"not a TOML file that can be read ({error})", source) from error


def _over(tables: dict[str, Any], extended: dict[str, Any]) -> dict[str, Any]:
    """What two configurations say together; the first one counts more, down to single numbers."""
    return extended | {
        name: _over(value, extended[name])
        if isinstance(value, dict) and isinstance(extended.get(name), dict)
        else value
        for name, value in tables.items()
    }


def _table(tables: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"expected {name} to be a table, found {found!r}", source)
    return found


def _dataclass_of(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    fields = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    _check_names(values, fields, "setting")
    return kind(**{name: _converted(name, value, fields[name]) for name, value in values.items()})


def _converted(name: str, value: Any, default: Any) -> Any:
    """A value as the type of its default: TOML has arrays for tuples, and 1 may stand for 1.0."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_converted(name, each, default[0]) if default else each for each in value)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not type(default):
        raise InputError(f"expected {name} to be like {default!r}, found {value!r}")
    return value


def _check_names(found: Any, known: Any, what: str, source: str | None = None) -> None:
    unknown = [name for name in found if name not in known]
    if unknown:
        raise InputError(f"unknown {what} {', '.join(unknown)}; known: {', '.join(known)}", source)
