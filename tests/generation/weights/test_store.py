import hashlib
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from huggingface_hub import constants

from generation.weights.catalogue import published
from generation.weights.store import find_weights, load_module, open_weights, search_folders
from recon.errors import WeightsError
from tests.generation.published_files import tiny_shapes, write_hollow, write_tiny

SV4D2 = published["sv4d2"]
UNET = "model.diffusion_model."


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """Where weights may be: nowhere at first. The environment of the user plays no part."""
    folders = {name: tmp_path / name for name in ("named", "variable", "cache")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("FOURDVD_WEIGHTS", str(folders["variable"]))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folders["cache"]))
    return folders


def put(places, place: str) -> Path:
    """Puts a file where the weights of SV4D 2.0 are looked for."""
    folder = places[place]
    if place == "cache":
        repository = folder / "models--stabilityai--sv4d2.0"
        folder = repository / "snapshots" / "c0ffee"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("c0ffee")
        folder.mkdir(parents=True)
    path = folder / SV4D2.file_name
    path.touch()
    return path


def test_the_named_folder_comes_before_the_variable_and_that_before_the_cache(places):
    cached = put(places, "cache")
    assert find_weights(SV4D2, places["named"]) == find_weights(SV4D2) == cached
    variable = put(places, "variable")
    assert find_weights(SV4D2, places["named"]) == find_weights(SV4D2) == variable
    named = put(places, "named")
    assert find_weights(SV4D2, places["named"]) == named
    assert find_weights(SV4D2) == variable


def test_other_models_and_other_repositories_are_not_taken(places):
    for place in places:
        put(places, place)
    with pytest.raises(WeightsError):
        find_weights(published["sv4d2_8views"], places["named"])


def test_a_variable_that_names_no_folder_is_passed_over(places, monkeypatch):
    cached = put(places, "cache")
    for value in (str(places["named"] / "none"), ""):
        monkeypatch.setenv("FOURDVD_WEIGHTS", value)
        assert find_weights(SV4D2) == cached


def test_what_is_not_found_is_told_with_all_places_and_what_to_type(places):
    with pytest.raises(WeightsError) as failure:
        find_weights(SV4D2, places["named"])
    for folder in places.values():
        assert str(folder) in str(failure.value)
    assert "`fourdvd models fetch sv4d2 --accept-licence`" in (failure.value.hint or "")
    assert "12.0 GB" in (failure.value.hint or "")
    assert "--weights DIR" in (failure.value.hint or "")


def test_a_named_folder_that_is_missing_or_a_file_is_an_error_although_others_have_the_weights(
    places,
):
    path = put(places, "variable")
    with pytest.raises(WeightsError, match="none does not exist"):
        find_weights(SV4D2, places["named"] / "none")
    with pytest.raises(WeightsError, match=f"is a file; name the folder.*{path.parent}"):
        search_folders(path)


def test_a_folder_that_may_not_be_looked_into_is_told(places, monkeypatch):
    def refuse(self, **named):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", refuse)  # modes of files do not stop the user root
    with pytest.raises(WeightsError, match=f"{places['named']}: no permission"):
        find_weights(SV4D2, places["named"])


def test_finding_and_verifying_import_no_torch():
    code = (
        "import sys; from generation import weights, fetching, verification\n"
        "from generation.weights.catalogue import published\n"
        "try: weights.find_weights(published['sv4d2'])\n"
        "except weights.WeightsError: pass\n"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.float16, torch.bfloat16])
def test_a_part_has_its_tensors_without_the_prefix_in_the_type_that_is_wanted(
    tmp_path, stored, wanted
):
    tensors = write_tiny(tmp_path / "x.safetensors", stored)
    part = open_weights(tmp_path / "x.safetensors", SV4D2, tiny_shapes()).part(UNET, wanted, "cpu")
    assert part.keys() == {key.removeprefix(UNET) for key in tensors if key.startswith(UNET)}
    for key, tensor in part.items():
        assert tensor.dtype == wanted
        assert torch.equal(tensor, tensors[UNET + key].to(wanted))


def test_tensors_outlive_the_weights_and_writing_to_them_leaves_the_file_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = write_tiny(path)
    before = path.read_bytes()
    part = open_weights(path, SV4D2, tiny_shapes()).part(UNET, torch.float32, "cpu")
    assert torch.equal(part["out.2.bias"], tensors[f"{UNET}out.2.bias"])
    part["out.2.bias"].zero_()
    assert path.read_bytes() == before


def test_a_part_that_needs_no_conversion_is_mapped_not_copied(tmp_path):
    path = tmp_path / "x.safetensors"
    shapes = {f"{UNET}a": (64, 1024, 1024)}  # 256 MiB, a hole in the file
    weights = open_weights(write_hollow(path, shapes), published["sv3d_u"], shapes)
    before = psutil.Process().memory_info().rss
    part = weights.part(UNET, torch.float32, "cpu")
    assert psutil.Process().memory_info().rss - before < 32 * 2**20
    assert part["a"][-1, -1, -1] == 0


def test_the_sha256_is_that_of_the_whole_file(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tiny(path)
    weights = open_weights(path, SV4D2, tiny_shapes())
    assert weights.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (weights.path, weights.model) == (path, SV4D2)


def test_a_file_of_another_model_is_not_opened(tmp_path):
    write_tiny(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="not the weights of sv3d_u"):
        open_weights(tmp_path / "x.safetensors", published["sv3d_u"])


class Net(torch.nn.Module):
    def __init__(self, persistent: bool = True):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.register_buffer("scale", torch.ones(2), persistent)


def on_meta(persistent: bool = True) -> Net:
    with torch.device("meta"):
        return Net(persistent)


def test_a_module_on_the_meta_device_gets_the_tensors_themselves_and_no_gradients():
    tensors = {key: tensor.double() for key, tensor in Net().state_dict().items()}
    module = load_module(on_meta(), tensors)
    assert module.linear.weight.data_ptr() == tensors["linear.weight"].data_ptr()
    assert module.linear.weight.dtype == torch.float64
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert module.linear(torch.ones(1, 3, dtype=torch.float64)).shape == (1, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"linear.bias": None}, "1 missing \\(linear.bias\\)"),
        ({"linear.lora": torch.ones(1)}, "1 extra \\(linear.lora\\)"),
        ({"linear.bias": torch.ones(5)}, "linear.bias: expected 2, found 5"),
        ({"linear.bias": torch.tensor(1.0)}, "expected 2, found a single number"),
    ],
)
def test_tensors_that_do_not_fit_a_module_are_refused(change, said):
    tensors = Net().state_dict() | change
    with pytest.raises(WeightsError, match=f"do not fit Net; .*{said}"):
        load_module(on_meta(), {key: value for key, value in tensors.items() if value is not None})


def test_nothing_of_a_module_may_stay_on_the_meta_device():
    weights = {k: v for k, v in Net().state_dict().items() if k != "scale"}
    with pytest.raises(WeightsError, match="no numbers for scale"):
        load_module(on_meta(persistent=False), weights)
    module = on_meta()
    module.linear.table = torch.empty(4, device="meta")
    with pytest.raises(WeightsError, match=r"no numbers for linear\.table"):
        load_module(module, Net().state_dict())
