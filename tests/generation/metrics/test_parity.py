"""The networks and formulas of metrics agree with the field's own packages, on random weights.

references.json holds what the packages computed, see `make_references`.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from generation.metrics.clip import ClipSimilarity, clip_input, load_clip_vision
from generation.metrics.frechet import pair_distance
from generation.metrics.i3d import I3d
from generation.metrics.lpips import Lpips
from generation.metrics.st_lpips import PACKAGE, find_st_lpips, load_st_lpips
from recon.metrics.interface import ImagePair
from tests.generation.metrics import random_networks as shared

REFERENCES = json.loads(Path(__file__).with_name("references.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def distances(network: torch.nn.Module) -> list[float]:
    batches = [
        [torch.from_numpy(image).movedim(-1, 0)[None].float() / 255 for image in pair]
        for pair in shared.images()
    ]
    with torch.inference_mode():
        return [float(network(*pair)) for pair in batches]


@pytest.mark.parametrize("backbone", ["vgg", "alex"])
def test_lpips_parity_with_lpips_and_torchmetrics(backbone):
    network = Lpips(backbone)
    features, heads = shared.lpips_tensors(backbone)
    network.backbone.load_state_dict(features)
    network.heads.load_state_dict(heads)
    found = distances(network.eval())
    assert found == pytest.approx(REFERENCES[f"lpips-{backbone}"], rel=1e-4)
    assert found == pytest.approx(REFERENCES[f"torchmetrics-{backbone}"], rel=1e-4)
    assert found[0] < found[1] < found[2]


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="needs stlpips-pytorch")
def test_st_lpips_parity_with_its_package():
    found = distances(load_st_lpips(find_st_lpips()))
    assert found == pytest.approx(REFERENCES["st-lpips"], rel=1e-4)


def test_clip_parity_with_the_script_of_the_field(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**shared.CLIP_SIZES)
    shapes = {k: v.shape for k, v in CLIPVisionModelWithProjection(config).state_dict().items()}
    text = {"text_projection.weight": torch.zeros(2, 2)}  # the published file has more
    save_file(shared.random_state(shapes) | text, tmp_path / "clip.safetensors")
    network = load_clip_vision(tmp_path / "clip.safetensors", config)
    shown = [image for pair in shared.images() for image in pair]
    with torch.inference_mode():
        features = network(pixel_values=torch.cat([clip_input(each) for each in shown]))
    expected = np.array(REFERENCES["clip"])
    np.testing.assert_allclose(features.image_embeds.numpy(), expected, rtol=1e-4, atol=1e-5)
    metric = ClipSimilarity(network, {})
    alpha = np.ones(shown[0].shape[:2])
    found = metric.measure(ImagePair(0, 0, shown[4] / 255, alpha, shown[5] / 255, alpha))["clip"]
    cosine = expected[4] @ expected[5] / np.prod(np.linalg.norm(expected[4:], axis=1))
    assert found == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("T", [1, 4, 9])
def test_i3d_parity_with_a_torchscript_of_the_published_network(T, i3d):
    with torch.inference_mode():
        logits = i3d(shared.video(T))[0, ::10].tolist()
    scale = np.abs(REFERENCES["i3d"][str(T)]).max()
    assert logits == pytest.approx(REFERENCES["i3d"][str(T)], abs=1e-4 * scale)


@pytest.fixture(scope="module")
def i3d():
    network = I3d().eval()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict(shared.random_state(shapes))
    return network


@pytest.mark.parametrize("k", range(3))
def test_fvd_pair_parity_with_the_published_script_under_numpy_2_1(k):
    found = pair_distance(shared.features(2 * k, 1)[0], shared.features(2 * k + 1, 1)[0])
    assert found == pytest.approx(REFERENCES["fvd-pair"][k], rel=1e-6)
