"""Images keep their colors when downsampled, and all bits under a lossless codec."""

import numpy as np
import pytest

from generation.curation.shards.pack_settings import Codec, resolve_quality
from generation.curation.shards.packed_images import decode, encode, shrink
from recon.errors import InputError
from tests.conftest import make_tiny_grid

LOSSLESS = [codec for codec in Codec if codec.is_lossless]


@pytest.fixture
def image() -> np.ndarray:
    return make_tiny_grid(1, 1, 32, 32).images[0]


def noise(size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 4), np.uint8)


@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_codecs_restore_every_bit(codec):
    picture = shrink(noise(), 16)
    picture[:4, :4] = (1, 2, 3, 0)  # a color that nobody sees
    np.testing.assert_array_equal(decode(encode(picture, codec), codec, 16), picture)


@pytest.mark.parametrize("codec", Codec)
def test_an_opaque_image_keeps_its_alpha(codec, image):
    image[..., 3] = 255
    assert (decode(encode(image, codec, 90), codec, 32)[..., 3] == 255).all()


def test_a_lossy_codec_stays_close_and_is_smaller():
    picture = np.asarray(shrink(make_tiny_grid(1, 1, 64, 64).images[0], 64))
    data = encode(picture, Codec.WEBP, 90)
    assert len(data) < len(encode(noise(64), Codec.WEBP, 90))
    found = decode(data, Codec.WEBP, 64)
    np.testing.assert_array_equal(found[..., 3], picture[..., 3])
    seen = picture[..., 3] == 255
    assert np.abs(found[seen].astype(int) - picture[seen]).mean() < 4


def test_at_full_size_only_hidden_colors_of_an_image_change(image):
    image[0, 0] = (9, 8, 7, 0)
    result = shrink(image, 32)
    seen = image[..., 3] > 0
    np.testing.assert_array_equal(result[seen], image[seen])
    assert (result[~seen] == (255, 255, 255, 0)).all()


def test_hidden_colors_never_reach_a_smaller_image(image):
    other = image.copy()
    other[other[..., 3] == 0] = (255, 0, 0, 0)
    image[image[..., 3] == 0] = 0
    np.testing.assert_array_equal(shrink(image, 12), shrink(other, 12))


def test_an_object_of_one_color_keeps_its_color_at_the_edges(image):
    image[..., :3] = (200, 100, 50)
    small = shrink(image, 16)
    inside = small[..., 3] > 100
    assert inside.any()
    assert np.abs(small[inside][:, :3].astype(int) - (200, 100, 50)).max() <= 2


def test_downsampling_averages_areas():
    stripes = np.zeros((64, 64, 4), np.uint8)
    stripes[..., 3] = 255
    stripes[:, ::2, :3] = 255
    inner = shrink(stripes, 16)[2:-2, 2:-2, :3].astype(int)
    assert np.abs(inner - 127.5).max() < 4


def test_downsampling_keeps_the_covered_area(image):
    before = image[..., 3].mean()
    assert abs(shrink(image, 16)[..., 3].mean() - before) < 1


def test_upsampling_is_an_assertion_error(image):
    with pytest.raises(AssertionError):
        shrink(image, 33)


@pytest.mark.parametrize("codec", Codec)
def test_data_of_another_codec_or_size_are_refused(codec, image):
    data = encode(image, codec, 90)
    other = Codec.PNG if codec is not Codec.PNG else Codec.WEBP
    for bad, size in ((data[: len(data) // 2], 32), (b"", 32), (b"\0" * 64, 32), (data, 16)):
        with pytest.raises(ValueError):
            decode(bad, codec, size)
    with pytest.raises(ValueError):
        decode(data, other, 32)


def test_only_a_lossy_codec_has_a_quality():
    assert resolve_quality(Codec.WEBP, None) == 90
    assert resolve_quality(Codec.PNG, None) is None
    for codec, quality in ((Codec.PNG, 50), (Codec.WEBP_LOSSLESS, 50), (Codec.WEBP, 101)):
        with pytest.raises(InputError):
            resolve_quality(codec, quality)
