"""Grids written as D-NeRF data sets are read back, and what the format cannot state is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recon.errors import GridError, OutputExistsError
from recon.grid import Grid, Splits, read_grid, read_splits
from recon.grid.dnerf import write_dnerf


def test_a_data_set_reads_back_as_the_grid(tiny_grid: Grid, tmp_path: Path, caplog):
    test = tiny_grid.subset(tiny_grid.of_view(2))
    write_dnerf(Splits(tiny_grid, test), tmp_path / "dnerf")
    assert not caplog.records
    train, held_out = read_splits(tmp_path / "dnerf", up="z")
    assert held_out is not None
    assert (len(held_out), len(read_grid(tmp_path / "dnerf", "val", up="z"))) == (3, 3)
    np.testing.assert_allclose(train.times, tiny_grid.times)
    for index in range(len(tiny_grid)):
        ours = tiny_grid.camera_of(index)
        same = [
            other
            for other in range(len(train))
            if np.allclose(train.camera_of(other).T_world_camera, ours.T_world_camera)
            and np.isclose(train.time_of(other), tiny_grid.time_of(index))
        ]
        assert len(same) == 1
        camera = train.camera_of(same[0])
        np.testing.assert_allclose(camera.K, ours.K)
        np.testing.assert_array_equal(train.images[same[0]], tiny_grid.images[index])


def test_paths_have_no_suffix_and_their_files_exist(tiny_grid: Grid, tmp_path: Path):
    write_dnerf(Splits(tiny_grid, None), tmp_path / "dnerf")
    for split in ("train", "val", "test"):
        values = json.loads((tmp_path / "dnerf" / f"transforms_{split}.json").read_text())
        paths = [frame["file_path"] for frame in values["frames"]]
        assert len(paths) == len(tiny_grid)
        assert all((tmp_path / "dnerf" / f"{path}.png").is_file() for path in paths)


@pytest.mark.parametrize(
    ("change", "found"), [({"fl_x": 50.0}, "50.0"), ({"fl_y": 9.0}, "9.0"), ({"cx": 3.0}, "3.0")]
)
def test_cameras_that_the_format_cannot_state_are_refused(change, found, tiny_grid, tmp_path):
    cameras = (*tiny_grid.cameras[:-1], replace(tiny_grid.cameras[-1], **change))
    with pytest.raises(GridError, match=found):
        write_dnerf(Splits(replace(tiny_grid, cameras=cameras), None), tmp_path / "dnerf")
    assert not (tmp_path / "dnerf").exists()


def test_an_existing_folder_is_kept(tiny_grid: Grid, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputExistsError):
        write_dnerf(Splits(tiny_grid, None), tmp_path)
