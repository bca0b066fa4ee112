"""This process's connection to Ray: quiet, reporting to nobody, with sentences where it fails.

What Ray still prints on its own, that a machine of the cluster was lost, cannot be turned off. What
it does not know: what the connection is for.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recon.errors import BackendError

LOCAL = "local"
PROBE_SECONDS = 10.0

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # unset, Ray warns of a change to come
    "RAY_process_group_cleanup_enabled": "1",
}


def imported_ray() -> Any:
    """The package; raises BackendError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise BackendError(
            "Ray is not installed; pip install 'fourdvd[cluster]', or leave Ray out to work with "
            "processes of this machine"
        ) from error
    return ray


@contextmanager
def connection(ray: Any, address: str) -> Iterator[None]:
    """Connects this process for the length of a block, unless it is connected already.

    Args:
        ray: the package.
        address: as `RayCluster` takes it.

    Raises:
        BackendError: there is no cluster to be reached.
    """
    if ray.is_initialized():
        yield
        return
    with _environment(QUIET):
        _connect(ray, address)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        quiet["include_dashboard"] = False
    try:
        _probe(address)
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray has no common class for what goes wrong here
        raise BackendError(
            f"no connection to a Ray cluster at {address!r} ({first_line(error)}); start one with "
            '`ray start --head`, or give "local" to start Ray on this machine'
        ) from error


def _probe(address: str) -> None:
    """Raises OSError where nothing listens: Ray itself goes on trying for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets what is not set yet, for the length of a block."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def first_line(error: BaseException) -> str:
    """Type and first line of an error; Ray's go on with logs and advice."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
