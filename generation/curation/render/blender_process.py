"""Starts Blender for one asset and waits for it, but not for ever.

Blender is the Python module `bpy` of this environment, or the program that FOURDVD_BLENDER names,
which has a Python of its own. It stays in the process group of its parent, so that it ends with it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from generation.curation.assets.limits import AssetError, Reason
from generation.curation.blender import request as blender_request
from generation.curation.blender.request import Request, Result
from recon.errors import BackendError, FourdvdError

PROGRAM = "FOURDVD_BLENDER"
MODULE = "bpy"
_ROOT = Path(__file__).resolve().parents[2]
_LOG_CHARACTERS = 400


class BlenderFailure(FourdvdError):
    """Blender crashed, or took longer than it may."""


def find_blender() -> str:
    """The program that FOURDVD_BLENDER names, or "bpy" for the module of this environment.

    Raises:
        BackendError: there is neither.
    """
    program = os.environ.get(PROGRAM)
    if program:
        found = shutil.which(program)
        if found is None:
            raise BackendError(f"{PROGRAM} is {program!r}, which is not a program")
        return found
    if importlib.util.find_spec("bpy") is None:
        raise BackendError(
            "Blender is missing: `pip install 'fourdvd[data]'` brings it as a Python module for "
            f"Python 3.11, or name an installed program in {PROGRAM}"
        )
    return MODULE


def run_blender(request: Request, timeout_s: float) -> Result:
    """What Blender made of an asset; the files it asked for are where the request says.

    Args:
        request: the asset and what to make of it.
        timeout_s: seconds after which Blender is ended.

    Raises:
        AssetError: Blender refused the asset.
        BlenderFailure: it crashed or took too long.
        BackendError: there is no Blender, or not the device that was asked for.
    """
    with tempfile.TemporaryDirectory(prefix="fourdvd-blender-") as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "result.json"
        log = Path(folder) / "log.txt"
        blender_request.write(asked, request)
        code = _run(_command(asked, answered), log, timeout_s)
        if code is None:
            raise BlenderFailure(f"Blender was ended because it took longer than {timeout_s:g} s")
        if not answered.exists():
            raise BlenderFailure(f"Blender ended with code {code}: {_last_words(log)}")
        result = blender_request.read_result(answered)
    if result.reason == "no_device":
        raise BackendError(result.message)
    if result.reason:
        raise AssetError(Reason(result.reason), result.message, request.asset)
    return result


def _command(asked: Path, answered: Path) -> list[str]:
    worker = "generation.curation.blender.worker"
    blender = find_blender()
    if blender == MODULE:
        return [sys.executable, "-m", worker, str(asked), str(answered)]
    code = (
        f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from {worker} import main; "
        f"main({str(asked)!r}, {str(answered)!r})"
    )
    return [blender, "--background", "--factory-startup", "--python-expr", code]


def _run(command: list[str], log: Path, timeout_s: float) -> int | None:
    """The exit code, or None where the time was up."""
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        ) as process,
    ):
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:  # on an interrupt too
            process.kill()


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1][-_LOG_CHARACTERS:] if spoken else "it said nothing"
