import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from recon.errors import BackendError
from recon.grid.cameras import orbit_camera
from recon.rasterizers import Rendering
from recon.rasterizers import gsplat as backend
from recon.rasterizers.reference import _composite, project, rasterize_reference
from recon.rendering import camera_tensors

HEIGHT, WIDTH, VIEWS = 17, 23, 2


def scene(count: int = 12, device: str = "cpu") -> dict[str, Tensor]:
    """Arguments of a rasterizer up to `Ks`."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    means = uniform(count, 3) - 0.5
    cameras = [orbit_camera(azimuth, 10, 3.2, 33.8, HEIGHT, WIDTH) for azimuth in (0, 70)]
    viewmats, Ks = camera_tensors(cameras, means)
    return {
        "means": means,
        "quats": uniform(count, 4) - 0.5,
        "scales": 0.02 + 0.2 * uniform(count, 3),
        "opacities": 0.1 + 0.8 * uniform(count),
        "colors": uniform(VIEWS, count, 3),
        "viewmats": viewmats,
        "Ks": Ks,
    }


def draw(
    rasterizer: Callable[..., Rendering],
    inputs: dict[str, Tensor],
    backgrounds: Tensor | None = None,
    means2d: Tensor | None = None,
) -> Rendering:
    return rasterizer(
        **inputs, height=HEIGHT, width=WIDTH, backgrounds=backgrounds, means2d=means2d
    )


def gsplat_in_torch(**arguments: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """`gsplat.rasterization` as its documentation describes it, for the arguments used here."""
    assert arguments["packed"] is False
    assert arguments["render_mode"] == "RGB+D"
    assert arguments["rasterize_mode"] == "classic"
    assert (arguments["near_plane"], arguments["eps2d"]) == (0.01, 0.3)
    height, width = arguments["height"], arguments["width"]
    means, quats, scales = (arguments[name] for name in ("means", "quats", "scales"))
    projections = [
        project(means, quats, scales, viewmat, K, height, width)
        for viewmat, K in zip(arguments["viewmats"], arguments["Ks"], strict=True)
    ]
    means2d = torch.stack([projection.means2d for projection in projections])
    images = [
        _composite(
            projection._replace(means2d=means2d[view]),
            arguments["opacities"],
            arguments["colors"][view],
            arguments["backgrounds"][view],
            height,
            width,
        )
        for view, projection in enumerate(projections)
    ]
    rgb, alpha, depth = (torch.stack(parts) for parts in zip(*images, strict=True))
    return torch.cat([rgb, depth[..., None]], -1), alpha[..., None], {"means2d": means2d}


def loss(rendering: Rendering) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    parts = [
        (part * torch.rand(part.shape, generator=generator).to(part)).sum() for part in rendering
    ]
    return torch.stack(parts).sum()


def assert_agreement(inputs: dict[str, Tensor], tolerance: float) -> None:
    """Images, gradients and the gradient of the probe are those of the reference."""
    means = inputs["means"]
    backgrounds = torch.tensor([[0.2, 0.5, 1.0]]).repeat(VIEWS, 1).to(means)
    fitted = [tensor.requires_grad_() for tensor in list(inputs.values())[:5]]
    results = []
    for function in (backend.rasterize_gsplat, rasterize_reference):
        probe = means.new_zeros(VIEWS, len(means), 2).requires_grad_()
        images = draw(function, inputs, backgrounds, probe)
        results.append([*images, *torch.autograd.grad(loss(images), [*fitted, probe])])
    for found, expected in zip(*results, strict=True):
        scale = expected.abs().max()
        torch.testing.assert_close(found / scale, expected / scale, atol=tolerance, rtol=0)


def test_every_argument_reaches_gsplat_and_every_gradient_comes_back(monkeypatch):
    monkeypatch.setattr(backend, "_rasterization_on", lambda device: gsplat_in_torch)
    assert_agreement(scene(), tolerance=1e-5)


def test_the_means2d_probe_alone_gets_its_gradient(monkeypatch):
    monkeypatch.setattr(backend, "_rasterization_on", lambda device: gsplat_in_torch)
    backgrounds = torch.zeros(VIEWS, 3)
    gradients = []
    for function in (backend.rasterize_gsplat, rasterize_reference):
        probe = torch.zeros(VIEWS, 12, 2, requires_grad=True)
        loss(draw(function, scene(), backgrounds, probe)).backward()
        gradients.append(probe.grad)
    torch.testing.assert_close(*gradients)


def test_images_without_gradients_need_no_means2d_probe(monkeypatch):
    monkeypatch.setattr(backend, "_rasterization_on", lambda device: gsplat_in_torch)
    probe = torch.zeros(VIEWS, 12, 2, requires_grad=True)
    with torch.no_grad():
        images = draw(backend.rasterize_gsplat, scene(), torch.zeros(VIEWS, 3), probe)
    assert images.rgb.shape == (VIEWS, HEIGHT, WIDTH, 3)


def test_without_gaussians_only_the_background_is_drawn(monkeypatch):
    monkeypatch.setattr(backend, "_rasterization_on", lambda device: gsplat_in_torch)
    backgrounds = torch.rand(VIEWS, 3)
    found = draw(backend.rasterize_gsplat, scene(0), backgrounds)
    expected = draw(rasterize_reference, scene(0), backgrounds)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_tensors_on_the_cpu_are_refused_with_the_other_backends_names():
    with pytest.raises(BackendError, match=r"found them on cpu.*'reference'"):
        draw(backend.rasterize_gsplat, scene())


@pytest.fixture
def cuda_machine(monkeypatch):
    """A machine with a CUDA device, by torch's word; gsplat is what the test makes it."""
    backend._load.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "gsplat"]:
        monkeypatch.delitem(sys.modules, name)
    yield monkeypatch
    backend._load.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, **backend_attributes: Any) -> None:
    modules = {name: types.ModuleType(name) for name in ("gsplat", "gsplat.cuda")}
    modules["gsplat"].__dict__["rasterization"] = gsplat_in_torch
    if backend_attributes:
        modules["gsplat.cuda._backend"] = types.ModuleType("gsplat.cuda._backend")
        modules["gsplat.cuda._backend"].__dict__.update(backend_attributes)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_gsplat_with_kernels_is_used(cuda_machine):
    install(cuda_machine, _C=object())
    assert backend._load() is gsplat_in_torch


def test_without_a_cuda_device_the_error_says_so(monkeypatch):
    backend._load.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r"needs a CUDA device.*--device cpu"):
        backend._load()


def test_without_gsplat_the_error_says_how_to_install_it(cuda_machine):
    cuda_machine.setitem(sys.modules, "gsplat", None)
    with pytest.raises(BackendError, match=r"pip install 'fourdvd\[cuda\]'"):
        backend._load()


def test_without_a_cuda_toolkit_the_error_says_what_to_install(cuda_machine):
    install(cuda_machine, _C=None)
    with pytest.raises(BackendError, match=r"no CUDA toolkit.*install a gsplat wheel"):
        backend._load()


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Error building extension 'gsplat_cuda'"),
        ImportError("gsplat_cuda.so: undefined symbol"),
        OSError("CUDA_HOME environment variable is not set"),
    ],
)
def test_a_failed_build_is_reported_with_its_reason(cuda_machine, failure):
    install(cuda_machine)

    def find_spec(name, path=None, target=None):
        if name == "gsplat.cuda._backend":
            raise failure

    cuda_machine.setattr(sys.modules["gsplat.cuda"], "__path__", [], raising=False)
    cuda_machine.setattr(sys, "meta_path", [types.SimpleNamespace(find_spec=find_spec)])
    with pytest.raises(BackendError, match=str(failure)):
        backend._load()


def test_what_gsplat_prints_while_it_builds_stays_off_stdout(cuda_machine, capsys):
    install(cuda_machine)

    def find_spec(name, path=None, target=None):
        print("gsplat: Setting up CUDA")  # noqa: T201
        raise RuntimeError("Error building extension")

    cuda_machine.setattr(sys.modules["gsplat.cuda"], "__path__", [], raising=False)
    cuda_machine.setattr(sys, "meta_path", [types.SimpleNamespace(find_spec=find_spec)])
    with pytest.raises(BackendError):
        backend._load()
    out, err = capsys.readouterr()
    assert out == ""
    assert "Setting up CUDA" in err


@pytest.mark.gpu
def test_gsplat_agrees_with_the_reference_on_cuda():
    # Up to 1.4 the tiles beyond 3 standard deviations are left out: alphas below 0.011.
    assert_agreement(scene(40, device="cuda"), tolerance=2e-2)


@pytest.mark.gpu
def test_gsplat_agrees_on_one_color_for_all_views_and_a_black_background():
    inputs = scene(40, device="cuda")
    inputs["colors"] = inputs["colors"][0]
    found = draw(backend.rasterize_gsplat, inputs)
    expected = draw(rasterize_reference, inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=0)


@pytest.mark.gpu
def test_gsplat_leaves_the_background_where_there_are_no_gaussians():
    backgrounds = torch.rand(VIEWS, 3, device="cuda")
    images = draw(backend.rasterize_gsplat, scene(0, device="cuda"), backgrounds)
    assert torch.equal(images.rgb[:, 0, 0], backgrounds)
    assert images.alpha.abs().max() == 0
