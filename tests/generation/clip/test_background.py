"""Backgrounds are removed by rembg where it is there, and never by a download."""

import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from generation.clip import background
from generation.clip.background import remove_background
from recon.errors import WeightsError


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """No network's file anywhere that rembg looks at."""
    for name in ("U2NET_HOME", "XDG_DATA_HOME", "REMBG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def rembg(monkeypatch) -> ModuleType:
    """A stand-in that takes what is red for the object and keeps note of the sizes."""
    module = ModuleType("rembg")
    sizes: list[tuple[int, int]] = []

    def new_session(name):
        return f"session of {name}"

    def remove(image, session, alpha_matting):
        assert session == "session of u2net" and alpha_matting
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
    ],
)
def test_the_object_is_cut_out_by_the_network_wherever_it_lies(
    homeless, monkeypatch, rembg, variable, place
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


def test_large_frames_are_matted_small_and_keep_their_own_colours(homeless, monkeypatch, rembg):
    put_network(homeless, ".u2net", "u2net.onnx")
    monkeypatch.setattr(background, "MATTING_SIDE", 30)
    images = red_disc_before_blue()
    cut = remove_background(images)
    assert vars(rembg)["sizes"] == [(30, 20)] * 2
    assert cut.shape == (2, 40, 60, 4)
    opaque = cut[..., 3] == 255
    assert opaque.sum() > 0.7 * (images[..., 0] > 100).sum()
    np.testing.assert_array_equal(cut[opaque][:, :3], images[opaque])


def test_a_missing_network_is_named_and_not_downloaded(homeless, rembg):
    vars(rembg)["new_session"] = None  # would download
    with pytest.raises(WeightsError, match=r"u2net.*\.rembg/models/u2net/u2net\.onnx") as caught:
        remove_background(red_disc_before_blue())
    assert caught.value.hint is not None and "rembg d u2net" in caught.value.hint


@pytest.mark.parametrize("missing", ["rembg", "onnxruntime"])
def test_a_missing_package_is_named(monkeypatch, rembg, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(WeightsError, match="rembg") as caught:
        remove_background(red_disc_before_blue())
    assert caught.value.hint == "pip install 'fourdvd[background]'"
