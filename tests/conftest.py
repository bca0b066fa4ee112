"""Fixtures that several packages use: a tiny grid, and the reference data where it is there."""

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # several workers: more threads than cores slow all down
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from recon.grid import Grid, grid_from_views, orbit_camera
from recon.grid.writing import write_posed_images

SHARED = Path(os.environ.get("FOURDVD_SHARED", Path(__file__).parents[2] / "shared"))


def make_tiny_grid(V: int = 4, T: int = 3, height: int = 24, width: int = 24) -> Grid:
    """A colored disc with soft edges that moves and changes with the view; alpha 0 around it."""
    cameras = [orbit_camera(360 * v / V, 10.0, 3.2, 33.8, height, width) for v in range(V)]
    rows, columns = np.mgrid[:height, :width] + 0.5
    images = np.zeros((V, T, height, width, 4), np.uint8)
    for v, t in np.ndindex(V, T):
        center = width / 2 + 4 * np.sin(2 * np.pi * v / V) * (t / max(T - 1, 1) - 0.5)
        radius = np.hypot(rows - height / 2, columns - center)
        alpha = np.clip(min(height, width) / 4 + 0.5 - radius, 0, 1)
        images[v, t, ..., 3] = np.rint(255 * alpha)
        images[v, t, ..., :3] = np.where(alpha[..., None] > 0, [40 * v + 30, 60 * t + 20, 180], 255)
    return grid_from_views(cameras, images, fps=5.0)


@pytest.fixture
def tiny_grid() -> Grid:
    """4 views × 3 frames of 24 × 24 pixels."""
    return make_tiny_grid()


@pytest.fixture
def tiny_grid_folder(tmp_path: Path, tiny_grid: Grid) -> Path:
    """The same on disk, without the videos."""
    folder = tmp_path / "tiny_grid"
    folder.mkdir()
    write_posed_images(tiny_grid, folder)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the reference data; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no reference data in {SHARED} (set FOURDVD_SHARED)")
    return SHARED


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing may be created, also where the tests run as root."""
    folder = tmp_path / "unwritable"
    folder.mkdir()
    folder.chmod(0o555)
    with _without_override():
        yield folder


@contextlib.contextmanager
def _without_override() -> Iterator[None]:
    """Drop the right of root to ignore the permissions of files: Linux's capabilities 0 to 2."""
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("root may write everywhere")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits
    assert libc.capget(header, sets) == 0
    before, sets[0] = sets[0], sets[0] & ~0b111
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Let files of this process grow to so many bytes, as on a disk that fills."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
