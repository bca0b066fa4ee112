"""Clips become square frames that look over white as SV4D's own preparation makes them."""

import math
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from generation.clip import matting
from generation.clip.cropping import bounding_box
from generation.clip.preparing import SquareClip, load_clip
from recon.errors import InputError
from recon.grid.grid import composite
from recon.media import write_png, write_video

REPORTS = Path(__file__).parent / "reports"


def prepare(path, size: int = 64, ratio: float = 0.9, **options) -> SquareClip:
    return load_clip(path, **options).square(size, ratio)


def moving_disc(T: int = 6, height: int = 72, width: int = 72, speed: float = 2.0) -> np.ndarray:
    """RGBA of a soft disc of radius 12 that moves right from the middle; green where hidden."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    images = np.zeros((T, height, width, 4), np.uint8)
    images[..., 1] = 255
    for t in range(T):
        radius = np.hypot(rows - height / 2, columns - width / 2 - speed * t)
        alpha = np.clip(12.5 - radius, 0, 1)
        images[t, alpha > 0, :3] = (200, 120, 30)
        images[t, ..., 3] = np.rint(255 * alpha)
    return images


def write_frames(folder, images: np.ndarray):
    folder.mkdir()
    for t, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{t}.png")
    return folder


def as_the_reference(frames: np.ndarray, size: int, ratio: float) -> np.ndarray:
    """Compute SV4D's preprocessing of square frames over white independently, float64."""
    T, height, width = frames.shape[:3]
    seen = frames[..., 3] > 0 if frames.shape[-1] == 4 else frames.mean(axis=-1) <= 250
    _, rows, columns = np.nonzero(seen)
    middle_row, middle_column = height // 2, width // 2
    half = max(
        middle_row - rows.min(),
        rows.max() + 1 - middle_row,
        middle_column - columns.min(),
        columns.max() + 1 - middle_column,
    )
    side = int(2 * half / ratio)
    opaque = np.full((T, height, width, 1), 255, np.uint8)
    rgba = frames if frames.shape[-1] == 4 else np.concatenate([frames, opaque], axis=-1)
    results = []
    for image in rgba:
        box = image[
            max(0, middle_row - half) : middle_row + half,
            max(0, middle_column - half) : middle_column + half,
        ]
        canvas = Image.new("RGBA", (side, side))
        canvas.paste(
            Image.fromarray(box),
            (side // 2 - min(half, middle_column), side // 2 - min(half, middle_row)),
        )
        resized = np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS)) / 255
        results.append(255 * (resized[..., :3] * resized[..., 3:] + 1 - resized[..., 3:]))
    return np.stack(results)


@pytest.mark.parametrize(("side", "ratio"), [(72, 0.9), (73, 0.917), (96, 0.5)])
@pytest.mark.parametrize("has_alpha", [True, False])
def test_square_frames_look_over_white_as_the_reference_makes_them(
    tmp_path, side, ratio, has_alpha
):
    frames = moving_disc(height=side, width=side)
    frames = frames if has_alpha else composite(frames)
    clip = prepare(write_frames(tmp_path / "x", frames), size=80, ratio=ratio)
    assert clip.alpha_known is has_alpha
    assert clip.images.shape == (6, 80, 80, 4) and clip.images.dtype == np.uint8
    difference = composite(clip.images) - as_the_reference(frames, 80, ratio)
    assert np.abs(difference).max() <= 1.5


@pytest.mark.parametrize("size", [32, 64, 240])
def test_alpha_from_white_agrees_with_the_alpha_it_was_made_of(tmp_path, size):
    frames = moving_disc()
    known = prepare(write_frames(tmp_path / "known", frames), size).images[..., 3]
    found = prepare(write_frames(tmp_path / "white", composite(frames)), size).images[..., 3]
    assert np.abs(known.astype(int) - found).mean() < 1.5
    assert ((known > 127) != (found > 127)).mean() < 0.01


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48)])
def test_the_middle_of_an_image_that_is_not_square_stays_in_the_middle(tmp_path, height, width):
    frames = moving_disc(height=height, width=width, speed=0.0)
    clip = prepare(write_frames(tmp_path / "x", frames))
    top, left, bottom, right = bounding_box(clip.images[0, ..., 3] > 127)
    assert (top + bottom) / 2 == (left + right) / 2 == 32
    assert bottom - top == right - left == pytest.approx(0.9 * 64, abs=3)


def test_a_video_before_white_is_prepared(tmp_path):
    write_video(tmp_path / "x.mp4", composite(moving_disc(T=30, speed=0.5)), fps=15)
    clip = prepare(tmp_path / "x.mp4")
    assert clip.images.shape == (21, 64, 64, 4)
    assert clip.source_frames[0] == 0 and clip.source_frames[-1] == 29
    assert clip.fps == pytest.approx(20 / (29 / 15), abs=1e-3)
    assert not clip.alpha_known and clip.warnings == ()
    assert (clip.images[:, :2, :, 3] == 0).all()
    assert np.abs(clip.images[0, 32, 26, :3].astype(int) - [200, 120, 30]).max() < 20


def test_a_webm_with_alpha_is_prepared(tmp_path):
    with av.open(str(tmp_path / "x.webm"), "w") as file:
        stream = file.add_stream("libvpx-vp9", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 72, 72, "yuva420p"
        for image in moving_disc():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgba")))
        file.mux(stream.encode())
    clip = prepare(tmp_path / "x.webm")
    assert clip.alpha_known and clip.fps == 10
    assert clip.images[0, 32, 24, 3] == 255 and clip.images[0, 0, 0, 3] == 0


def test_the_object_keeps_its_motion_unless_the_square_follows_it(tmp_path):
    folder = write_frames(tmp_path / "x", moving_disc(T=11, width=120))
    middles = []
    for recenter in (False, True):
        clip = prepare(folder, size=64, recenter=recenter)
        boxes = np.stack([bounding_box(image[..., 3] > 127) for image in clip.images])
        middles.append((boxes[:, 1] + boxes[:, 3]) / 2)
        assert (np.ptp(boxes[:, 3] - boxes[:, 1])) <= 1
    assert np.ptp(middles[0]) > 15
    assert np.ptp(middles[1]) <= 1 and middles[1].mean() == pytest.approx(32, abs=1)


def test_an_object_cut_by_the_border_is_reported(tmp_path):
    frames = moving_disc(T=8, speed=4.0)
    assert prepare(write_frames(tmp_path / "inside", frames[:6])).warnings == ()
    (warning,) = prepare(write_frames(tmp_path / "out", frames)).warnings
    assert warning == (
        "the object touches the border of the image (right) in 2 of 8 frames and is cut off there"
    )


def test_frames_without_the_object_are_reported(tmp_path):
    frames = moving_disc(T=6)
    frames[2, ..., 3] = 0
    clip = prepare(write_frames(tmp_path / "x", frames))
    assert clip.warnings == ("no object is visible in 1 of 6 frames",)
    assert (clip.images[2, ..., 3] == 0).all()


def test_alpha_that_is_empty_everywhere_is_refused(tmp_path):
    frames = moving_disc()
    frames[..., 3] = 0
    with pytest.raises(InputError, match="alpha is empty in all 6 frames"):
        prepare(write_frames(tmp_path / "x", frames))


def test_nothing_but_white_is_refused(tmp_path):
    frames = np.full((6, 32, 32, 3), 255, np.uint8)
    with pytest.raises(InputError, match="nothing but background in all 6 frames"):
        prepare(write_frames(tmp_path / "x", frames))


@pytest.mark.parametrize("color", [(0, 0, 0), (0, 1, 0), (0.9, 0.9, 0.9), (0.5, 0.5, 0.5)])
def test_an_object_is_cut_out_of_a_background_of_any_color(tmp_path, color):
    frames = moving_disc()
    clip = prepare(write_frames(tmp_path / "x", composite(frames, color)))
    known = prepare(write_frames(tmp_path / "known", frames))
    assert not clip.alpha_known and clip.warnings == () and clip.crop == known.crop
    difference = composite(clip.images).astype(int) - composite(known.images)
    assert np.abs(difference).mean() < 1
    assert ((known.images[..., 3] > 127) != (clip.images[..., 3] > 127)).mean() < 0.01


@pytest.mark.parametrize("name", ["noisy_white.avi", "green.mp4"])
def test_a_noisy_or_green_background_changes_the_crop_by_a_few_percent_only(name):
    clean, clip = prepare(REPORTS / "clean.m4v"), prepare(REPORTS / name)
    assert clip.crop.side == pytest.approx(clean.crop.side, rel=0.07) and clip.warnings == ()


def test_a_busy_background_is_refused(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 72, 72, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"border differ; pass --remove-background"):
        prepare(write_frames(tmp_path / "x", frames))


def test_a_veil_of_faint_alpha_is_not_the_object(tmp_path):
    frames = moving_disc()
    known = prepare(write_frames(tmp_path / "known", frames))
    veil = np.random.default_rng(0).integers(1, 4, frames.shape[:3], dtype=np.uint8)
    frames[..., 3] = np.maximum(frames[..., 3], veil)
    clip = prepare(write_frames(tmp_path / "x", frames))
    assert clip.crop == known.crop and clip.warnings == ()
    np.testing.assert_allclose(composite(clip.images), composite(known.images), atol=4)
    assert not clip.images[0, :2, :, 3].any()


@pytest.mark.parametrize("quality", [75, 90])
def test_noise_of_compression_is_not_the_object(tmp_path, quality):
    frames = moving_disc()
    known = prepare(write_frames(tmp_path / "known", frames))
    (tmp_path / "x").mkdir()
    noise = np.random.default_rng(0).normal(0, 3, (6, 72, 72, 3))
    for t, frame in enumerate(composite(frames) + noise):
        noisy = Image.fromarray(np.rint(frame.clip(0, 255)).astype(np.uint8))
        noisy.save(tmp_path / "x" / f"{t}.jpg", quality=quality, subsampling=0)
    clip = prepare(tmp_path / "x")
    assert clip.warnings == () and clip.crop.side == pytest.approx(known.crop.side, rel=0.08)
    outside = known.images[..., 3] == 0
    assert (clip.images[outside][:, 3] <= 12).mean() > 0.98


def test_a_background_that_is_not_white_can_be_removed(tmp_path, monkeypatch):
    frames = moving_disc()
    monkeypatch.setattr(matting, "remove_background", lambda images: frames)
    folder = write_frames(tmp_path / "x", composite(frames, (0, 0, 1)))
    clip = prepare(folder, size=64, remove_background=True)
    known = prepare(write_frames(tmp_path / "known", frames))
    assert clip.alpha_known
    np.testing.assert_array_equal(clip.images, known.images)


def test_a_clip_with_alpha_needs_no_removal(tmp_path, monkeypatch):
    monkeypatch.setattr(matting, "remove_background", None)
    folder = write_frames(tmp_path / "x", moving_disc())
    assert prepare(folder, size=64, remove_background=True).alpha_known


@pytest.mark.parametrize("options", [{"frames": 3}, {"fps": math.nan}, {"start": -1.0}])
def test_options_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(InputError, match="expected"):
        load_clip(tmp_path, **options)


@pytest.mark.parametrize(("size", "ratio"), [(8, 0.9), (5000, 0.9), (64, 0.0), (64, 1.1)])
def test_sizes_and_ratios_out_of_range_are_refused(tmp_path, size, ratio):
    clip = load_clip(write_frames(tmp_path / "x", moving_disc()))
    with pytest.raises(InputError, match="expected"):
        clip.square(size, ratio)


def test_a_clip_keeps_the_resolution_of_its_source_and_has_a_mask(tmp_path):
    frames = moving_disc(height=72, width=96)
    clip = load_clip(write_frames(tmp_path / "x", frames))
    np.testing.assert_array_equal(composite(clip.frames), composite(frames))
    assert np.array_equal(clip.mask, frames[..., 3] > 12)
    assert clip.crop(0.9) == clip.square(64, 0.9).crop


def test_a_square_clip_of_another_size_is_refused(tmp_path):
    clip = prepare(write_frames(tmp_path / "x", moving_disc()), size=64)
    assert clip.square(64, 0.9) is clip
    with pytest.raises(InputError, match="128 pixels, found 64"):
        clip.square(128, 0.9)


def test_a_prepared_frame_is_a_picture_for_other_programs(tmp_path):
    clip = prepare(write_frames(tmp_path / "x", moving_disc()))
    write_png(tmp_path / "frame.png", clip.images[0])
    over = composite(np.asarray(Image.open(tmp_path / "frame.png")))
    np.testing.assert_array_equal(over, composite(clip.images[0]))
