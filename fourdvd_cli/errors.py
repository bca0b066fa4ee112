"""Exit codes and hints for the exceptions that end a command.

An exception that is not in the table is a bug and keeps its traceback.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from fourdvd_cli.options import option_of
from recon import errors

EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "wrong usage",  # typer's own
    3: "input not valid",
    4: "weights missing, corrupt or of another model",
    5: "device or backend not available",
    6: "out of GPU memory",
    130: "interrupted, with resumable work saved",
}


class Failure(NamedTuple):
    """Exit code and message of a failed command.

    Attributes:
        exit_code: exit code of the process, a key of `EXIT_CODES`.
        message: what happened, in one sentence.
        hint: what to try next; None if the message says it.
    """

    exit_code: int
    message: str
    hint: str | None = None


_DOCTOR = "`fourdvd doctor` shows what this machine supports"
_WEIGHTS = "`fourdvd models list` shows which weights are on this machine"
_SMALLER = "use --quality draft, fewer frames or smaller images"

_HINTS: dict[type[BaseException], str] = {
    errors.WeightsError: _WEIGHTS,
    errors.BackendError: _DOCTOR,
    errors.OutOfMemoryError: f"use --device cpu; or {_SMALLER}",
}


def failure_of(error: BaseException) -> Failure | None:
    """Return exit code, message and hint for an exception; None if it is not a known one."""
    if _is_out_of_gpu_memory(error):
        return Failure(6, "the GPU has too little memory", f"use --device cpu; or {_SMALLER}")
    if _is_out_of_memory(error):
        return Failure(1, "the machine has too little memory", _SMALLER)
    if isinstance(error, errors.FourdvdError):
        hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), None)
        return Failure(error.exit_code, _sentence(error), error.hint or hint)
    return Failure(1, _sentence(error)) if isinstance(error, OSError) else None


def resume_line(arguments: Sequence[str]) -> str:
    """Return the command with which a stopped one is resumed.

    Args:
        arguments: the arguments of the stopped command. What would start it again is left out:
            `--restart`, and `--overwrite` of `run` and `train`.
    """
    again = ["--restart", *(["--overwrite"] if arguments[:1] in (["run"], ["train"]) else [])]
    kept = [text for text in arguments if text not in again]
    return f"to resume: {shlex.join(['fourdvd', *kept])}"


def _is_out_of_gpu_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # not imported for this check alone
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python, NumPy or torch's CPU allocator ran out of memory."""
    of_torch = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return of_torch or isinstance(error, MemoryError)


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, errors.InputError) and error.argument is not None and error.path is None:
        return f"{option_of(error.argument)}: {str(error).removeprefix(f'{error.argument}: ')}"
    return str(error) or type(error).__name__
