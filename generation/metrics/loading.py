"""Metrics by name, with the weights on this machine; nothing is downloaded and none substituted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from generation.metrics.clip import ClipSimilarity, load_clip_vision
from generation.metrics.fvd import FORMULAS, Formula, Fvd, VideoImages
from generation.metrics.i3d import load_i3d
from generation.metrics.lpips import PerceptualDistance, load_lpips
from generation.metrics.st_lpips import find_st_lpips, load_st_lpips
from generation.weights.metric_catalogue import metric_models
from generation.weights.metric_files import FoundFile, check_metric_files
from generation.weights.verify import file_sha256
from recon.errors import InputError
from recon.metrics.catalog import METRICS, check_names
from recon.metrics.interface import Metric
from recon.metrics.opening import open_metrics


def load_metrics(
    names: Sequence[str],
    weights: str | Path | None = None,
    device: str = "cpu",
    fvd: str = "pair",
) -> list[Metric]:
    """Load metrics, with or without networks, for `recon.evaluate`.

    Example:
        >>> evaluate("out/scene", against="truth", metrics=load_metrics(["lpips", "fvd-f"]))

    Args:
        names: keys of `recon.metrics.catalog.METRICS`.
        weights: folder to search for weights first.
        device: device of the networks.
        fvd: formula of FVD, see `generation.metrics.frechet`.

    Raises:
        InputError: a name or the formula is unknown.
        WeightsError: weights are missing or not the published ones; the hint has the command.
        BackendError: a package is missing.
    """
    check_names(names)
    if fvd not in FORMULAS:
        raise InputError(f"expected the formula {' or '.join(FORMULAS)}, found {fvd!r}")
    images = VideoImages()
    return [_load(name, weights, device, cast(Formula, fvd), images) for name in names]


def _load(
    name: str, weights: str | Path | None, device: str, fvd: Formula, images: VideoImages
) -> Metric:
    if name == "st-lpips":
        path = find_st_lpips()
        own = {"network": "alex", "weights": {path.name: file_sha256(path)}}
        return PerceptualDistance(name, load_st_lpips(path), own, device)
    if not METRICS[name].weights:
        return open_metrics([name])[0]
    found = check_metric_files(metric_models["fvd" if METRICS[name].of_videos else name], weights)
    paths, settings = [each.path for each in found], _settings(found)
    if METRICS[name].of_videos:
        return Fvd(name, load_i3d(paths[0]), images, fvd, settings, device)
    if name == "clip":
        return ClipSimilarity(load_clip_vision(paths[0]), settings, device)
    backbone = "alex" if name == "lpips-alex" else "vgg"
    network = load_lpips(paths[0], paths[1], backbone)
    return PerceptualDistance(name, network, {"network": backbone, **settings}, device)


def _settings(found: Sequence[FoundFile]) -> dict[str, Any]:
    return {
        "weights": {each.path.name: each.sha256 for each in found},
        "published_weights": all(each.published for each in found),
    }
