"""What nerfstudio's entry points load; never an exception, which would end every `ns-train`.

With another release of nerfstudio than `VERSION`, the method is listed with the reason why it
cannot run, and running it ends with that sentence. `python -m recon.nerfstudio` asks the same.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

from recon.errors import BackendError
from recon.nerfstudio.failures import sentences

VERSION = "1.1.5"
INSTALL = "pip install 'fourdvd[nerfstudio]'"


def check_nerfstudio() -> None:
    """Check that the supported release of nerfstudio is installed.

    Raises:
        BackendError: it is not.
    """
    try:
        found = importlib.metadata.version("nerfstudio")
    except importlib.metadata.PackageNotFoundError as error:
        message = f"the method fourdvd needs nerfstudio {VERSION}, found none; run {INSTALL}"
        raise BackendError(message) from error
    if found.partition("+")[0] != VERSION:
        raise BackendError(
            f"the method fourdvd needs nerfstudio {VERSION}, found {found}; run {INSTALL}"
        )


class Refusal:
    """What a method or dataparser that cannot run here is set up as.

    Args:
        config: nerfstudio's configuration; unused.
        settings: whatever nerfstudio passes; unused.
    """

    def __init__(self, config: Any, **settings: Any):
        with sentences():
            check_nerfstudio()


def __getattr__(name: str) -> Any:  # built on access, because nerfstudio is imported for it
    if name == "method":
        return _method()
    if name == "dataparser":
        return _dataparser()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _method() -> Any:
    """Return nerfstudio's specification of the method `fourdvd`."""
    try:
        check_nerfstudio()
    except BackendError as error:
        if importlib.util.find_spec("nerfstudio") is None:
            raise
        from nerfstudio.engine.trainer import TrainerConfig
        from nerfstudio.plugins.types import MethodSpecification

        config = TrainerConfig(_target=Refusal, method_name="fourdvd")
        return MethodSpecification(config, str(error))
    from recon.nerfstudio.method import specification

    return specification


def _dataparser() -> Any:
    """Return nerfstudio's specification of the dataparser `fourdvd-grid`."""
    try:
        check_nerfstudio()
    except BackendError as error:
        return str(error)  # nerfstudio prints it as a warning and goes on
    from recon.nerfstudio.dataparser import specification

    return specification
