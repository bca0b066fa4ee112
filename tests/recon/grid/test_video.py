"""Videos come back as they were written, and what is no video is refused."""

import numpy as np
import pytest
from PIL import Image

from recon.errors import GridError
from recon.grid import video as video_module
from recon.grid.video import read_video, write_video


def moving_gradient(T: int, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    frames = [np.stack([rows * 3, columns * 3, rows * 0 + 40 * t], axis=-1) for t in range(T)]
    return np.stack(frames).astype(np.uint8)


@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_a_video_comes_back_nearly_equal_and_of_even_size(tmp_path, size):
    frames = moving_gradient(4, *size)
    write_video(tmp_path / "x.mp4", frames, fps=12.5)
    video = read_video(tmp_path / "x.mp4")
    height, width = (side + side % 2 for side in size)
    assert video.frames.shape == (4, height, width, 3)
    assert video.fps == 12.5
    cut = video.frames[:, : size[0], : size[1]].astype(int)
    assert np.abs(cut - frames).mean() < 3


def test_a_single_frame_is_a_video(tmp_path):
    write_video(tmp_path / "x.mp4", moving_gradient(1, 32, 32), fps=10)
    assert read_video(tmp_path / "x.mp4").frames.shape == (1, 32, 32, 3)


def test_an_animated_gif_is_a_video(tmp_path):
    frames = [Image.fromarray(frame) for frame in moving_gradient(3, 20, 30)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=100)
    video = read_video(tmp_path / "x.gif")
    assert video.frames.shape[:3] == (3, 20, 30)
    assert video.fps == pytest.approx(10)


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"\0\0\0\x18ftypmp42" + b"\0" * 500])
def test_files_that_are_no_videos_are_refused(tmp_path, data):
    (tmp_path / "x.mp4").write_bytes(data)
    with pytest.raises(GridError, match="video"):
        read_video(tmp_path / "x.mp4")


def test_a_video_that_is_cut_off_is_refused(tmp_path):
    write_video(tmp_path / "x.mp4", moving_gradient(4, 48, 64), fps=10)
    data = (tmp_path / "x.mp4").read_bytes()
    (tmp_path / "x.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(GridError, match="video"):
        read_video(tmp_path / "x.mp4")


def test_a_video_of_an_unknown_codec_is_refused(tmp_path):
    write_video(tmp_path / "x.mp4", moving_gradient(4, 48, 64), fps=10)
    data = (tmp_path / "x.mp4").read_bytes()
    (tmp_path / "x.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(GridError, match="video"):
        read_video(tmp_path / "x.mp4")


def test_missing_and_absurd_videos_are_refused(tmp_path, monkeypatch):
    with pytest.raises(GridError, match="missing"):
        read_video(tmp_path / "x.mp4")
    write_video(tmp_path / "x.mp4", moving_gradient(4, 48, 64), fps=10)
    monkeypatch.setattr(video_module, "MAX_VIDEO_BYTES", 3 * 48 * 64 * 3)
    with pytest.raises(GridError, match="GiB"):
        read_video(tmp_path / "x.mp4")
    monkeypatch.setattr(video_module, "MAX_SIDE", 63)
    with pytest.raises(GridError, match="64×48"):
        read_video(tmp_path / "x.mp4")
