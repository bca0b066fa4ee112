"""Files of published models are recognized, and all other files are refused."""

import json
import time
from pathlib import Path

import pytest

from generation.weights.catalogue import expected_shapes, published
from generation.weights.verify import LONGEST_HEADER, verify_weights
from recon.errors import WeightsError
from tests.generation.weights.published_files import tiny_shapes, write_hollow

SV4D2 = published["sv4d2"]
FULL = expected_shapes("sv4d2")


@pytest.mark.parametrize("model", published.values(), ids=published)
def test_a_published_file_of_full_size_passes_in_a_moment(tmp_path, model):
    path = write_hollow(tmp_path / model.file_name, expected_shapes(model.name))
    start = time.perf_counter()
    found = verify_weights(path, model)
    assert time.perf_counter() - start < 2
    assert found.size_bytes == path.stat().st_size
    assert abs(found.size_bytes / model.size_bytes - 1) < 1e-3
    assert found[2:] == (len(expected_shapes(model.name)), ("F32",), 0, 0)


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_any_floating_point_type_passes(tmp_path, dtype):
    assert tiny(tmp_path, dtype=dtype).dtypes == (dtype,)


@pytest.mark.parametrize("holder", published)
@pytest.mark.parametrize("asked", published)
def test_the_file_of_another_model_is_named(tmp_path, holder, asked):
    path = write_hollow(tmp_path / "x.safetensors", expected_shapes(holder))
    if expected_shapes(holder) == expected_shapes(asked):  # also sv4d2 and its 8 views
        verify_weights(path, published[asked])
        return
    with pytest.raises(WeightsError, match=f"the weights of {holder.split('_8')[0]}.*, not of"):
        verify_weights(path, published[asked])


def test_a_file_that_is_almost_that_of_another_model_says_so(tmp_path):
    shapes = dict(expected_shapes("sv3d_p"))
    del shapes["model.diffusion_model.out.2.bias"]
    path = write_hollow(tmp_path / "x.safetensors", shapes)
    with pytest.raises(WeightsError, match="more like that of sv3d_p"):
        verify_weights(path, SV4D2)


READ = [
    "model.diffusion_model.out.2.weight",
    "first_stage_model.decoder.conv_in.bias",
    "conditioner.embedders.0.open_clip.model.visual.proj",
    "conditioner.embedders.1.encoder.encoder.conv_in.bias",
    "conditioner.embedders.1.encoder.quant_conv.bias",
    "conditioner.embedders.4.encoder.encoder.conv_in.bias",
    "conditioner.embedders.4.encoder.quant_conv.bias",
]


@pytest.mark.parametrize("key", READ)
def test_a_tensor_that_is_read_must_be_there(tmp_path, key):
    with pytest.raises(WeightsError, match=f"1 missing \\({key}\\)"):
        tiny(tmp_path, without=[key])


@pytest.mark.parametrize("key", READ)
def test_a_tensor_that_is_read_must_have_its_shape(tmp_path, key):
    with pytest.raises(WeightsError, match=f"1 of another shape \\({key}: expected .*found 9×9"):
        tiny(tmp_path, more={key: (9, 9)})


@pytest.mark.parametrize("key", READ)
def test_a_part_that_is_read_may_have_nothing_besides(tmp_path, key):
    with pytest.raises(WeightsError, match=f"1 extra \\({key}_too\\)"):
        tiny(tmp_path, more={f"{key}_too": (1,)})


@pytest.mark.parametrize("dtype", ["I64", "F8_E4M3"])
def test_a_tensor_that_is_read_must_be_of_a_usual_float_type(tmp_path, dtype):
    with pytest.raises(WeightsError, match=f"1 neither float16.*{READ[0]}: {dtype}"):
        tiny(tmp_path, dtypes={READ[0]: dtype})


@pytest.mark.parametrize("key", sorted(tiny_shapes().keys() - set(READ) - {
    "model.diffusion_model.out.2.bias",
    "model.diffusion_model.middle_block.1.time_mixer.mix_factor",
}))  # fmt: skip
def test_what_nothing_reads_may_be_missing_or_of_any_shape_and_type(tmp_path, key):
    assert tiny(tmp_path, without=[key]).missing_unread == 1
    assert tiny(tmp_path, more={key: (3,)}, dtypes={key: "I64"})[4:] == (0, 0)


@pytest.mark.parametrize(
    "key",
    [
        "conditioner.embedders.0.open_clip.model.attn_mask",
        "conditioner.embedders.0.open_clip.model.transformer.resblocks.0.ln_1.bias",
        "first_stage_model.encoder.conv_in.bias",
        "first_stage_model.post_quant_conv.bias",
    ],
)
def test_left_overs_beside_the_parts_that_are_read_are_only_counted(tmp_path, key):
    found = tiny(tmp_path, more={key: (2, 2)})
    assert (found.extra_unread, found.missing_unread) == (1, 0)


@pytest.mark.parametrize(
    "key",
    ["lora_unet_out_2.lora_up.weight", "model_ema.out", "model.diffusion.x", "proj_out.weight"],
)
def test_whatever_belongs_to_no_part_of_the_network_is_refused(tmp_path, key):
    with pytest.raises(WeightsError, match=f"1 extra \\({key}\\)"):
        tiny(tmp_path, more={key: (2, 2)})


def test_sv3d_needs_no_second_conditioning_vae(tmp_path):
    shapes = {key: shape for key, shape in tiny_shapes().items() if "embedders.4" not in key}
    path = write_hollow(tmp_path / "x.safetensors", shapes)
    assert verify_weights(path, published["sv3d_u"], shapes).tensors == len(shapes)


def test_a_message_shows_the_first_keys_and_counts_the_others(tmp_path):
    path = write_hollow(tmp_path / "lora.safetensors", {f"lora.{i}": (1,) for i in range(50)})
    with pytest.raises(WeightsError) as failure:
        verify_weights(path, SV4D2)
    message = str(failure.value)
    assert "50 extra (lora.0, lora.1, lora.10, …)" in message
    assert "more like" not in message
    assert len(message) < 800
    assert "`fourdvd models fetch sv4d2 --accept-license`" in (failure.value.hint or "")


PICKLES = [b"PK\x03\x04" + bytes(600), b"\x80\x02}q\x00" + bytes(600), b"\x80\x04\x95" + bytes(600)]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 11981341372\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>Access denied</body></html>", "web page.*license"),
        (b"\n\n  <html lang='en'>", "web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error/>", "web page"),
        (POINTER, "git lfs pull"),
        *((pickle, "pickle") for pickle in PICKLES),
        (b'{"error": "Invalid username or password."}', "not a safetensors file"),
        (b"abc", "not a safetensors file"),
        ((LONGEST_HEADER + 1).to_bytes(8, "little") + b"{}", "at most"),
        (b"\xff" * 700, "at most"),
        ((50).to_bytes(8, "little") + b'{"a": ', "ends inside its header"),
        ((20).to_bytes(8, "little") + b"{not JSON at all....", "damaged"),
        ((12).to_bytes(8, "little") + b"{" + b"\xff" * 11, "damaged"),
        ((60).to_bytes(8, "little") + b"{" * 60, "damaged"),
        ((10).to_bytes(8, "little") + b'{"a": [1]}', "damaged"),
        ((10).to_bytes(8, "little") + b'{"a":null}', "damaged"),
    ],
)
def test_what_is_no_safetensors_file_is_told_apart(tmp_path, content, said):
    path = tmp_path / "sv4d2.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"(?s){said}") as failure:
        verify_weights(path, SV4D2)
    assert str(path) in str(failure.value)
    assert failure.value.hint


@pytest.mark.parametrize("cut", [1, 4096, 5_000_000_000])
def test_a_file_that_is_cut_off_tells_how_much_is_there(tmp_path, cut):
    path = write_hollow(tmp_path / "x.safetensors", FULL)
    whole = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(whole - cut)
    with pytest.raises(WeightsError, match=f"expected {whole} bytes, found {whole - cut}"):
        verify_weights(path, SV4D2)


def test_a_file_with_extra_bytes_at_its_end_is_refused(tmp_path):
    path = write_hollow(tmp_path / "x.safetensors", FULL)
    with path.open("ab") as file:
        file.write(b"?")
    with pytest.raises(WeightsError, match=f"found {path.stat().st_size}"):
        verify_weights(path, SV4D2)


@pytest.mark.parametrize("offsets", [[0, 12], [4, 16], [16, 0]])
def test_a_header_that_contradicts_itself_is_refused(tmp_path, offsets):
    header = {"model.diffusion_model.a": {"dtype": "F32", "shape": [4], "data_offsets": offsets}}
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(max(offsets[1], 0)))
    with pytest.raises(WeightsError, match="damaged"):
        verify_weights(path, SV4D2)


def test_a_header_whose_length_looks_like_a_web_page_is_none(tmp_path):
    for padding in range(256):
        shapes = tiny_shapes() | {"conditioner." + "x" * padding: (1,)}
        path = write_hollow(tmp_path / "x.safetensors", shapes, align=1)
        if path.read_bytes()[:1] == b"<":
            assert verify_weights(path, SV4D2, tiny_shapes()).extra_unread == 1
            return
    pytest.fail("no header has such a length")


def test_a_folder_and_a_missing_file_are_told(tmp_path):
    with pytest.raises(WeightsError, match="found a folder"):
        verify_weights(tmp_path, SV4D2)
    with pytest.raises(WeightsError, match="no such file"):
        verify_weights(tmp_path / "none.safetensors", SV4D2)


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    path = write_hollow(tmp_path / "x.safetensors", tiny_shapes())

    def refuse(*arguments, **named):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # modes of files do not stop the user root
    with pytest.raises(WeightsError, match="no permission to read"):
        verify_weights(path, SV4D2)


def tiny(tmp_path, without=(), more=None, dtype="F32", dtypes=None):
    """Verify the tiny file with some keys removed and others added or changed."""
    shapes = {key: shape for key, shape in tiny_shapes().items() if key not in without}
    path = write_hollow(tmp_path / "x.safetensors", shapes | (more or {}), dtype, dtypes)
    return verify_weights(path, SV4D2, tiny_shapes())
