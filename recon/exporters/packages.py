"""Packages that some formats need, which the extra `[formats]` has.

Most are modules; `splats4d` is a program beside the interpreter or on the PATH.
"""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig

from recon.errors import BackendError

MODULES = {
    "spz": "gaussforge", "sog": "gaussforge", "compressed-ply": "gaussforge",
    "usd": "pxr",  # of usd-core
    "4dgs": "fourdgs",
}  # fmt: skip
PROGRAMS = {"splat4d": "splat4d"}  # of splats4d
INSTALL = "pip install 'fourdvd[formats]'"


def check_package(format: str) -> None:
    """Check that what a format needs is installed.

    Raises:
        BackendError: It is missing.
    """
    module, program = MODULES.get(format), PROGRAMS.get(format)
    if module and importlib.util.find_spec(module) is None:
        raise BackendError(f"the format {format} needs the package {module}", hint=INSTALL)
    if program and find_program(program) is None:
        raise BackendError(f"the format {format} needs the program {program}", hint=INSTALL)


def find_program(name: str) -> str | None:
    """Return the path of a program, of this interpreter's environment first."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
