import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from recon.errors import OutputError, OutputExistsError
from recon.film.writing import check_film, write_film
from recon.media import read_video


def moving_bar(frames: int = 4, height: int = 16, width: int = 24) -> list[np.ndarray]:
    images = [np.full((height, width, 3), 255, np.uint8) for _ in range(frames)]
    for index, image in enumerate(images):
        image[:, 4 * index : 4 * index + 4] = (200, 30, 30)
    return images


@pytest.mark.parametrize("fps", [10.0, 12.5, 23.976])
def test_a_video_reads_back_as_it_was_written(tmp_path, fps):
    write_film(tmp_path / "film.mp4", iter(moving_bar()), fps)
    video = read_video(tmp_path / "film.mp4")
    assert video.fps == pytest.approx(fps, rel=1e-3)
    assert np.abs(video.frames.astype(int) - np.stack(moving_bar())).mean() < 12


def test_a_gif_loops_and_reads_back_as_it_was_written(tmp_path):
    write_film(tmp_path / "film.gif", iter(moving_bar()), 10.0)
    with Image.open(tmp_path / "film.gif") as gif:
        assert isinstance(gif, GifImageFile)
        assert gif.n_frames == 4
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 100
        gif.seek(2)
        np.testing.assert_allclose(np.asarray(gif.convert("RGB")), moving_bar()[2], atol=2)


def test_a_name_without_a_suffix_becomes_a_folder_of_png_files(tmp_path):
    write_film(tmp_path / "film", iter(moving_bar()), 10.0)
    names = sorted(path.name for path in (tmp_path / "film").iterdir())
    assert names == [f"frame_{index:04d}.png" for index in range(4)]
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "film" / names[3])), moving_bar()[3]
    )


def test_other_suffixes_are_refused_before_any_frame_is_drawn(tmp_path):
    with pytest.raises(OutputError, match=r"\.mp4 or \.gif"):
        check_film(tmp_path / "film.avi")


@pytest.mark.parametrize("name", ["film.mp4", "film.gif", "film"])
def test_an_older_film_stays_unless_overwriting_is_asked_for(tmp_path, name):
    write_film(tmp_path / name, moving_bar(2), 10.0)
    with pytest.raises(OutputExistsError):
        write_film(tmp_path / name, moving_bar(), 10.0)
    write_film(tmp_path / name, moving_bar(), 10.0, overwrite=True)


@pytest.mark.parametrize("name", ["film.mp4", "film.gif", "film"])
def test_a_film_that_fails_midway_leaves_nothing(tmp_path, name):
    def failing():
        yield from moving_bar(2)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_film(tmp_path / name, failing(), 10.0)
    assert list(tmp_path.iterdir()) == []
