"""Every error that a user can meet; the command line maps each to an exit code.

    FourdvdError
    ├── InputError            what was handed in cannot be used            (exit 3)
    │   ├── GridError         a grid folder, its JSON, cameras or images
    │   └── SceneError        a scene folder, its JSON or tensors
    ├── OutputError           the place for results cannot be used         (exit 1)
    │   └── OutputExistsError something is there already and may not be overwritten
    ├── WeightsError          weights missing, corrupt or of another model (exit 4)
    ├── BackendError          a device or rasterizer is not available      (exit 5)
    ├── DivergedError         an optimisation left the finite numbers      (exit 1)
    ├── OutOfMemoryError      the accelerator's memory is spent            (exit 6)
    └── Interrupted           a stop was asked for; the state is saved     (exit 130)

A message says what was expected, what was found and what to do. Plain `OSError` (disk full, no
permission) is left as it is: the system's own sentence is the fact.
"""

from __future__ import annotations

from pathlib import Path


class FourdvdError(Exception):
    """Base of all errors a user can meet.

    Attributes:
        hint: what to try next, where the message does not say it; None leaves it to whoever shows
            the error.
    """

    hint: str | None = None


class InputError(FourdvdError):
    """Something handed in cannot be used; carries the file at fault, if there is one."""

    def __init__(self, message: str, path: str | Path | None = None):
        self.path = None if path is None else Path(path)
        super().__init__(f"{path}: {message}" if path is not None else message)


class GridError(InputError):
    """A grid folder, one of its JSON files, cameras or images is not valid."""


class SceneError(InputError):
    """A scene folder, its JSON or its tensors are not valid."""


class OutputError(FourdvdError):
    """Results cannot be written where they were asked for."""


class OutputExistsError(OutputError):
    """The output is there already and overwriting was not asked for."""

    def __init__(self, path: str | Path, hint: str = "choose another folder or pass --overwrite"):
        self.path = Path(path)
        super().__init__(f"{path} exists and is not empty; {hint}")


class WeightsError(FourdvdError):
    """Network weights are missing, corrupt or belong to another model; a hint says what to type."""

    def __init__(self, message: str, hint: str | None = None):
        self.hint = hint
        super().__init__(message)


class BackendError(FourdvdError):
    """A device or a rasterizer that was asked for is not available on this machine."""


class OutOfMemoryError(FourdvdError):
    """The accelerator has too little memory for what was asked; a hint names the option."""

    def __init__(self, message: str, hint: str | None = None):
        self.hint = hint
        super().__init__(message)


class DivergedError(FourdvdError):
    """An optimisation left the finite numbers; the last saved state is kept."""


class Interrupted(FourdvdError):
    """A stop was asked for, and the state was saved."""
