"""Write references.json: what the field's own packages compute with random weights.

    python -m tests.generation.metrics.make_references CONSISTENT4D

runs in an environment with torch 2.13.0, torchvision 0.28.0 (`--no-deps` on a CPU), torchmetrics
1.9.0, lpips 0.1.4, transformers 5, stlpips-pytorch 0.0.2, NumPy 2.1 and SciPy 1.14, whose `cov` and
`sqrtm` give the published FVD. CONSISTENT4D is a checkout of github.com/yanqinJiang/Consistent4D at
e6d3e2584b04e7fdc574094913dee9d1b407e217; its I3D runs as TorchScript.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.generation.metrics import random_networks as shared

TARGET = Path(__file__).with_name("references.json")
SLICES = {"vgg": (4, 9, 16, 23, 30), "alex": (2, 5, 8, 10, 12)}


def main() -> None:
    consistent4d = Path(sys.argv[1]) / "evaluation"
    torch.set_num_threads(2)
    _declare_operators()
    found: dict[str, Any] = {"versions": _versions()}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for backbone in ("vgg", "alex"):
            found[f"lpips-{backbone}"] = _lpips(backbone)
            found[f"torchmetrics-{backbone}"] = _torchmetrics(backbone)
        found["st-lpips"] = _st_lpips()
        found["clip"] = _clip()
        found["i3d"] = _i3d(_module(consistent4d / "inception3d.py"))
        found["fvd-pair"] = _fvd(consistent4d)
    TARGET.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "torchvision", "torchmetrics", "lpips", "transformers", "stlpips-pytorch")
    return {name: version(name) for name in (*names, "numpy", "pillow")}


def _declare_operators() -> None:
    """Torchvision without its compiled part imports if its operators are declared."""
    if hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_library"] = library  # it must outlive this function


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    tensors = lambda image: torch.from_numpy(image).movedim(-1, 0)[None].float() / 127.5 - 1  # noqa: E731
    return [(tensors(a), tensors(b)) for a, b in shared.images()]


def _sliced(backbone: str) -> dict[str, torch.Tensor]:
    """Random features and heads under the names of the packages' modules."""
    features, heads = shared.lpips_tensors(backbone)
    state = {}
    for name, tensor in features.items():
        _, index, part = name.split(".")
        number = next(k for k, end in enumerate(SLICES[backbone]) if int(index) < end)
        state[f"net.slice{number + 1}.{index}.{part}"] = tensor
    return state | heads


def _values(network: torch.nn.Module) -> list[float]:
    with torch.no_grad():
        return [float(network(*pair)) for pair in _batches()]


def _loaded(network: torch.nn.Module, backbone: str) -> torch.nn.Module:
    """Load the random weights and check that nothing else was left as it was."""
    outcome = network.load_state_dict(_sliced(backbone), strict=False)
    left = [name for name in outcome.missing_keys if not name.startswith(("scaling", "lins."))]
    assert not left and not outcome.unexpected_keys, (left, outcome.unexpected_keys)
    return network.eval()


def _lpips(backbone: str) -> list[float]:
    import lpips  # pyright: ignore[reportMissingImports]

    return _values(_loaded(lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False), backbone))


def _torchmetrics(backbone: str) -> list[float]:
    from torchmetrics.functional.image.lpips import (  # pyright: ignore[reportMissingImports]
        _LPIPS,
    )

    return _values(_loaded(_LPIPS(net=backbone, pnet_rand=True), backbone))


def _st_lpips() -> list[float]:
    """The values of the package with its own weights; it imports packages that it does not use."""
    for name in ("IPython", "torchsummary"):
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__dict__.update(embed=None, summary=None)
    from stlpips_pytorch import stlpips  # pyright: ignore[reportMissingImports]

    return _values(stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False))


def _clip() -> list[list[float]]:
    """Features of the field's script: Pillow to 512², then the processor, then the network."""
    from PIL import Image
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    network = CLIPVisionModelWithProjection(CLIPVisionConfig(**shared.CLIP_SIZES)).eval()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict(shared.random_state(shapes))
    process = CLIPImageProcessorPil()
    found = []
    for image in (each for pair in shared.images() for each in pair):
        large = Image.fromarray(image).resize((512, 512))
        with torch.no_grad():
            pixels = process(large, return_tensors="pt")["pixel_values"]
            found.append(network(pixel_values=pixels).image_embeds[0].tolist())
    return found


def _i3d(module: Any) -> dict[str, list[float]]:
    network = module.InceptionI3d(400, in_channels=3).eval()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict(shared.random_state(shapes))
    found = {}
    for T in (1, 4, 9):
        with torch.no_grad():
            scripted: Any = torch.jit.trace(network, shared.video(T), check_trace=False)
            logits = scripted(shared.video(T))[0]
        found[str(T)] = [round(float(each), 6) for each in logits[::10]]
    return found


def _fvd(folder: Path) -> list[float]:
    assert np.lib.NumpyVersion(np.__version__) < "2.2.0", "numpy.cov of 2.2 gives NaN here"
    sys.path.insert(0, str(folder))
    script = _module(folder / "compute_fvd.py")
    return [
        float(script.fid_from_feats(shared.features(2 * k, 1), shared.features(2 * k + 1, 1)))
        for k in range(3)
    ]


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
