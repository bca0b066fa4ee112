"""Load the compiled kernels and look up their functions by name.

The library contains each kernel once per instruction set. The best one that the processor supports
is used, unless `FOURDVD_ISA` names another (generic, avx2 or avx512).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable

from recon.devices import usable_threads
from recon.errors import BackendError
from recon.native.build import LIBRARY, variants

INTERFACE = 6  # counts changes of the kernels' structures and arguments


class Kernels:
    """The loaded library.

    Attributes:
        variant: name of the selected instruction set.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(LIBRARY))
        interface = getattr(self._library, "fourdvd_interface", None)
        if interface is None or interface() != INTERFACE:
            raise BackendError(
                "the CPU kernels were compiled from another version of fourdvd; run "
                "`python -m recon.native.build`"
            )
        best = self._library.fourdvd_best_variant
        best.restype = ctypes.c_char_p
        self.variant = os.environ.get("FOURDVD_ISA") or best().decode()
        if self.variant not in variants():
            raise BackendError(
                f"expected FOURDVD_ISA to be one of {sorted(variants())}, found {self.variant!r}"
            )
        if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
            os.register_at_fork(after_in_child=self._library.fourdvd_after_fork_in_child)
        self.set_threads(0)

    def function(self, name: str, result=None) -> Callable:
        """Return a kernel for the selected instruction set; `result` is its ctypes return type."""
        function = getattr(self._library, f"fourdvd_{self.variant}_{name}")
        function.restype = result
        return function

    def set_threads(self, threads: int) -> None:
        """Set the number of threads of all kernels; 0: see `recon.devices.usable_threads`."""
        self._library.fourdvd_set_threads(ctypes.c_int(threads or usable_threads()))


def built() -> bool:
    """Return whether the library was compiled."""
    return kernels.cache_info().currsize > 0 or LIBRARY.exists()


@functools.cache
def kernels() -> Kernels:
    """Load the library, once per process.

    Raises:
        BackendError: The library was not built or cannot be loaded on this machine.
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
