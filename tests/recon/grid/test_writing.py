"""A written grid folder holds what its format lists, and is complete or absent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recon.errors import OutputExistsError
from recon.grid import grid_from_views, orbit_camera, read_grid, write_grid
from recon.grid.writing import GAP_PX, contact_sheet, write_posed_images
from recon.media import read_video


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    cameras = [orbit_camera(180 * v, 10, 3.2, 33.8, 20, 30) for v in range(2)]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 2, 20, 30, 4), dtype=np.uint8)
    images[..., :5, 3] = 0
    grid = grid_from_views(cameras, images, fps=7.0)
    folder = tmp_path_factory.mktemp("grids") / "written"
    write_grid(grid, folder)
    return grid, folder


def test_the_folder_contains_the_documented_files(written):
    _, folder = written
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "contact_sheet.png",
        *(f"images/v{v:02d}/t{t:03d}.png" for v in range(2) for t in range(2)),
        "transforms.json",
        *(f"videos/view_{v:02d}.mp4" for v in range(2)),
    ]


def test_the_json_has_the_keys_of_the_format(written):
    grid, folder = written
    values = json.loads((folder / "transforms.json").read_text())
    camera = grid.cameras[0]
    assert values["camera_model"] == "PINHOLE"
    assert (values["w"], values["h"], values["cx"], values["cy"]) == (30, 20, 15, 10)
    assert values["fl_x"] == values["fl_y"] == camera.fl_x
    assert np.degrees(values["camera_angle_x"]) == pytest.approx(33.8)
    assert values["fps"] == 7
    assert [(f["view"], f["frame"], f["time"]) for f in values["frames"]] == [
        (0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 1),
    ]  # fmt: skip
    last = values["frames"][-1]
    assert last["file_path"] == "images/v01/t001.png"
    assert (last["azimuth_deg"], last["elevation_deg"]) == (180, 10)
    assert last["transform_matrix"] == grid.cameras[1].T_world_camera.tolist()


def test_reading_and_writing_again_changes_no_pixel(written, tmp_path):
    _, folder = written
    grid = read_grid(folder)
    write_posed_images(grid, tmp_path)
    np.testing.assert_array_equal(read_grid(tmp_path).images, grid.images)


def test_a_reader_that_drops_alpha_sees_white(written):
    _, folder = written
    with Image.open(folder / "images/v00/t000.png") as image:
        assert image.mode == "RGBA"
        rgb = np.asarray(image.convert("RGB"))
    assert (rgb[:, :5] == 255).all()


def test_the_videos_play_the_views(written):
    _, folder = written
    video = read_video(folder / "videos/view_01.mp4")
    assert video.frames.shape == (2, 20, 30, 3)
    assert video.fps == 7


def test_views_of_one_frame_have_no_video(tmp_path, tiny_grid):
    still = grid_from_views(tiny_grid.cameras, tiny_grid.images[::3, None])
    write_grid(still, tmp_path / "still")
    assert not (tmp_path / "still" / "videos").exists()
    assert read_grid(tmp_path / "still").T == 1


def test_unordered_images_are_written_view_major(tmp_path, tiny_grid):
    order = np.random.default_rng(0).permutation(len(tiny_grid))
    write_posed_images(tiny_grid.subset(order), tmp_path)
    np.testing.assert_array_equal(read_grid(tmp_path).over(), tiny_grid.over())


def test_an_existing_grid_is_kept_without_overwrite(written):
    grid, folder = written
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_grid(grid, folder)
    assert read_grid(folder).V == 2


@pytest.mark.parametrize("stage", ["write_png", "write_video", "write_json"])
def test_a_full_disk_leaves_nothing(tmp_path, tiny_grid, monkeypatch, stage):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"recon.grid.writing.{stage}", full)
    with pytest.raises(OSError, match="No space"):
        write_grid(tiny_grid, tmp_path / "grid")
    assert list(tmp_path.iterdir()) == []


WRITE = """
import resource, signal, sys
import numpy as np
from recon.grid import grid_from_views, orbit_camera, write_grid
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
images = np.random.default_rng(0).integers(0, 256, (1, 1, 64, 64, 4), dtype=np.uint8)
try:
    write_grid(grid_from_views([orbit_camera(0, 0, 2, 30, 64, 64)], images), sys.argv[1])
except OSError as error:
    sys.exit(77)
"""


def test_a_file_system_that_refuses_to_write_leaves_nothing(tmp_path):
    root = Path(__file__).parents[3]
    process = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "grid")],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
    )
    assert process.returncode == 77, process.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_a_contact_sheet_shows_views_in_rows_and_frames_in_columns(tiny_grid):
    sheet = contact_sheet(tiny_grid)
    step = 24 + GAP_PX
    assert sheet.shape == (4 * step - GAP_PX, 3 * step - GAP_PX, 3)
    for view, frame in np.ndindex(4, 3):
        tile = sheet[view * step :, frame * step :][:24, :24]
        np.testing.assert_array_equal(tile, tiny_grid.over(indices=[view * 3 + frame])[0])


def test_a_contact_sheet_of_a_large_grid_shows_a_part_of_it_smaller(tiny_grid):
    sheet = contact_sheet(tiny_grid, rows=2, columns=2, tile_px=12)
    assert sheet.shape == (2 * 12 + GAP_PX, 2 * 12 + GAP_PX, 3)


def test_missing_images_of_a_sparse_grid_are_white(tiny_grid):
    sheet = contact_sheet(tiny_grid.subset(np.arange(1)))
    assert (sheet[:24, :24] != 255).any()
    assert (sheet[24:] == 255).all()
