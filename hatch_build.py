"""Build hook: compile the CPU kernels when the package is installed or built as a wheel.

Without a compiler the package is installed without kernels: the reference rasterizer in PyTorch is
used instead, and `fourdvd doctor` reports it.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CLANG = "ziglang>=0.13"  # clang in a wheel, only installed if the system has no compiler


class KernelBuildHook(BuildHookInterface):
    """Add the compiled library to the package."""

    def dependencies(self) -> list[str]:
        """Return the build requirements: a compiler, if the system has none."""
        return [] if _builder(self.root).find_compiler() else [CLANG]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library into the source tree, where editable installs find it."""
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
    """Import `recon.native.build` from its file, as the package is not installed yet."""
    path = Path(root) / "recon" / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("fourdvd_native_build", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
