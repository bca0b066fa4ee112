"""Videos are shown as players show them: upright, with square pixels, in sRGB, deinterlaced."""

import struct
from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest
from av.stream import Disposition

from recon.errors import GridError
from recon.media import read_video, read_video_frames, read_video_times, write_video
from recon.media.display import display_matrix

RED, GREEN, WHITE = (200, 30, 30), (30, 180, 40), (255, 255, 255)
MATRICES = [
    (a, b, c, d)
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))
    for a, b, c, d in ((signs[0], 0, 0, signs[1]), (0, signs[0], signs[1], 0))
]


def corners(height: int = 48, width: int = 64, T: int = 3) -> np.ndarray:
    """Make frames on white with a red upper left and a green upper right quarter."""
    frames = np.full((T, height, width, 3), 255, np.uint8)
    frames[:, : height // 2, : width // 2] = RED
    frames[:, : height // 2, width // 2 :] = GREEN
    return frames


def encode(
    path,
    frames,
    codec="libx264",
    format="yuv444p",
    rate=10,
    options=None,
    field_order=None,
    **settings,
):
    """Encode frames; uint16 ones are Y, Cb and Cr of 10 bits."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], format
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for image in frames:
            if image.dtype == np.uint16:
                frame = av.VideoFrame(image.shape[1], image.shape[0], format)
                for plane, values in zip(frame.planes, np.moveaxis(image, -1, 0), strict=True):
                    rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                    rows[:, : plane.width] = values
                    plane.update(rows.tobytes())
            else:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=format)
            if field_order:
                frame = flagged_interlaced(frame, field_order)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def flagged_interlaced(frame: av.VideoFrame, field_order: str) -> av.VideoFrame:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    graph.link_nodes(source, graph.add("setfield", field_order), graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    flagged = graph.vpull()
    flagged.pts = None
    return flagged


def set_matrix(path, a, b, c, d, scale=(1, 1)) -> None:
    """Write a display matrix into the track header of an MP4 file."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    x, y = scale
    numbers = [x * a, y * b, 0, x * c, y * d, 0, 0, 0]
    struct.pack_into(">9i", data, start, *(round(65536 * n) for n in numbers), 1 << 30)
    path.write_bytes(data)


def close(pixel, color, tolerance=14) -> bool:
    return bool(np.abs(np.asarray(pixel, int) - color).max() <= tolerance)


@pytest.mark.parametrize(("a", "b", "c", "d"), MATRICES)
def test_all_eight_display_matrices_are_applied(tmp_path, a, b, c, d):
    path = tmp_path / "x.mp4"
    write_video(path, corners(), fps=10)
    set_matrix(path, a, b, c, d)
    frame = read_video(path).frames[0]
    assert frame.shape == ((48, 64, 3) if a else (64, 48, 3))
    for (x, y), color in {(-1, -1): RED, (1, -1): GREEN, (-1, 1): WHITE, (1, 1): WHITE}.items():
        shown_x, shown_y = a * x + c * y, b * x + d * y  # of the corner, from the middle
        row = 5 if shown_y < 0 else -6
        column = 5 if shown_x < 0 else -6
        assert close(frame[row, column], color)
    np.testing.assert_array_equal(read_video_frames(path, [2]), read_video(path).frames[[2]])


def test_a_matrix_of_another_angle_counts_as_the_nearest_one():
    turned = np.array([0.96, 0.28, 0, -0.28, 0.96, 0, 0, 0, 1]) * 65536
    np.testing.assert_array_equal(display_matrix(turned.astype(np.int32).tobytes()), np.eye(2))


@pytest.mark.parametrize(
    ("aspect", "shown"),
    [("4/3", (48, 85)), ("1/2", (96, 64)), ("10/11", (53, 64)), ("40/33", (48, 78)), ("1", None)],
)
@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.mpg", "x.avi", "x.mts"])
def test_pixels_that_are_not_square_are_stretched(tmp_path, name, aspect, shown):
    codec = "mpeg4" if name == "x.avi" else "libx264"
    frames = corners(T=12)
    encode(tmp_path / name, frames, codec, "yuv420p", 25, sample_aspect_ratio=Fraction(aspect))
    found = read_video(tmp_path / name).frames
    assert found.shape[1:3] == (shown or (48, 64))
    assert close(found[0, 8, 8], RED, 24) and close(found[0, 8, -8], GREEN, 24)


def test_a_display_matrix_and_pixels_that_are_not_square_combine(tmp_path):
    path = tmp_path / "x.mp4"
    encode(path, corners(), sample_aspect_ratio=Fraction(2))
    set_matrix(path, 0, 1, -1, 0)  # a quarter turn clockwise
    frame = read_video(path).frames[0]
    assert frame.shape == (128, 48, 3)
    assert close(frame[30, -8], RED) and close(frame[-30, -8], GREEN)


def hdr_codes(light: np.ndarray, transfer: int, primaries: int = 9) -> np.ndarray:
    """Encode linear BT.709 light, 1 the reference white of 203 cd/m², as 10-bit BT.2020 Y'CbCr."""
    to_2020 = np.eye(3)
    if primaries == 9:
        to_2020 = np.array(
            [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
        )
    luminance = np.array([0.2627, 0.6780, 0.0593])
    nits = 203 * light @ to_2020.T
    if transfer == 16:  # SMPTE ST 2084
        power = (nits / 10000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:  # HLG: display light → scene light → signal
        scene = nits / 1000
        scene = scene * np.maximum(scene @ luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
        log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)
    y = signal @ luminance
    cb, cr = (signal[..., 2] - y) / 1.8814, (signal[..., 0] - y) / 1.4746
    codes = np.stack([64 + 876 * y, 512 + 896 * cb, 512 + 896 * cr], axis=-1)
    return np.rint(codes).astype(np.uint16)


@pytest.mark.parametrize(
    ("transfer", "primaries"), [(16, 9), (18, 9), (16, 1)], ids=["PQ", "HLG", "PQ in BT.709"]
)
def test_hdr_is_mapped_to_the_colors_of_sdr(tmp_path, transfer, primaries):
    colors = np.array([WHITE, (183, 183, 187), (27, 45, 197), RED, (235, 200, 20), (9, 9, 9)])
    code = colors / 255
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    light[-1] = 3.0  # a highlight
    image = np.repeat(
        np.repeat(hdr_codes(light, transfer, primaries)[None], 32, axis=0), 16, axis=1
    )
    encode(
        tmp_path / "x.mkv", np.stack([image] * 2), "ffv1", "yuv444p10le",
        color_trc=transfer, color_primaries=primaries, colorspace=9, color_range=1,
    )  # fmt: skip
    found = read_video(tmp_path / "x.mkv").frames[0, 16, 8::16].astype(int)
    assert np.abs(found - [*colors[:-1], WHITE]).max() <= 3


@pytest.mark.parametrize(("primaries", "red"), [(12, (234, 51, 35)), (9, (200, 62, 27))])
def test_wide_gamuts_are_mapped_to_srgb(tmp_path, primaries, red):
    to_wide = {  # linear BT.709 → Display P3, BT.2020
        12: [[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]],
        9: [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]],
    }[primaries]
    code = np.array(red) / 255
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    wide = np.array(to_wide) @ light
    wide = np.where(wide <= 0.0031308, 12.92 * wide, 1.055 * wide ** (1 / 2.4) - 0.055)
    image = np.full((32, 32, 3), np.rint(255 * wide), np.uint8)
    encode(tmp_path / "x.mkv", np.stack([image]), "ffv1", "bgr0", color_primaries=primaries)
    assert close(read_video(tmp_path / "x.mkv").frames[0, 9, 9], red, 2)


@pytest.mark.parametrize("first", ["tff", "bff"])
def test_interlaced_frames_are_deinterlaced(tmp_path, first):
    fields = np.full((16, 64, 96, 3), 255, np.uint8)
    for number, field in enumerate(fields):
        field[16:48, 8 + 4 * number : 28 + 4 * number] = RED
    frames = fields[::2].copy()
    second = slice(1, None, 2) if first == "tff" else slice(0, None, 2)
    frames[:, second] = fields[1::2, second]
    flags = {"flags": "+ildct+ilme", "crf": "5"}
    encode(tmp_path / "x.mkv", frames, "libx264", "yuv420p", 25, flags, field_order=first)
    video = read_video(tmp_path / "x.mkv")
    np.testing.assert_allclose(video.times, np.arange(8) / 25, atol=1e-3)
    edges = video.frames[1:-1, 18:46].astype(int)
    assert np.abs(np.diff(edges, axis=1)).mean() < 2  # combed: 15
    for t in (1, 5):  # the frame shows the time of its first field
        assert np.abs(video.frames[t, 20:44].astype(int) - fields[2 * t, 20:44]).mean() < 5
    np.testing.assert_array_equal(read_video_frames(tmp_path / "x.mkv", [5]), video.frames[[5]])


def two_streams(path, first, second, dispositions) -> None:
    """Write an MKV file of two video streams; frames are copied from two files."""
    with av.open(str(path), "w") as file:
        inputs = [av.open(str(first)), av.open(str(second))]
        outputs = [file.add_stream_from_template(each.streams.video[0]) for each in inputs]
        for output, name in zip(outputs, dispositions, strict=True):
            output.disposition = Disposition[name] if name else Disposition(0)
        for source, output in zip(inputs, outputs, strict=True):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = output
                    file.mux(packet)
            source.close()


@pytest.mark.parametrize("cover_first", [True, False])
def test_a_cover_picture_is_not_the_video(tmp_path, cover_first):
    write_video(tmp_path / "film.mp4", corners(T=4), fps=10)
    encode(tmp_path / "cover.mkv", np.full((1, 96, 96, 3), 99, np.uint8), "mjpeg", "yuvj420p")
    parts = [(tmp_path / "cover.mkv", "attached_pic"), (tmp_path / "film.mp4", "")]
    (first, a), (second, b) = parts if cover_first else parts[::-1]
    two_streams(tmp_path / "x.mp4", first, second, [a, b])
    video = read_video(tmp_path / "x.mp4")
    assert video.frames.shape == (4, 48, 64, 3)
    assert len(read_video_times(tmp_path / "x.mp4")) == 4


def test_a_file_of_only_a_cover_picture_is_refused(tmp_path):
    encode(tmp_path / "cover.mkv", np.full((1, 96, 96, 3), 99, np.uint8), "mjpeg", "yuvj420p")
    cover = tmp_path / "cover.mkv"
    two_streams(tmp_path / "x.mp4", cover, cover, ("attached_pic", "attached_pic"))
    with pytest.raises(GridError, match="cover"):
        read_video(tmp_path / "x.mp4")


@pytest.mark.parametrize("dispositions", [("", "default"), ("default", "")])
def test_of_several_videos_the_default_one_is_read(tmp_path, dispositions):
    write_video(tmp_path / "large.mp4", corners(96, 128, T=4), fps=10)
    write_video(tmp_path / "small.mp4", corners(T=4), fps=10)
    two_streams(tmp_path / "x.mkv", tmp_path / "large.mp4", tmp_path / "small.mp4", dispositions)
    expected = (96, 128) if dispositions[0] else (48, 64)
    assert read_video(tmp_path / "x.mkv").frames.shape[1:3] == expected


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *[
            (f"x.{suffix}", "libx264")
            for suffix in ("mp4", "m4v", "mov", "mkv", "ts", "mts", "m2ts", "3gp", "flv")
        ],
        ("x.avi", "mpeg4"),
        ("x.mpg", "mpeg2video"),
        ("x.wmv", "wmv2"),
        ("x.webm", "libvpx"),
    ],
)  # fmt: skip
def test_times_and_frames_agree_in_all_containers(tmp_path, name, codec):
    """With B-frames where the codec has them."""
    frames = np.full((30, 48, 64, 3), 255, np.uint8)
    frames[:, 8:40, 8:56] = (8 * np.arange(30))[:, None, None, None]
    encode(tmp_path / name, frames, codec, "yuv420p", 25)
    video, times = read_video(tmp_path / name), read_video_times(tmp_path / name)
    assert len(video.frames) == 30
    np.testing.assert_allclose(times, np.arange(30) / 25, atol=2e-3)
    np.testing.assert_allclose(video.times, times, atol=1e-6)
    assert video.fps == pytest.approx(25, rel=5e-3)
    some = read_video_frames(tmp_path / name, [29, 3, 11])
    np.testing.assert_array_equal(some, video.frames[[29, 3, 11]])
    levels = some[:, 24, 32, 0].astype(int)
    assert np.abs(levels - [232, 24, 88]).max() <= 14


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_frames_before_the_start_of_an_edit_list_are_not_shown(tmp_path, name):
    frames = np.full((12, 48, 64, 3), 255, np.uint8)
    frames[:, 8:40, 8:56] = (20 * np.arange(12))[:, None, None, None]
    encode(tmp_path / "whole.mp4", frames, "libx264", "yuv420p", 25, {"bf": "0"})
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts is not None:
                early = round(3 / 25 / packet.time_base)  # three frames start before 0
                packet.pts, packet.dts = packet.pts - early, packet.dts - early
                packet.stream = stream
                file.mux(packet)
    video, times = read_video(tmp_path / name), read_video_times(tmp_path / name)
    first = 3 if name == "x.mp4" else 0  # MKV has no edit lists: its frames all are shown
    np.testing.assert_allclose(times, np.arange(12 - first) / 25, atol=1e-3)
    np.testing.assert_allclose(video.times, times)
    for index, found in zip((0, 5), read_video_frames(tmp_path / name, [0, 5]), strict=True):
        assert close(found[24, 32], 3 * [20 * (first + index)], 6)


def test_hidden_frames_of_a_codec_do_not_count(tmp_path):
    """VP8 stores alternate reference frames that are never shown."""
    frames = np.full((60, 48, 64, 3), 255, np.uint8)
    for t in range(60):
        frames[t, 8:40, 2 + t // 2 : 22 + t // 2] = RED
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"}
    encode(tmp_path / "x.webm", frames, "libvpx", "yuv420p", 25, options)
    times = read_video_times(tmp_path / "x.webm")
    np.testing.assert_allclose(times, np.arange(60) / 25, atol=2e-3)
    assert read_video_frames(tmp_path / "x.webm", [0, 59]).shape[0] == 2
