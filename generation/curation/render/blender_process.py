"""The Blender process, which handles one asset under a time limit.

Blender is the Python module `bpy` of this environment, or the program in FOURDVD_BLENDER, which has
its own Python. The process stays in its parent's process group, so that both are killed together.
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
_ROOT = Path(__file__).resolve().parents[3]
_LOG_CHARACTERS = 400


class BlenderFailure(FourdvdError):
    """Blender crashed or exceeded its time limit."""


def find_blender() -> str:
    """Return the path of the program in FOURDVD_BLENDER, or "bpy" for the Python module.

    Raises:
        BackendError: neither exists.
    """
    program = os.environ.get(PROGRAM)
    if program:
        found = shutil.which(program)
        if found is None:
            raise BackendError(
                f"expected {PROGRAM} to be a Blender program, found {program!r}; set it to the "
                "path of an installed one"
            )
        return found
    if importlib.util.find_spec("bpy") is None:
        raise BackendError(
            "Blender is missing: `pip install 'fourdvd[data]'` installs it as a module for Python "
            f"3.11, or set {PROGRAM} to an installed program"
        )
    return MODULE


def run_blender(request: Request, timeout_s: float) -> Result:
    """Process an asset in Blender, which writes the output files that the request names.

    Args:
        request: the asset and the requested outputs.
        timeout_s: time limit in seconds.

    Raises:
        AssetError: the asset was rejected.
        BlenderFailure: Blender crashed or exceeded the time limit.
        BackendError: Blender or the requested device is missing.
    """
    with tempfile.TemporaryDirectory(prefix="fourdvd-blender-") as folder:
        request_path, result_path = Path(folder) / "request.json", Path(folder) / "result.json"
        log = Path(folder) / "log.txt"
        blender_request.write(request_path, request)
        code = _run(_command(request_path, result_path), log, timeout_s)
        if code is None:
            raise BlenderFailure(f"Blender was killed at the time limit of {timeout_s:g} s")
        if not result_path.exists():
            raise BlenderFailure(f"Blender exited with code {code}: {_last_line(log)}")
        result = blender_request.read_result(result_path)
    if result.reason == "no_device":
        raise BackendError(result.message)
    if result.reason:
        raise AssetError(Reason(result.reason), result.message, request.asset)
    return result


def _command(request_path: Path, result_path: Path) -> list[str]:
    worker = "generation.curation.blender.worker"
    blender = find_blender()
    if blender == MODULE:
        return [sys.executable, "-m", worker, str(request_path), str(result_path)]
    code = (
        f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from {worker} import main; "
        f"main({str(request_path)!r}, {str(result_path)!r})"
    )
    return [blender, "--background", "--factory-startup", "--python-expr", code]


def _run(command: list[str], log: Path, timeout_s: float) -> int | None:
    """Run a command; return its exit code, or None if it exceeded the time limit."""
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


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    written = [line.strip() for line in lines if line.strip()]
    return written[-1][-_LOG_CHARACTERS:] if written else "no output"
