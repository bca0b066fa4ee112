"""Finds and loads the compiled kernels, and calls their functions by name.

The library holds each kernel once for each instruction set; the best that this processor runs is
taken, or the one that `FOURDVD_ISA` names (generic, avx2, avx512), so that all can be tested on
one machine.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable

from recon.errors import BackendError
from recon.native.build import LIBRARY, variants


class Kernels:
    """The loaded library.

    Attributes:
        variant: name of the instruction set in use.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(LIBRARY))
        best = self._library.fourdvd_best_variant
        best.restype = ctypes.c_char_p
        self.variant = os.environ.get("FOURDVD_ISA") or best().decode()
        if self.variant not in variants():
            raise BackendError(
                f"FOURDVD_ISA is {self.variant!r}; expected one of {sorted(variants())}"
            )
        if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
            os.register_at_fork(after_in_child=self._library.fourdvd_after_fork_in_child)

    def function(self, name: str, result=None) -> Callable:
        """A kernel compiled for the instruction set in use; `result` is its ctypes type."""
        function = getattr(self._library, f"fourdvd_{self.variant}_{name}")
        function.restype = result
        return function

    def set_threads(self, threads: int) -> None:
        """Number of threads of all kernels from now on; 0 means one for each processor."""
        self._library.fourdvd_set_threads(ctypes.c_int(threads))


def built() -> bool:
    """Whether the library was compiled when the package was installed."""
    return LIBRARY.exists()


@functools.cache
def kernels() -> Kernels:
    """The library, loaded once.

    Raises:
        BackendError: it was not built or cannot be loaded on this machine.
    """
    if not built():
        raise BackendError(
            "the CPU kernels were not compiled when fourdvd was installed; install a C++ compiler "
            "(or `pip install ziglang`) and run `python -m recon.native.build`"
        )
    try:
        return Kernels()
    except OSError as error:
        raise BackendError(
            f"the CPU kernels cannot be loaded ({error}); run `python -m recon.native.build`"
        ) from error
