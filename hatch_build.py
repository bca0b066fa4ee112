"""Compiles the CPU kernels while the package is installed or packed into a wheel.

An install where no compiler is to be had goes on without them: the plain PyTorch rasterizer is used
instead, and `fourdvd doctor` says so.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CLANG = "ziglang>=0.13"  # a whole clang in a wheel; fetched only where the system has no compiler


class KernelBuildHook(BuildHookInterface):
    """Adds the compiled library to the package."""

    def dependencies(self) -> list[str]:
        """What pip must fetch before the build: a compiler, if the system has none."""
        return [] if _builder(self.root).find_compiler() else [CLANG]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the library into the source tree, where editable installs find it."""
        builder = _builder(self.root)
        try:
            library = builder.build()
        except builder.BuildError as error:
            self.app.display_warning(f"the CPU kernels were not compiled: {error}")
            return
        build_data["artifacts"].append(str(library.relative_to(self.root)))
        build_data["pure_python"] = False
        build_data["tag"] = (
            f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        )


def _builder(root: str) -> ModuleType:
    """The module `recon.native.build`, from its file: the package is not installed yet."""
    path = Path(root) / "recon" / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("fourdvd_native_build", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
