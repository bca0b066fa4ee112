"""Alpha from any background, from a white one, and of soft silhouettes."""

import sys
from statistics import NormalDist
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from generation.clip import matting
from generation.clip.matting import (
    EDGE,
    cut_from_uniform,
    cut_soft_silhouette,
    object_mask,
    remove_background,
    without_veil,
)
from recon.errors import BackendError, WeightsError
from recon.grid.grid import composite


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """An environment in which rembg finds no weights."""
    for name in ("U2NET_HOME", "XDG_DATA_HOME", "REMBG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def rembg(monkeypatch) -> ModuleType:
    """A stand-in for rembg that segments red pixels and records the image sizes."""
    module = ModuleType("rembg")
    sizes: list[tuple[int, int]] = []

    def new_session(name):
        return f"session of {name}"

    def remove(image, session, alpha_matting, **options):
        assert session in ("session of u2net", "session of u2netp") and alpha_matting
        assert options["alpha_matting_erode_size"] < 10  # so much is lost of thin limbs
        sys.stdout.write("a warning that must not get into the output of --json")
        sizes.append(image.size)
        rgb = np.asarray(image)
        alpha = np.where(rgb[..., 0] > rgb[..., 2] + 50, 255, 0).astype(np.uint8)
        return Image.fromarray(np.dstack([rgb, alpha]))

    vars(module).update(new_session=new_session, remove=remove, sizes=sizes)
    monkeypatch.setitem(sys.modules, "rembg", module)
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    return module


def red_disc_before_blue(T: int = 2, height: int = 40, width: int = 60) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    images = np.full((T, height, width, 3), (20, 40, 200), np.uint8)
    images[:, np.hypot(rows - height / 2, columns - width / 2) < height / 4] = (220, 30, 10)
    return images


def put_network(home, *place):
    path = home.joinpath(*place)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"network")


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        (None, (".u2net", "u2net.onnx")),
        (None, (".rembg", "models", "u2net", "u2net.onnx")),
        ("U2NET_HOME", ("u2net.onnx",)),
        ("U2NET_HOME", ("models", "u2net", "u2net.onnx")),
        ("XDG_DATA_HOME", (".u2net", "u2net.onnx")),
        ("XDG_DATA_HOME", ("rembg", "models", "u2net", "u2net.onnx")),
        ("REMBG_HOME", ("models", "u2net", "u2net.onnx")),
        ("U2NET_HOME", ("u2netp.onnx",)),
        ("REMBG_HOME", ("models", "u2netp", "u2netp.onnx")),
    ],
)
def test_the_object_is_cut_out_by_the_network_wherever_it_lies(
    homeless, monkeypatch, rembg, capsys, variable, place
):
    if variable:
        monkeypatch.setenv(variable, str(homeless / "elsewhere"))
        put_network(homeless / "elsewhere", *place)
    else:
        put_network(homeless, *place)
    images = red_disc_before_blue()
    cut = remove_background(images)
    red = images[..., 0] > 100
    assert (cut[red] == (220, 30, 10, 255)).all()
    assert (cut[~red][:, 3] == 0).all()
    assert capsys.readouterr().out == ""


def test_large_frames_are_matted_small_and_keep_their_own_colors(homeless, monkeypatch, rembg):
    put_network(homeless, ".u2net", "u2net.onnx")
    monkeypatch.setattr(matting, "MATTING_SIDE", 30)
    images = red_disc_before_blue()
    cut = remove_background(images)
    assert vars(rembg)["sizes"] == [(30, 20)] * 2
    assert cut.shape == (2, 40, 60, 4)
    opaque = cut[..., 3] == 255
    assert opaque.sum() > 0.7 * (images[..., 0] > 100).sum()
    np.testing.assert_array_equal(cut[opaque][:, :3], images[opaque])


def test_a_missing_network_is_named_and_not_downloaded(homeless, rembg):
    vars(rembg)["new_session"] = None  # would download
    with pytest.raises(WeightsError, match=r"\.rembg/models/u2net/u2net\.onnx") as caught:
        remove_background(red_disc_before_blue())
    assert caught.value.hint is not None and "rembg d u2net" in caught.value.hint


@pytest.mark.parametrize("missing", ["rembg", "onnxruntime"])
def test_a_missing_package_is_named(monkeypatch, rembg, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BackendError, match="rembg") as caught:
        remove_background(red_disc_before_blue())
    assert caught.value.hint == "pip install 'fourdvd[background]'"


def disc_over_white(noise: float = 0.0, size: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] + 0.5
    radius = np.hypot(rows - size / 2, columns - size / 2)
    alpha = np.clip(size / 4 + 0.5 - radius, 0, 1)[..., None]
    image = 255 - alpha * (255 - np.array([200, 120, 30]))
    image = image + np.random.default_rng(0).normal(0, noise, image.shape)
    return np.rint(image.clip(0, 255)).astype(np.uint8)


def from_white(image: np.ndarray) -> np.ndarray:
    cut = cut_from_uniform(image[None])
    assert cut is not None
    return cut[0]


def test_the_cut_out_looks_the_same_over_white():
    rng = np.random.default_rng(1)
    shadow = disc_over_white()
    shadow[34:44, 8:-8] -= np.linspace(40, 0, 10).astype(np.uint8)[:, None, None]
    inside = np.pad(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), 4, constant_values=255)
    for image in (disc_over_white(), shadow, inside[:, :, 4:-4]):
        over = composite(from_white(image))
        assert np.abs(over.astype(int) - image).max() <= 1


def test_the_object_is_opaque_and_what_is_white_is_empty():
    alpha = from_white(disc_over_white())[..., 3]
    assert alpha[24, 24] == 255 and (alpha[16:32, 16:32] == 255).all()
    assert (alpha[:8] == 0).all() and (alpha[:, -8:] == 0).all()


@pytest.mark.parametrize("least", [254, 250, 244])
def test_noise_of_a_white_background_is_transparent(least):
    image = np.random.default_rng(0).integers(least, 256, (24, 24, 3), dtype=np.uint8)
    assert (from_white(image)[..., 3] == 0).mean() > 0.97
    assert not object_mask(from_white(image)).any()


def test_a_busy_background_has_no_alpha():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert cut_from_uniform(images) is None


def test_a_veil_is_cleared_and_the_soft_edge_of_the_object_stays():
    rgba = from_white(disc_over_white())
    veiled = rgba.copy()
    veiled[..., 3] = np.maximum(rgba[..., 3], 3)
    cleared = without_veil(veiled)
    assert np.array_equal(object_mask(cleared), object_mask(rgba))
    assert (cleared[..., 3] >= rgba[..., 3]).all()
    assert not cleared[:8, :, 3].any()


SIZE, RADIUS = 96, 24
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
DISTANCE = np.hypot(ROWS, COLUMNS)


def disc(blur_px: float, color=(200, 120, 30)) -> np.ndarray:
    """Draw a soft silhouette over white, uint8, [SIZE, SIZE, 3]."""
    alpha = (DISTANCE < RADIUS).astype(float)
    if blur_px:
        alpha = gaussian_filter(alpha, blur_px)
    image = 255 + alpha[..., None] * (np.array(color) - 255.0)
    return np.rint(image).astype(np.uint8)


@pytest.mark.parametrize("blur_px", [0, 2, 6])
@pytest.mark.parametrize("color", [(200, 120, 30), (20, 20, 20), (230, 235, 215)])
def test_the_estimated_edge_is_near_the_true_one(blur_px, color):
    found = cut_soft_silhouette(disc(blur_px, color))
    radius = np.sqrt((found[..., 3] / 255.0).sum() / np.pi)
    outwards = blur_px * NormalDist().inv_cdf(1 - sum(EDGE) / 2)  # where so much is left
    assert radius == pytest.approx(RADIUS + outwards, abs=1.5)
    assert (found[DISTANCE < RADIUS - 8][:, 3] == 255).all()
    assert (found[DISTANCE > RADIUS + 8][:, 3] == 0).all()


def test_a_sharp_image_is_unchanged_except_for_its_edge():
    image = disc(0)
    difference = np.abs(composite(cut_soft_silhouette(image)).astype(int) - image)
    assert difference[np.abs(DISTANCE - RADIUS) > 3].max() <= 3


def test_colors_are_unchanged():
    faded, found = disc(6), cut_soft_silhouette(disc(6))
    seen = found[..., 3] > 0
    assert (found[seen][:, :3] == faded[seen]).all()
    assert (found[~seen][:, :3] == 255).all()


def test_haze_is_removed_and_enclosed_holes_are_filled():
    image = disc(1)
    image[:10] -= 15
    image[DISTANCE < 8] = 255
    found = cut_soft_silhouette(image)
    assert not found[:8, :, 3].any()
    assert (found[DISTANCE < 8][:, 3] == 255).all()
    assert (found[DISTANCE < 5][:, :3] == 255).all()


@pytest.mark.parametrize("level", [255, 254, 252])
def test_an_empty_image_is_transparent(level):
    found = cut_soft_silhouette(np.full((32, 24, 3), level, np.uint8))
    assert found.shape == (32, 24, 4)
    assert not found[..., 3].any()
