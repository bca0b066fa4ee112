"""Images are clips as viewers show them: animated or not, turned by EXIF, in sRGB."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from recon.errors import GridError
from recon.media import (
    image_size,
    read_image,
    read_shown_image,
    read_video,
    read_video_frames,
    read_video_times,
    shown_size,
)
from recon.media.images import FORMATS

ANIMATED = ["x.webp", "x.png", "x.apng", "x.gif", "x.avif"]
EXACT = {"lossless": True, "quality": 100}
HAS_AVIF = "AVIF" in FORMATS


def disc_frames(T: int = 5, size: int = 40) -> list[Image.Image]:
    """Frames of a disc that moves to the right and gets lighter; transparent elsewhere."""
    rows, columns = np.mgrid[:size, :size]
    frames = np.zeros((T, size, size, 4), np.uint8)
    for t in range(T):
        frames[t, np.hypot(rows - 20, columns - 12 - 3 * t) < 8] = (200, 30 * t, 40, 255)
    return [Image.fromarray(frame) for frame in frames]


def save(path, frames, **options) -> None:
    if path.suffix == ".avif" and not HAS_AVIF:
        pytest.skip("this Pillow reads no AVIF")
    format = {".apng": "PNG"}.get(path.suffix, path.suffix[1:].upper())
    frames[0].save(path, format, save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize("name", ANIMATED)
def test_animations_are_clips_with_alpha_and_times(tmp_path, name):
    path = tmp_path / name
    save(path, disc_frames(), duration=[80, 80, 240, 80, 80], disposal=2, **EXACT)
    video = read_video(path)
    assert video.frames.shape == (5, 40, 40, 4)
    np.testing.assert_allclose(video.times, [0, 0.08, 0.16, 0.4, 0.48])
    np.testing.assert_allclose(read_video_times(path), video.times)
    assert video.fps == pytest.approx(4 / 0.48, abs=1e-3)
    assert (video.frames[:, 0, 0, 3] == 0).all()
    for t, frame in enumerate(video.frames):
        assert np.abs(frame[20, 12 + 3 * t].astype(int) - (200, 30 * t, 40, 255)).max() <= 8
    np.testing.assert_array_equal(read_video_frames(path, [3, 1, 3]), video.frames[[3, 1, 3]])


@pytest.mark.parametrize("name", ANIMATED)
def test_an_animation_of_one_frame_is_a_clip(tmp_path, name):
    save(tmp_path / name, disc_frames(1), duration=80, **EXACT)
    video = read_video(tmp_path / name)
    assert video.frames.shape == (1, 40, 40, 4)
    assert video.times.tolist() == [0] and video.fps == 10


@pytest.mark.parametrize("name", ["x.webp", "x.png", "x.gif"])
def test_durations_that_browsers_do_not_take_are_a_tenth_of_a_second(tmp_path, name):
    save(tmp_path / name, disc_frames(3), duration=0)
    np.testing.assert_allclose(read_video_times(tmp_path / name), [0, 0.1, 0.2])


def test_the_still_image_before_an_animated_png_is_not_a_frame(tmp_path):
    still = Image.new("RGBA", (40, 40), (0, 0, 255, 255))
    save(tmp_path / "x.png", [still, *disc_frames(4)], duration=50, default_image=True)
    video = read_video(tmp_path / "x.png")
    assert len(video.frames) == 4 and (video.frames[:, 0, 0, 3] == 0).all()


@pytest.mark.parametrize("name", ["x.webp", "x.png"])
def test_a_truncated_animation_is_refused(tmp_path, name):
    save(tmp_path / name, disc_frames(), duration=80)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(GridError, match=name):
        read_video(tmp_path / name)


def corners() -> np.ndarray:
    """Red upper left and green upper right quarter on white, [32, 48, 3]."""
    image = np.full((32, 48, 3), 255, np.uint8)
    image[:16, :24], image[:16, 24:] = (200, 30, 30), (30, 180, 40)
    return image


def as_stored(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels that show `image` with an EXIF orientation.

    The orientation says which sides of the shown image the first stored row and column are.
    """
    first_row, first_column = {
        1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left",
        5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom",
    }[orientation].split()  # fmt: skip
    stored = image
    if first_row in ("left", "right"):
        stored = image if first_row == "left" else image[:, ::-1]
        stored = stored if first_column == "top" else stored[::-1]
        return stored.swapaxes(0, 1)
    stored = image if first_row == "top" else image[::-1]
    return stored if first_column == "left" else stored[:, ::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.avif"])
def test_all_eight_orientations_are_applied_to_clips_only(tmp_path, name, orientation):
    if name == "x.avif" and not HAS_AVIF:
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = np.ascontiguousarray(as_stored(corners(), orientation))
    path = tmp_path / name
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    assert shown_size(path) == (32, 48)
    assert image_size(path) == stored.shape[:2] == read_image(path).shape[:2]
    for shown in (read_shown_image(path)[..., :3], read_video(path).frames[0]):
        assert shown.shape == (32, 48, 3)
        assert np.abs(shown.astype(int) - corners())[[4, 4, 28], [4, 44, 24]].max() < 12


def test_colors_follow_the_profile(tmp_path):
    """Swap red and blue by a profile whose primaries are swapped."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    Image.fromarray(corners()).save(tmp_path / "x.png", icc_profile=bytes(profile))
    for read in (read_image, read_shown_image):
        found = read(tmp_path / "x.png")
        assert np.abs(found[4, 4].astype(int) - (30, 30, 200, 255)).max() < 4
        assert found[28, 4].tolist() == [255] * 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
def test_a_profile_of_srgb_or_an_invalid_one_changes_nothing(tmp_path, mode):
    image = Image.fromarray(corners()).convert(mode)
    name = "x.jpg" if mode == "CMYK" else "x.png"
    image.save(tmp_path / name)
    expected = read_image(tmp_path / name).astype(int)
    profiles = [b"no profile"]
    if mode in ("RGB", "RGBA"):
        profiles.append(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for profile in profiles:
        image.save(tmp_path / name, icc_profile=profile)
        assert np.abs(read_image(tmp_path / name) - expected).max() <= 1


def test_the_previews_in_a_photo_are_no_frames(tmp_path):
    """Phones write MPO: a JPEG followed by other JPEGs."""
    buffer = io.BytesIO()
    image = Image.fromarray(corners())
    image.save(buffer, "MPO", save_all=True, append_images=[image.resize((12, 8))])
    (tmp_path / "x.jpg").write_bytes(buffer.getvalue())
    assert read_video(tmp_path / "x.jpg").frames.shape == (1, 32, 48, 3)
    assert shown_size(tmp_path / "x.jpg") == (32, 48)
