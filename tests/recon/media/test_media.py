"""Images and videos survive a round trip; damaged and unsupported files are refused."""

import io
import wave

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from recon.errors import GridError
from recon.media import (
    decode_image,
    encode_image,
    image_size,
    read_image,
    read_png,
    read_video,
    read_video_frames,
    read_video_times,
    videos,
    write_gif,
    write_png,
    write_video,
)


def moving_gradient(T: int, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    frames = [np.stack([rows * 3, columns * 3, rows * 0 + 40 * t], axis=-1) for t in range(T)]
    return np.stack(frames).astype(np.uint8)


def write_with_alpha(
    path, codec: str, pixel_format: str, alpha: int = 0, rotation: int = 0
) -> None:
    """6 frames of 48 × 64: red upper left quarter, the rest green and of another alpha."""
    image = np.full((48, 64, 4), (0, 255, 0, alpha), np.uint8)
    image[:24, :32] = (255, 0, 0, 255)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixel_format
        if rotation:
            stream.set_display_rotation(rotation)
        for _ in range(6):
            frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format=pixel_format)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_a_written_video_reads_back_with_even_sides(tmp_path, size):
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


def test_times_start_at_zero_and_follow_the_frame_rate(tmp_path):
    write_video(tmp_path / "x.mp4", moving_gradient(9, 32, 32), fps=12.5)
    np.testing.assert_allclose(read_video_times(tmp_path / "x.mp4"), np.arange(9) / 12.5)


def test_times_of_a_gif_follow_its_delays(tmp_path):
    frames = [Image.fromarray(frame) for frame in moving_gradient(3, 20, 30)]
    frames[0].save(
        tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=[100, 300, 100]
    )
    np.testing.assert_allclose(read_video_times(tmp_path / "x.gif"), [0, 0.1, 0.4])


def test_selected_frames_equal_those_of_the_whole_video(tmp_path):
    write_video(tmp_path / "x.mp4", moving_gradient(12, 32, 48), fps=10)
    every = read_video(tmp_path / "x.mp4").frames
    some = read_video_frames(tmp_path / "x.mp4", [7, 0, 11, 7])
    np.testing.assert_array_equal(some, every[[7, 0, 11, 7]])


def test_frames_beyond_the_end_are_refused(tmp_path):
    write_video(tmp_path / "x.mp4", moving_gradient(4, 32, 48), fps=10)
    with pytest.raises(GridError, match="frame 4 cannot be decoded"):
        read_video_frames(tmp_path / "x.mp4", [1, 4, 9])


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("x.webm", "libvpx-vp9", "yuva420p"),
        ("x.mov", "qtrle", "argb"),
        ("x.mov", "png", "rgba"),
        ("x.mov", "prores_ks", "yuva444p10le"),
        ("x.mkv", "ffv1", "bgra"),
    ],
)
def test_alpha_of_a_video_is_read(tmp_path, name, codec, pixel_format):
    write_with_alpha(tmp_path / name, codec, pixel_format)
    frames = read_video(tmp_path / name).frames
    assert frames.shape == (6, 48, 64, 4)
    assert (frames[:, 40:, 40:, 3] <= 1).all()
    assert np.abs(frames[:, :16, :24].astype(int) - [255, 0, 0, 255]).max() < 12
    np.testing.assert_array_equal(read_video_frames(tmp_path / name, [3]), frames[[3]])
    assert len(read_video_times(tmp_path / name)) == 6


def test_fully_opaque_alpha_is_dropped(tmp_path):
    write_with_alpha(tmp_path / "x.webm", "libvpx-vp9", "yuva420p", alpha=255)
    assert read_video(tmp_path / "x.webm").frames.shape == (6, 48, 64, 3)
    assert read_video_frames(tmp_path / "x.webm", [0]).shape == (1, 48, 64, 3)


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-9, 8)), (-90, (8, -9)), (180, (-9, -9))])
def test_display_rotation_is_applied(tmp_path, rotation, corner):
    write_with_alpha(tmp_path / "x.mp4", "libx264", "yuv420p", rotation=rotation)
    frame = read_video(tmp_path / "x.mp4").frames[0]
    assert frame.shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
    assert np.abs(frame[corner].astype(int) - [255, 0, 0]).max() < 12


def test_a_truncated_gif_is_refused(tmp_path):
    frames = [Image.fromarray(frame) for frame in moving_gradient(6, 20, 30)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=100)
    data = (tmp_path / "x.gif").read_bytes()
    (tmp_path / "x.gif").write_bytes(data[: len(data) * 2 // 3])
    for read in (read_video, read_video_times):
        with pytest.raises(GridError, match="truncated"):
            read(tmp_path / "x.gif")


def test_a_damaged_video_is_refused(tmp_path):
    write_video(tmp_path / "x.mp4", moving_gradient(8, 64, 64), fps=10)
    data = bytearray((tmp_path / "x.mp4").read_bytes())
    start = data.index(b"mdat") + 4
    for position in range(start, start + int.from_bytes(data[start - 8 : start - 4]) - 8, 5):
        data[position] ^= 0x5A
    (tmp_path / "x.mp4").write_bytes(data)
    with pytest.raises(GridError, match="cannot be read"):
        read_video_frames(tmp_path / "x.mp4", list(range(8)))


def test_a_file_without_a_video_stream_is_refused(tmp_path):
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0" * 1600)
    with pytest.raises(GridError, match="no video"):
        read_video(tmp_path / "x.wav")


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"\0\0\0\x18ftypmp42" + b"\0" * 500])
def test_other_files_are_refused_as_videos(tmp_path, data):
    (tmp_path / "x.mp4").write_bytes(data)
    with pytest.raises(GridError, match="video"):
        read_video(tmp_path / "x.mp4")


def test_a_text_file_is_refused_although_ffmpeg_draws_its_characters(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("a fox runs\n" * 100)
    with pytest.raises(GridError, match="text file"):
        read_video(path)


def test_a_truncated_video_is_refused(tmp_path):
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


def test_missing_and_too_large_videos_are_refused(tmp_path, monkeypatch):
    with pytest.raises(GridError, match="missing"):
        read_video(tmp_path / "x.mp4")
    write_video(tmp_path / "x.mp4", moving_gradient(4, 48, 64), fps=10)
    monkeypatch.setattr(videos, "MAX_VIDEO_BYTES", 3 * 48 * 64 * 3)
    with pytest.raises(GridError, match="GiB"):
        read_video(tmp_path / "x.mp4")
    monkeypatch.setattr(videos, "MAX_SIDE", 63)
    with pytest.raises(GridError, match="64×48"):
        read_video(tmp_path / "x.mp4")


def pattern(channels: int = 4, height: int = 33, width: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 5, columns * 3, rows + columns, 255 * (rows > 9) * (columns > 9)]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("x.png", "RGBA", {}),
        ("x.png", "RGB", {}),
        ("x.png", "P", {}),
        ("x.png", "L", {}),
        ("x.png", "1", {}),
        ("x.jpg", "RGB", {"exif": True}),
        ("x.jpg", "CMYK", {}),
        ("x.webp", "RGBA", {"lossless": True}),
    ],
)
def test_images_read_as_pillow_decodes_them(tmp_path, name, mode, options):
    image = Image.fromarray(pattern()).convert(mode)
    if options.pop("exif", False):
        exif = Image.Exif()
        exif[0x112] = 6  # an orientation, which posed images must not be rotated by
        options["exif"] = exif
    image.save(tmp_path / name, **options)
    assert image_size(tmp_path / name) == (33, 48)
    with Image.open(tmp_path / name) as expected:
        rgba = np.asarray(expected.convert("RGBA"))
    np.testing.assert_array_equal(read_image(tmp_path / name), rgba)


@pytest.mark.parametrize(
    "image", [pattern(3), pattern(3)[..., 0], np.uint16(pattern(3)[..., 0]) * 257]
)
def test_png_files_equal_those_of_pillow(tmp_path, image):
    write_png(tmp_path / "x.png", image)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    assert (tmp_path / "x.png").read_bytes() == buffer.getvalue()


def test_transparent_pixels_of_a_png_are_white(tmp_path):
    write_png(tmp_path / "x.png", pattern())
    found = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(found[found[..., 3] == 0][:, :3], 255)
    np.testing.assert_array_equal(found[10:, 10:], pattern()[10:, 10:])


def test_images_are_encoded_and_decoded_in_memory():
    data = encode_image(pattern(), ".webp", lossless=True, exact=True)
    np.testing.assert_array_equal(decode_image(data, "WEBP", (33, 48)), pattern())
    np.testing.assert_array_equal(decode_image(data, ("PNG", "WEBP")), pattern())
    for format, size in (("PNG", (33, 48)), ("WEBP", (48, 33)), (("JPEG", "PNG"), None)):
        with pytest.raises(ValueError, match=format if isinstance(format, str) else "JPEG or PNG"):
            decode_image(data, format, size)
    with pytest.raises(ValueError, match="PNG"):
        decode_image(encode_image(pattern(), ".png")[:60], "PNG")


@pytest.mark.parametrize("format", ["BMP", "GIF", "EPS", "TIFF"])
def test_other_image_formats_are_refused(tmp_path, format):
    Image.fromarray(pattern(3)).save(tmp_path / "x.png", format=format)
    for read in (image_size, read_image):
        with pytest.raises(GridError, match=r"x\.png"):
            read(tmp_path / "x.png")


def test_a_gif_loops_with_the_frame_rate(tmp_path):
    write_gif(tmp_path / "x.gif", moving_gradient(3, 20, 30), 10)
    video = read_video(tmp_path / "x.gif")
    assert video.fps == pytest.approx(10)
    assert np.abs(video.frames.astype(int) - moving_gradient(3, 20, 30)).mean() < 8


@pytest.mark.parametrize(("fps", "played"), [(24, 24), (30, 30), (23.976, 23.976), (60, 50)])
def test_a_gif_plays_at_the_rate_although_its_delays_are_hundredths(tmp_path, fps, played):
    frames = moving_gradient(96, 8, 8)
    write_gif(tmp_path / "x.gif", frames, fps)
    with Image.open(tmp_path / "x.gif") as gif:
        delays_ms = [image.info["duration"] for image in ImageSequence.Iterator(gif)]
    assert len(delays_ms) == len(frames)
    assert sum(delays_ms) / 1000 == pytest.approx(len(frames) / played, abs=0.0051)
    assert max(delays_ms) - min(delays_ms) <= 10
    write_gif(tmp_path / "one.gif", frames[:1], fps)
    assert len(read_video(tmp_path / "one.gif").frames) == 1


def test_h264_frames_equal_those_of_pyav(tmp_path):
    write_video(tmp_path / "x.mp4", moving_gradient(5, 32, 48), fps=10)
    with av.open(str(tmp_path / "x.mp4")) as file:
        expected = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    np.testing.assert_array_equal(read_video(tmp_path / "x.mp4").frames, expected)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 7), np.uint8), ((5, 7), np.uint16), ((5, 7, 3), np.uint8)]
)
def test_a_png_is_read_as_it_was_written(tmp_path, shape, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    write_png(tmp_path / "x.png", image)
    found = read_png(tmp_path / "x.png")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, image)


def test_a_png_that_is_missing_damaged_or_no_png_is_refused(tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(GridError) as error:
        read_png(path)
    assert error.value.path == path
    write_png(path, np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(GridError) as error:
        read_png(path)
    assert error.value.path == path
    Image.new("RGB", (4, 4)).save(path, format="JPEG")
    with pytest.raises(GridError) as error:
        read_png(path)
    assert error.value.path == path
