"""The selected frames are read from any clip, and clips with too few frames are refused."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generation.clip.reading import FrameSelection, is_clip, read_clip, select_frames
from recon.errors import InputError
from recon.media import image_folders as folder_module
from recon.media import images as images_module
from recon.media import videos as video_module
from recon.media import write_png, write_video


def numbered_frames(T: int, height: int = 32, width: int = 48, channels: int = 3) -> np.ndarray:
    """Make frames of gray level 5 t, with a transparent hole if there is a fourth channel."""
    frames = np.repeat(np.arange(T, dtype=np.uint8) * 5, height * width * channels)
    frames = frames.reshape(T, height, width, channels)
    if channels == 4:
        frames[..., 3] = 255
        frames[:, :4, :, 3] = 0
    return frames


def write_folder(folder, frames: np.ndarray, pattern: str = "frame_{}.png"):
    folder.mkdir()
    for t, frame in enumerate(frames):
        write_png(folder / pattern.format(t), frame)
    return folder


def numbers_of(images: np.ndarray) -> list[int]:
    return np.rint(np.median(images[:, 8:, :, 0], axis=(1, 2)) / 5).astype(int).tolist()


@pytest.fixture
def video(tmp_path):
    """A video of 41 frames at 10 fps."""
    write_video(tmp_path / "clip.mp4", numbered_frames(41), fps=10)
    return tmp_path / "clip.mp4"


def test_by_default_21_frames_are_spread_over_the_whole_clip(video):
    clip = read_clip(video, FrameSelection())
    assert clip.source_frames == tuple(range(0, 41, 2))
    assert numbers_of(clip.images) == list(clip.source_frames)
    assert clip.fps == 5


def test_a_clip_of_fewer_frames_is_taken_whole(tmp_path):
    write_video(tmp_path / "x.mp4", numbered_frames(8), fps=12)
    clip = read_clip(tmp_path / "x.mp4", FrameSelection())
    assert clip.source_frames == tuple(range(8)) and clip.fps == 12


def test_start_and_stop_are_both_included(video):
    clip = read_clip(video, FrameSelection(frames=6, start=1.0, stop=2.0))
    assert clip.source_frames == (10, 12, 14, 16, 18, 20) and clip.fps == 5


def test_frames_at_a_rate_begin_at_the_start(video):
    clip = read_clip(video, FrameSelection(frames=7, start=0.5, fps=5))
    assert clip.source_frames == (5, 7, 9, 11, 13, 15, 17) and clip.fps == 5
    assert len(read_clip(video, FrameSelection(fps=2.5)).source_frames) == 11
    assert len(read_clip(video, FrameSelection(fps=10)).source_frames) == 21


@pytest.mark.parametrize("T", [5, 13, 21, 40, 41])
def test_even_frames_hold_both_ends_and_none_twice(T):
    chosen = select_frames(np.arange(41) / 30, FrameSelection(frames=T))
    assert (chosen.indices[0], chosen.indices[-1], len(set(chosen.indices))) == (0, 40, T)
    steps = np.diff(chosen.indices)
    assert steps.max() - steps.min() <= 1
    assert chosen.fps == pytest.approx((T - 1) / (40 / 30), abs=1e-4)


def test_frames_that_come_unevenly_are_chosen_by_their_times():
    seconds = np.concatenate([np.arange(0, 1, 0.1), np.arange(1, 2.01, 0.02)])
    chosen = select_frames(seconds, FrameSelection(frames=11))
    np.testing.assert_allclose(seconds[list(chosen.indices)], np.linspace(0, 2, 11), atol=0.051)


def test_frames_of_uneven_times_keep_them():
    clip = read_clip(Path(__file__).parent / "reports" / "uneven_times.mp4", FrameSelection())
    assert clip.source_frames == tuple(range(16)) and clip.fps == 15 / 4
    shown = [*np.arange(9) * 0.04, *(2 + np.arange(6) * 0.04), 4.0]
    np.testing.assert_allclose(np.array(clip.times) * 4, shown, atol=1e-6)


@pytest.mark.parametrize("T", [5, 21, 59, 60])
def test_no_frame_is_taken_twice_where_the_source_has_a_gap(T):
    seconds = np.concatenate([np.arange(30), 90 + np.arange(30)]) / 30
    chosen = select_frames(seconds, FrameSelection(frames=T))
    indices = list(chosen.indices)
    assert (indices[0], indices[-1], len(set(indices))) == (0, 59, T)
    np.testing.assert_allclose(chosen.times, seconds[indices] / seconds[-1])


def test_frames_at_a_rate_may_come_late_after_a_gap():
    seconds = np.concatenate([np.arange(31), 60 + np.arange(31)]) / 30
    chosen = select_frames(seconds, FrameSelection(frames=13, fps=5))
    assert len(set(chosen.indices)) == 13
    with pytest.raises(InputError, match="at most"):
        select_frames(seconds, FrameSelection(frames=70, fps=30))


def test_the_rate_of_a_folder_can_be_stated(tmp_path):
    folder = write_folder(tmp_path / "clip", numbered_frames(31))
    clip = read_clip(folder, FrameSelection(source_fps=30, start=0.5, frames=6))
    assert clip.source_frames == (15, 18, 21, 24, 27, 30) and clip.fps == 10
    assert read_clip(folder, FrameSelection(frames=6)).fps == pytest.approx(5 / 3, abs=1e-4)
    with pytest.raises(InputError, match="source_fps"):
        FrameSelection(source_fps=0)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path, channels):
    folder = write_folder(tmp_path / "clip", numbered_frames(12, channels=channels))
    (folder / "notes.txt").write_text("no frame")
    write_png(folder / "preview.png", np.zeros((5, 5, 3), np.uint8))
    clip = read_clip(folder, FrameSelection())
    assert numbers_of(clip.images) == list(range(12))
    assert clip.images.shape == (12, 32, 48, channels)
    assert clip.fps == 10


@pytest.mark.parametrize("suffix", ["jpg", "webp", "PNG"])
def test_a_folder_may_hold_other_kinds_of_pictures(tmp_path, suffix):
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(numbered_frames(6)):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t}a.{suffix}", quality=95)
    assert numbers_of(read_clip(tmp_path / "clip", FrameSelection()).images) == list(range(6))


def test_a_gif_with_holes_keeps_its_alpha(tmp_path):
    frames = [Image.fromarray(frame) for frame in numbered_frames(6, channels=4)]
    frames[0].save(
        tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=50, disposal=2
    )
    clip = read_clip(tmp_path / "x.gif", FrameSelection())
    assert clip.images.shape == (6, 32, 48, 4) and clip.fps == 20
    assert (clip.images[:, :4, :, 3] == 0).all() and (clip.images[:, 4:, :, 3] == 255).all()


def test_only_the_selected_frames_are_kept(tmp_path, monkeypatch):
    write_video(tmp_path / "x.mp4", numbered_frames(40), fps=10)
    monkeypatch.setattr(video_module, "MAX_VIDEO_BYTES", 6 * 32 * 48 * 3)
    assert len(read_clip(tmp_path / "x.mp4", FrameSelection(frames=6)).images) == 6
    with pytest.raises(InputError, match="GiB"):
        read_clip(tmp_path / "x.mp4", FrameSelection(frames=7))


def test_a_folder_of_too_many_bytes_is_refused(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "clip", numbered_frames(6))
    monkeypatch.setattr(folder_module, "MAX_VIDEO_BYTES", 1)
    with pytest.raises(InputError, match="GiB"):
        read_clip(folder, FrameSelection())


@pytest.mark.parametrize(
    "numbers",
    [
        {"frames": 0},
        {"frames": -1},
        {"start": -1.0},
        {"start": math.nan},
        {"start": math.inf},
        {"stop": math.nan},
        {"start": 2.0, "stop": 2.0},
        {"start": 2.0, "stop": 1.0},
        {"fps": 0.0},
        {"fps": -5.0},
        {"fps": math.nan},
        {"fps": math.inf},
        {"fps": 1e6},
    ],
)
def test_selections_out_of_range_are_refused(numbers):
    with pytest.raises(InputError, match="expected"):
        FrameSelection(**numbers)


@pytest.mark.parametrize("T", range(1, 5))
def test_a_few_frames_are_a_clip(tmp_path, T):
    write_video(tmp_path / "x.mp4", numbered_frames(T), fps=10)
    folder = write_folder(tmp_path / "clip", numbered_frames(T))
    for path in (tmp_path / "x.mp4", folder):
        found = read_clip(path, FrameSelection())
        assert (len(found.images), found.fps) == (T, pytest.approx(10, rel=1e-3))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (FrameSelection(frames=42), "at least 42 frames, found 41"),
        (FrameSelection(start=9.0), r"last frame \(4 seconds\), found 9"),
        (FrameSelection(start=1.02, stop=1.08), "between 1.02 and 1.08 seconds, found none"),
        (FrameSelection(frames=12, start=2.0, fps=5), "2 seconds have 11 frames at 5"),
        (FrameSelection(frames=4, fps=0.5), "4 seconds have 3 frames at 0.5"),
        (FrameSelection(fps=30), "10 frames per second, found 30"),
    ],
)
def test_selections_that_the_clip_cannot_satisfy_are_refused(choice, message):
    with pytest.raises(InputError, match=message):
        select_frames(np.arange(41) / 10, choice)


def test_times_without_frames_are_refused():
    with pytest.raises(InputError, match="at least 1 frame, found none"):
        select_frames(np.array([]), FrameSelection())


@pytest.mark.parametrize("data", [b"", b"a poem about a camel\n" * 40, b"GIF89a;"])
def test_files_that_are_no_videos_are_refused(tmp_path, data):
    (tmp_path / "x.mp4").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.mp4.*video"):
        read_clip(tmp_path / "x.mp4", FrameSelection())


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_clip(tmp_path / "x.mp4", FrameSelection())


def test_paths_that_may_not_be_read_are_refused(tmp_path, monkeypatch, video):
    def forbid(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    folder = write_folder(tmp_path / "clip", numbered_frames(6))
    monkeypatch.setattr(type(video), "open", forbid)  # root may read everything
    monkeypatch.setattr(type(video), "iterdir", forbid)
    for path in (video, folder):
        with pytest.raises(InputError, match="Permission denied"):
            read_clip(path, FrameSelection())


def test_a_single_image_is_a_clip_of_one_frame(tmp_path):
    write_png(tmp_path / "x.png", numbered_frames(1)[0])
    found = read_clip(tmp_path / "x.png", FrameSelection())
    assert (found.images == numbered_frames(1)).all()
    assert found.source_frames == (0,)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no frame")
    with pytest.raises(InputError, match="images"):
        read_clip(tmp_path, FrameSelection())


def test_a_folder_of_several_sizes_is_refused(tmp_path):
    folder = write_folder(tmp_path / "clip", numbered_frames(6))
    write_png(folder / "frame_3.png", numbered_frames(1, 40, 48)[0])
    with pytest.raises(InputError, match=r"frame_3\.png: .* 48×32 .* frame_0\.png, found 48×40"):
        read_clip(folder, FrameSelection())


@pytest.mark.parametrize("kept", [0, 20, 60])
def test_a_folder_with_a_broken_picture_is_refused(tmp_path, kept):
    folder = write_folder(tmp_path / "clip", numbered_frames(6))
    data = (folder / "frame_3.png").read_bytes()
    (folder / "frame_3.png").write_bytes(data[:kept])
    with pytest.raises(InputError, match=r"frame_3\.png"):
        read_clip(folder, FrameSelection())


def test_a_folder_with_deep_colors_is_refused(tmp_path):
    folder = write_folder(tmp_path / "clip", numbered_frames(6))
    Image.fromarray(np.full((32, 48), 40000, np.uint16)).save(folder / "frame_2.png")
    with pytest.raises(InputError, match=r"frame_2\.png: expected 8 bits"):
        read_clip(folder, FrameSelection())


def test_huge_frames_are_refused_without_decoding(tmp_path, monkeypatch, video):
    folder = write_folder(tmp_path / "clip", numbered_frames(6))
    monkeypatch.setattr(images_module, "MAX_SIDE", 47)
    monkeypatch.setattr(video_module, "MAX_SIDE", 47)
    monkeypatch.setattr(video_module, "_decoded", None)
    monkeypatch.setattr(folder_module, "read_shown_image", None)
    for path in (video, folder):
        with pytest.raises(InputError, match=r"47.*48×32"):
            read_clip(path, FrameSelection())


def test_tiny_frames_are_refused(tmp_path):
    folder = write_folder(tmp_path / "clip", numbered_frames(6, 15, 48))
    with pytest.raises(InputError, match="at least 16 pixels on each side, found 48×15"):
        read_clip(folder, FrameSelection())


def test_names_without_numbers_are_frames_too(tmp_path):
    folder = write_folder(tmp_path / "clip", numbered_frames(6), "frame_{}_rgb.png")
    shutil.copy(folder / "frame_0_rgb.png", folder / ".frame_9_rgb.png")
    assert len(read_clip(folder, FrameSelection()).images) == 6


def test_clips_and_grids_are_told_apart_by_what_they_are(tmp_path, video):
    folder = write_folder(tmp_path / "clip", numbered_frames(2))
    for name in ("x.m4v", "x.mts", "x.m2ts", "x.3gp", "x", "X.MOV"):
        shutil.copy(video, tmp_path / name)
        assert is_clip(tmp_path / name)
    assert is_clip(folder) and is_clip(folder / "frame_0.png")
    (folder / "masks").mkdir()
    shutil.copy(folder / "frame_0.png", folder / "masks")
    assert is_clip(folder)
    (folder / "transforms.json").write_text("{}")
    with pytest.raises(InputError, match=r"found a grid \(transforms.json\)"):
        read_clip(folder, FrameSelection())
    (tmp_path / "cameras.txt").write_bytes(b"\xef\xbb\xbf\n {}")
    for other in (folder, folder / "transforms.json", tmp_path / "cameras.txt", tmp_path / "no"):
        assert not is_clip(other)


def test_frames_of_a_folder_are_shown_upright(tmp_path):
    (tmp_path / "clip").mkdir()
    exif = Image.Exif()
    exif[0x112] = 6
    for t, frame in enumerate(numbered_frames(4)):
        frame[:, :8] = 255
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t}.jpg", exif=exif, quality=95)
    images = read_clip(tmp_path / "clip", FrameSelection()).images
    assert images.shape == (4, 48, 32, 3) and (images[:, :7] > 240).all()
