import json
import shutil

import numpy as np
import pytest

from recon.grid import read_grid, write_grid
from recon.grid.cameras import viewing_angles_deg
from recon.media import write_video


def test_videos_become_a_grid_of_evenly_spaced_views(fourdvd, videos, tmp_path):
    outcome = fourdvd("grid", *videos, "-o", tmp_path / "grid", "--fov", 40, "--distance", 3)
    assert outcome.exit_code == 0
    assert outcome.stdout == ""
    grid = read_grid(tmp_path / "grid")
    assert (grid.V, grid.T) == (4, 3)
    azimuths = [viewing_angles_deg(camera)[0] for camera in grid.cameras]
    np.testing.assert_allclose(np.mod(azimuths, 360), [0, 90, 180, 270], atol=1e-6)
    assert np.linalg.norm(grid.cameras[0].position) == pytest.approx(3)
    assert grid.cameras[0].fl_x == pytest.approx(12 / np.tan(np.radians(20)))


def test_with_json_the_numbers_of_views_and_frames_are_printed(fourdvd, videos, tmp_path):
    outcome = fourdvd("grid", *videos, "-o", tmp_path / "grid", "--json")
    found = json.loads(outcome.stdout)
    assert found.pop("folder") == str(tmp_path / "grid")
    grid = read_grid(tmp_path / "grid")
    assert found == {
        "views": grid.V, "frames": grid.T, "width": grid.width, "height": grid.height,
    }  # fmt: skip


def test_azimuths_and_elevations_can_be_given(fourdvd, videos, tmp_path):
    angles = ["--azimuths", "0,30,-60,180", "--elevation", "10,20,30,-5"]
    assert fourdvd("grid", *videos, "-o", tmp_path / "grid", *angles).exit_code == 0
    found = [viewing_angles_deg(camera) for camera in read_grid(tmp_path / "grid").cameras]
    np.testing.assert_allclose(np.mod(found, 360), [[0, 10], [30, 20], [300, 30], [180, 355]])


def test_the_number_of_azimuths_must_match_the_videos(fourdvd, videos, tmp_path):
    outcome = fourdvd("grid", *videos, "-o", tmp_path / "grid", "--azimuths", "0,90")
    assert outcome.exit_code == 2
    assert "4 azimuths, found 2" in outcome.stderr
    assert not (tmp_path / "grid").exists()


def test_an_invalid_video_is_reported_on_one_line(fourdvd, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"<html>")
    outcome = fourdvd("grid", tmp_path / "x.mp4", "-o", tmp_path / "grid")
    assert outcome.exit_code == 3
    assert len(outcome.stderr.splitlines()) == 1


def test_an_existing_grid_is_not_replaced(fourdvd, videos, tiny_grid_folder):
    outcome = fourdvd("grid", *videos, "-o", tiny_grid_folder)
    assert outcome.exit_code == 1
    assert "--overwrite" in outcome.stderr
    assert read_grid(tiny_grid_folder).V == 4


def test_folders_with_cameras_and_masks_become_a_grid(
    fourdvd, tiny_grid, tiny_grid_folder, tmp_path
):
    """The grid's own views as folders, one of them shorter, with its JSON as the cameras."""
    views = sorted((tiny_grid_folder / "images").iterdir())
    (views[3] / "t002.png").unlink()
    arguments = ["grid", *views, "-o", tmp_path / "grid", "--masks", tiny_grid_folder / "images"]
    arguments += ["--cameras", tiny_grid_folder / "transforms.json"]
    refused = fourdvd(*arguments)
    assert refused.exit_code == 3 and "--shortest" in refused.stderr
    assert fourdvd(*arguments, "--shortest", "--fps", 5).exit_code == 0
    grid = read_grid(tmp_path / "grid")
    assert (grid.V, grid.T, grid.fps) == (4, 2, 5)
    np.testing.assert_allclose(grid.cameras[1].viewmat, tiny_grid.cameras[1].viewmat, atol=1e-6)
    np.testing.assert_array_equal(grid.image(1, 1)[..., 3] > 0, tiny_grid.image(1, 1)[..., 3] > 0)


def test_views_or_cameras_must_be_given_and_only_one_kind_of_cameras(fourdvd, videos, tmp_path):
    assert fourdvd("grid", "-o", tmp_path / "grid").exit_code == 2
    both = ["--cameras", tmp_path / "cameras.json", "--azimuths", "0,1,2,3"]
    refused = fourdvd("grid", *videos, "-o", tmp_path / "grid", *both)
    assert refused.exit_code == 2 and "--azimuths" in refused.stderr


def test_a_grid_is_written_as_a_d_nerf_data_set(fourdvd, tiny_grid_folder, tmp_path):
    outcome = fourdvd("grid", tiny_grid_folder, "--dnerf", "-o", tmp_path / "dnerf")
    assert outcome.exit_code == 0
    assert "warning: the grid has no held-out images" in outcome.stderr
    assert len(read_grid(tmp_path / "dnerf", "val")) == 12
    refused = fourdvd("grid", "--dnerf", "-o", tmp_path / "other")
    assert refused.exit_code == 2 and "one grid folder" in refused.stderr


def test_a_video_is_no_grid(fourdvd, videos, tmp_path):
    refused = fourdvd("grid", videos[0], "--dnerf", "-o", tmp_path / "other")
    assert refused.exit_code == 3 and "fourdvd generate" in refused.stderr


def test_a_grid_is_no_view(fourdvd, tiny_grid, tmp_path):
    write_grid(tiny_grid, tmp_path / "whole")
    refused = fourdvd("grid", tmp_path / "whole", "-o", tmp_path / "grid")
    assert refused.exit_code == 3 and "transforms.json" in refused.stderr
    assert "fourdvd reconstruct" in refused.stderr
    (tmp_path / "whole" / "transforms.json").unlink()
    shutil.move(tmp_path / "whole" / "images" / "v00", tmp_path / "whole")
    sheet = fourdvd("grid", tmp_path / "whole", "-o", tmp_path / "grid")  # beside a view's folder
    assert sheet.exit_code == 3 and f"{tmp_path / 'whole'}/*" in sheet.stderr


def test_a_folder_of_all_views_is_refused_with_what_to_give(fourdvd, tiny_grid_folder, tmp_path):
    parent = tiny_grid_folder / "images"
    outcome = fourdvd("grid", parent, "-o", tmp_path / "grid")
    assert outcome.exit_code == 3
    assert f"{parent}/*" in outcome.stderr


@pytest.mark.parametrize("rate", ["0", "-3", "nan"])
def test_a_rate_that_is_none_is_refused(fourdvd, tiny_grid_folder, tmp_path, rate):
    views = sorted((tiny_grid_folder / "images").iterdir())
    outcome = fourdvd("grid", *views, "-o", tmp_path / "grid", "--source-fps", rate)
    assert outcome.exit_code == 3 and "frame rate above 0" in outcome.stderr


def test_the_rate_of_folders_can_be_stated(fourdvd, tiny_grid_folder, tmp_path):
    views = sorted((tiny_grid_folder / "images").iterdir())
    arguments = ["grid", *views, "-o", tmp_path / "grid", "--source-fps", 30]
    assert fourdvd(*arguments).exit_code == 0
    assert read_grid(tmp_path / "grid").fps == pytest.approx(30)
    assert fourdvd(*arguments, "--frames", 2, "--overwrite").exit_code == 0
    assert read_grid(tmp_path / "grid").fps == pytest.approx(15)
    assert fourdvd(*arguments, "--frames", 2, "--fps", 6, "--overwrite").exit_code == 0
    assert read_grid(tmp_path / "grid").fps == pytest.approx(6)


def test_a_video_of_several_views_is_divided(fourdvd, tmp_path):
    frames = np.full((2, 16, 48, 3), 255, np.uint8)
    frames[:, 4:12, 4:44] = (200, 30, 30)
    write_video(tmp_path / "all.mp4", frames, fps=5)
    outcome = fourdvd("grid", tmp_path / "all.mp4", "-o", tmp_path / "grid", "--mosaic", "1x3")
    assert outcome.exit_code == 0, outcome.stderr
    grid = read_grid(tmp_path / "grid")
    assert (grid.V, grid.T, grid.height, grid.width) == (3, 2, 16, 16)
    outcome = fourdvd("grid", tmp_path / "all.mp4", "-o", tmp_path / "other", "--mosaic", "1x5")
    assert outcome.exit_code == 3 and "48×16" in outcome.stderr
