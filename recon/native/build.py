"""Compile the CPU kernels into one shared library with a C interface.

Run by `pip install` through `hatch_build.py`, or by hand with `python -m recon.native.build`. Any
C++17 compiler with GNU vector extensions works: clang or gcc, or the clang in the package
`ziglang`. The kernels are compiled once per instruction set; the best one that the processor
supports is selected when the library is loaded. Only the standard library is imported, because this
runs before the installation.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "src"
SUFFIX = {"Darwin": ".dylib", "Windows": ".dll"}.get(platform.system(), ".so")
LIBRARY = Path(__file__).resolve().parent / f"fourdvd_kernels{SUFFIX}"
KERNELS = (
    "activations.cpp",
    "rasterize.cpp",
    "image_loss.cpp",
    "bone_motions.cpp",
    "bone_blending.cpp",
    "adam.cpp",
    "mesh_render.cpp",
)  # compiled once per instruction set
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-ffp-contract=fast",
    "-fPIC",
    "-DNDEBUG",
    "-Wno-psabi",
)
VARIANTS = {  # compiler flags by instruction set, for each architecture
    "x86_64": {"generic": (), "avx2": ("-march=x86-64-v3",), "avx512": ("-march=x86-64-v4",)},
    "other": {"generic": ()},
}


class BuildError(Exception):
    """No compiler was found, or it failed; the message contains its output."""


def variants() -> dict[str, tuple[str, ...]]:
    """Return the compiler flags of each instruction set of this machine's architecture, by name."""
    machine = platform.machine().lower()
    return VARIANTS["x86_64" if machine in ("x86_64", "amd64") else "other"]


def find_compiler() -> list[str] | None:
    """Find the command of a C++ compiler: `CXX`, clang, gcc or the package `ziglang`.

    Returns:
        The command and its first arguments; None if there is no compiler.
    """
    if os.environ.get("CXX"):
        return os.environ["CXX"].split()
    for name in ("clang++", "g++", "c++"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    return None


def build(library: Path = LIBRARY) -> Path:
    """Compile the library; an existing one is only replaced on success.

    Raises:
        BuildError: There is no compiler, or it failed.
    """
    compiler = find_compiler()
    if compiler is None:
        raise BuildError("no C++ compiler found: install clang or gcc, or `pip install ziglang`")
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
        jobs = [("parallel", "parallel.cpp", ()), ("dispatch", "dispatch.cpp", ())]
        for name, flags in variants().items():
            jobs += [
                (
                    f"{Path(source).stem}_{name}",
                    source,
                    (*_flags(compiler, flags), f"-DVARIANT={name}"),
                )
                for source in KERNELS
            ]
        with ThreadPoolExecutor() as pool:
            objects = list(pool.map(lambda job: _compile(compiler, Path(folder), *job), jobs))
        linked = Path(folder) / library.name
        static = (
            ["-static-libstdc++"] if compiler == ["g++"] and platform.system() == "Linux" else []
        )
        _run(
            [*compiler, "-shared", "-s", "-pthread", *static, *map(str, objects), "-o", str(linked)]
        )
        linked.replace(library)
    return library


def _flags(compiler: list[str], flags: tuple[str, ...]) -> tuple[str, ...]:
    if "ziglang" not in compiler:
        return flags
    return tuple(flag.replace("x86-64-", "x86_64_") for flag in flags)


def _compile(
    compiler: list[str], folder: Path, name: str, source: str, flags: tuple[str, ...]
) -> Path:
    target = folder / f"{name}.o"
    _run([*compiler, *FLAGS, *flags, "-c", str(SOURCES / source), "-o", str(target)])
    return target


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(
            f"the compiler {command[0]} cannot be run: {error}; check `CXX`"
        ) from error
    if result.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{result.stderr}")


if __name__ == "__main__":
    try:
        sys.stderr.write(f"built {build()}\n")
    except BuildError as failure:
        sys.exit(str(failure))
