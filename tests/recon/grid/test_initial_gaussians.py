import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from recon.errors import GridError
from recon.grid import read_grid, write_grid
from recon.grid.initial_gaussians import FILE, InitialGaussians


def some_gaussians(frame: int = 1, count: int = 7) -> InitialGaussians:
    rng = np.random.default_rng(0)
    shapes = ((3,), (4,), (3,), (), (1, 3))
    return InitialGaussians(
        frame, *(rng.normal(size=(count, *shape)).astype(np.float32) for shape in shapes)
    )


def test_gaussians_come_back_with_the_grid(tiny_grid, tmp_path):
    start = some_gaussians()
    write_grid(replace(tiny_grid, initial_gaussians=start), tmp_path / "grid")
    found = read_grid(tmp_path / "grid").initial_gaussians
    assert found is not None and found.frame == 1
    for name, array in start.arrays.items():
        assert np.array_equal(found.arrays[name], array)


def test_a_grid_without_gaussians_has_none(tiny_grid, tmp_path):
    write_grid(tiny_grid, tmp_path / "grid")
    assert read_grid(tmp_path / "grid").initial_gaussians is None
    assert "initial_gaussians" not in (tmp_path / "grid" / "transforms.json").read_text()


def test_a_frame_that_the_grid_lacks_is_refused(tiny_grid):
    with pytest.raises(GridError, match="9"):
        replace(tiny_grid, initial_gaussians=some_gaussians(frame=9))


@pytest.mark.parametrize("fault", ["missing", "empty", "names", "shapes", "nan", "dtype"])
def test_damaged_files_are_refused(tiny_grid, tmp_path, fault):
    start = some_gaussians()
    write_grid(replace(tiny_grid, initial_gaussians=start), tmp_path / "grid")
    path, arrays = tmp_path / "grid" / FILE, start.arrays
    path.unlink()
    if fault == "empty":
        path.touch()
    elif fault != "missing":
        arrays |= {
            "names": {"more": np.zeros(3, np.float32)},
            "shapes": {"quats": np.zeros((7, 3), np.float32)},
            "nan": {"means": np.full((7, 3), np.nan, np.float32)},
            "dtype": {"means": np.zeros((7, 3))},
        }[fault]
        save_file(arrays, path)
    with pytest.raises(GridError, match="initial_gaussians"):
        read_grid(tmp_path / "grid")


@pytest.mark.parametrize("entry", ["x", {}, {"file_path": "../x"}, {"file_path": 1}])
def test_entries_that_are_not_valid_are_refused(tiny_grid, tmp_path, entry):
    write_grid(tiny_grid, tmp_path / "grid")
    path = tmp_path / "grid" / "transforms.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"initial_gaussians": entry}))
    with pytest.raises(GridError):
        read_grid(tmp_path / "grid")
