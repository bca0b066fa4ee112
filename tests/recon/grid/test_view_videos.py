"""Per-view videos of other models become grids, if they fit together."""

import numpy as np
import pytest

from recon.errors import GridError
from recon.grid.cameras import viewing_angles_deg
from recon.grid.view_videos import grid_from_videos
from recon.media import write_video

AZIMUTHS = [0.0, 90.0, 180.0]


def disc(T: int, size: int, color) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    frames = np.full((T, size, size, 3), 255, np.uint8)
    for t in range(T):
        frames[t, np.hypot(rows - size / 2, columns - size / 2 - t) < size / 4] = color
    return frames


@pytest.fixture
def videos(tmp_path):
    paths = [tmp_path / f"{v}.mp4" for v in range(3)]
    for v, path in enumerate(paths):
        write_video(path, disc(3, 32, (200, 60 * v, 30)), fps=8)
    return paths


def test_videos_and_angles_make_a_full_grid(videos):
    grid = grid_from_videos(videos, AZIMUTHS, [15.0])
    assert (grid.V, grid.T, grid.height, grid.width, grid.fps) == (3, 3, 32, 32, 8)
    assert grid.is_full and not grid.alpha_known
    for camera, azimuth in zip(grid.cameras, AZIMUTHS, strict=True):
        assert viewing_angles_deg(camera) == pytest.approx((azimuth, 15), abs=1e-5)
        assert np.linalg.norm(camera.position) == pytest.approx(2)
        assert 2 * np.degrees(np.arctan(16 / camera.fl_x)) == pytest.approx(33.8)
    image = grid.image(1, 0)
    assert image[0, 0, 3] == 0 and image[16, 16, 3] == 255
    assert np.abs(image[16, 16, :3].astype(int) - [200, 60, 30]).max() < 12


def test_the_number_of_angles_must_match_the_videos(videos):
    with pytest.raises(GridError, match=r"3 azimuths.*found 2"):
        grid_from_videos(videos, AZIMUTHS[:2], [0.0])
    with pytest.raises(GridError, match=r"3 azimuths.*found 3 and 2"):
        grid_from_videos(videos, AZIMUTHS, [0.0, 1.0])
    with pytest.raises(GridError, match="at least one"):
        grid_from_videos([], [], [])


@pytest.mark.parametrize(
    "numbers", [{"fov_deg": 0.0}, {"fov_deg": 180.0}, {"distance": -1.0}, {"distance": np.nan}]
)
def test_cameras_that_are_not_valid_are_refused(videos, numbers):
    with pytest.raises(GridError, match="field of view"):
        grid_from_videos(videos, AZIMUTHS, [0.0], **numbers)


@pytest.mark.parametrize(("T", "size"), [(2, 32), (3, 34)])
def test_videos_of_other_length_or_size_are_refused(videos, T, size):
    write_video(videos[1], disc(T, size, (9, 9, 9)), fps=8)
    with pytest.raises(GridError, match=rf"1\.mp4: {T} frames of {size}×{size} pixels, but"):
        grid_from_videos(videos, AZIMUTHS, [0.0])
