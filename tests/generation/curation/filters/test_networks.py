import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from generation.curation.filters.networks import measure_lpips
from generation.metrics.lpips import Lpips, load_lpips
from recon.errors import WeightsError
from tests.generation.curation.filters.discs import clips, steady, textured_disc

# Index of each convolution among the layers of torchvision's VGG16, by block.
BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
CHANNELS = (64, 128, 256, 512, 512)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tensors():
    """Random weights under the names of the published files."""
    generator = torch.Generator().manual_seed(0)
    features, heads, channels = {}, {}, 3
    for layer, (block, width) in enumerate(zip(BLOCKS, CHANNELS, strict=True)):
        for index in block:
            weight = torch.randn(width, channels, 3, 3, generator=generator)
            features[f"features.{index}.weight"] = weight * (2 / (9 * channels)) ** 0.5
            features[f"features.{index}.bias"] = 0.1 * torch.randn(width, generator=generator)
            channels = width
        heads[f"lin{layer}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return features, heads


@pytest.fixture(scope="module")
def files(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    features, heads = tensors
    torch.save({**features, "classifier.0.bias": torch.zeros(3)}, folder / "vgg16.pth")
    save_file(heads, folder / "heads.safetensors")
    return folder / "vgg16.pth", folder / "heads.safetensors"


def naive(first: np.ndarray, second: np.ndarray, features, heads) -> float:
    """Compute LPIPS of a pair of images [H, W, 3] from the paper's formula."""
    found = []
    for image in (first, second):
        x = torch.from_numpy(image).float()[None].movedim(-1, 1) * 2 - 1
        x -= torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
        x /= torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
        layers = []
        for number, block in enumerate(BLOCKS):
            if number:
                x = F.max_pool2d(x, kernel_size=2, stride=2)
            for index in block:
                x = F.conv2d(
                    x,
                    features[f"features.{index}.weight"],
                    features[f"features.{index}.bias"],
                    padding=1,
                ).clamp(min=0)
            layers.append(x[0].numpy().astype(np.float64))
        found.append(layers)
    total = 0.0
    for number, (a, b) in enumerate(zip(*found, strict=True)):
        weights = heads[f"lin{number}.model.1.weight"].flatten().numpy()
        at_pixels = []
        for row in range(a.shape[1]):
            for column in range(a.shape[2]):
                p, q = a[:, row, column], b[:, row, column]
                p, q = p / np.linalg.norm(p), q / np.linalg.norm(q)
                at_pixels.append((weights * (p - q) ** 2).sum())
        total += float(np.mean(at_pixels))
    return total


def test_lpips_agrees_with_a_naive_computation(files, tensors):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 2, 32, 40, 3), dtype=np.float32)
    with torch.inference_mode():
        found = load_lpips(*files)(
            *(torch.from_numpy(each).movedim(-1, 1) for each in (first, second))
        )
    expected = [naive(a, b, *tensors) for a, b in zip(first, second, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_lpips_is_symmetric_and_0_for_equal_images(files):
    first, second = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    network = load_lpips(*files)
    with torch.inference_mode():
        assert network(first, first).item() == 0
        assert network(first, second).item() == pytest.approx(network(second, first).item())


def test_lpips_of_a_grid_is_positive_and_0_without_an_object(files):
    network = load_lpips(*files)
    assert measure_lpips(clips(textured_disc(steady(2), radius=10, V=1)), network) > 0
    assert measure_lpips([None], network) == 0


def test_the_error_for_another_networks_file_names_the_tensor(files, tensors, tmp_path):
    features, heads = tensors
    save_file({**heads, "lin5.model.1.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(WeightsError, match=r"lin5\.model\.1\.weight"):
        load_lpips(files[0], tmp_path / "more.safetensors")
    wrong = {**features, "features.0.bias": torch.zeros(7)}
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError, match=r"features\.0\.bias of shape \(64,\), found \(7,\)"):
        load_lpips(tmp_path / "wrong.safetensors", files[1])
    with pytest.raises(WeightsError, match="missing"):
        load_lpips(files[1], files[1])
    with pytest.raises(WeightsError, match=r"absent\.pth"):
        load_lpips(tmp_path / "absent.pth", files[1])


def test_a_pickle_of_objects_is_refused_without_executing_it(files, tmp_path):
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return ran.touch, ()

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(WeightsError, match="plain tensors"):
        load_lpips(tmp_path / "trap.pth", files[1])
    assert not ran.exists()


def test_tensor_names_are_those_of_the_published_files(tensors):
    features, heads = tensors
    assert Lpips().backbone.state_dict().keys() == features.keys()
    assert Lpips().heads.state_dict().keys() == heads.keys()
