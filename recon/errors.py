"""Errors that a user can cause or meet; the command line maps each to an exit code.

    FourdvdError
    ├── InputError            an input or a setting is not valid            (exit 3)
    │   ├── GridError         a grid folder, its JSON, cameras or images
    │   └── SceneError        a scene folder, its JSON or tensors
    ├── OutputError           the output location cannot be used            (exit 1)
    │   └── OutputExistsError the output exists and may not be overwritten
    ├── WeightsError          weights are missing, corrupt or mismatched    (exit 4)
    ├── BackendError          a device, rasterizer or package is missing    (exit 5)
    ├── VerificationError     exported files do not show the scene          (exit 1)
    ├── DivergedError         an optimization produced NaN or infinities    (exit 1)
    ├── OutOfMemoryError      the accelerator is out of memory              (exit 6)
    └── Interrupted           stopped on request, the state is saved        (exit 130)

A message states what was expected, what was found and what to do. Plain `OSError` (disk full, no
permission) is not wrapped: the system's message is the fact.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self


class FourdvdError(Exception):
    """Base class of all errors of this project.

    Attributes:
        exit_code: exit code of a program that this error ends.
        hint: what to try next, if the message does not say it.
    """

    exit_code: ClassVar[int] = 1
    hint: str | None = None


class InputError(FourdvdError):
    """An input file or a setting is not valid.

    Args:
        message: what was expected and what was found.
        path: the file or folder at fault, if there is one; the message starts with it.
        argument: the Python argument at fault, if it is known; the message starts with it, and on
            the command line with the option of that name.
    """

    exit_code = 3

    def __init__(
        self, message: str, path: str | Path | None = None, *, argument: str | None = None
    ):
        self.path = None if path is None else Path(path)
        self.argument = argument
        source = argument if path is None else path
        super().__init__(message if source is None else f"{source}: {message}")

    @classmethod
    def missing(cls, path: str | Path) -> Self:
        """Return the error for a file or folder that does not exist."""
        return cls("no such file or folder", path)


class GridError(InputError):
    """A grid folder, one of its JSON files, cameras or images is not valid."""


class SceneError(InputError):
    """A scene folder, its JSON or its tensors are not valid."""


class OutputError(FourdvdError):
    """The results cannot be written to the requested location."""


class OutputExistsError(OutputError):
    """The output exists, and overwriting was not requested.

    Args:
        path: the existing file or folder.
        hint: what to do; appended to the message.
        state: what is there, as the rest of a sentence that begins with the path, such as "contains
            an unfinished fit"; None: that it exists.
    """

    def __init__(
        self,
        path: str | Path,
        hint: str = "choose another folder or pass --overwrite",
        *,
        state: str | None = None,
    ):
        self.path = Path(path)
        exists = "exists" if self.path.is_file() else "exists and is not empty"
        super().__init__(f"{path} {state or exists}; {hint}")


class WeightsError(FourdvdError):
    """Network weights are missing, corrupt or belong to another model.

    Args:
        message: what was expected and what was found.
        hint: command that provides the weights.
    """

    exit_code = 4

    def __init__(self, message: str, hint: str | None = None):
        self.hint = hint
        super().__init__(message)


class BackendError(FourdvdError):
    """A requested device, rasterizer or package is not available on this machine.

    Args:
        message: what is missing.
        hint: command that installs it.
    """

    exit_code = 5

    def __init__(self, message: str, hint: str | None = None):
        self.hint = hint
        super().__init__(message)


class OutOfMemoryError(FourdvdError):
    """The accelerator is out of memory.

    Args:
        message: what was being computed.
        hint: option that needs less memory.
    """

    exit_code = 6

    def __init__(self, message: str, hint: str | None = None):
        self.hint = hint
        super().__init__(message)


class VerificationError(FourdvdError):
    """An exported file is missing or changed, or its rendering differs from the scene."""


class DivergedError(FourdvdError):
    """An optimization produced NaN or infinities; the last saved state is kept."""


class Interrupted(FourdvdError):
    """The computation was stopped on request; its state was saved if it writes to a folder."""

    exit_code = 130
