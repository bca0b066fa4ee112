import gzip
import json
import os
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest

from generation.weights.catalogue import expected_shapes, published, published_model

ROOT = Path(__file__).parents[3]
REFERENCE = Path(os.environ.get("FOURDVD_REFERENCE", ROOT.parent / "shared" / "reference"))
MODELS = list(published.values())


@pytest.mark.parametrize("model", MODELS, ids=published)
def test_the_bundled_list_of_tensors_is_that_of_the_reference(model):
    path = REFERENCE / "manifest" / f"{model.name}.json.gz"
    if not path.is_file():
        pytest.skip(f"no reference data in {REFERENCE} (set FOURDVD_REFERENCE)")
    reference = json.loads(gzip.decompress(path.read_bytes()))
    assert expected_shapes(model.name) == {
        key: tuple(shape) for key, (shape, _) in reference.items()
    }


@pytest.mark.parametrize("model", MODELS, ids=published)
def test_the_number_of_parameters_is_that_of_the_list_of_tensors(model):
    assert model.parameters == sum(map(prod, expected_shapes(model.name).values()))


@pytest.mark.parametrize("model", MODELS, ids=published)
def test_every_prefix_that_is_read_has_tensors(model):
    for prefix in model.read_prefixes:
        assert any(key.startswith(prefix) for key in expected_shapes(model.name))


def test_nothing_reads_the_text_tower_nor_the_vae_of_the_motion():
    model = published["sv4d2"]
    unread = {
        key.rsplit(".", 1)[0]
        for key in expected_shapes("sv4d2")
        if not key.startswith(model.read_prefixes)
    }
    assert "conditioner.embedders.0.open_clip.model.ln_final" in unread
    assert "conditioner.embedders.5.encoder.encoder.conv_in" in unread
    assert "conditioner.embedders.1.encoder.decoder.conv_in" in unread
    assert not any(key.startswith("model.") for key in unread)


@pytest.mark.parametrize("model", MODELS, ids=published)
def test_a_model_is_found_by_the_name_people_type_and_by_that_of_its_file(model):
    assert published_model(model.label) is published_model(Path(model.file_name).stem) is model


def test_a_name_that_is_not_known_is_nobodys():
    assert published_model("sv5d") is None


def test_the_catalogue_imports_nothing_heavy():
    heavy = {"torch", "numpy", "huggingface_hub", "safetensors"}
    code = f"import sys, generation.weights.catalogue; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_a_built_wheel_has_the_lists(tmp_path):
    build = pytest.importorskip("hatchling.builders.wheel")
    included = {
        file.distribution_path for file in build.WheelBuilder(str(ROOT)).recurse_included_files()
    }
    assert {f"generation/weights/manifests/{name}.json.gz" for name in published} <= included
