"""The bundled cascade is complete, small, and better than no network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from generation.pipelines import open_pipeline
from generation.settings import GenerateSettings
from generation.weights.catalogue import BRANCH_FILE, CASCADE_FILES, LORA_FILE
from generation.weights.model_weights import open_cascade_files, open_trained
from generation.weights.store import bundled_folder
from recon.grid import Grid, read_grid
from recon.metrics.image import psnr, ssim
from tests.benchmarks.novel_views import copied, resized, whole_clip

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot"
FRAMES = [0, 4, 8, 12, 16]


def test_all_files_are_there_and_together_below_40_megabytes():
    assert sum((bundled_folder() / name).stat().st_size for name in CASCADE_FILES) < 40e6


def test_the_files_were_trained_together():
    base = open_trained("mini")
    files = {name: bundled_folder() / name for name in (LORA_FILE, BRANCH_FILE)}
    open_cascade_files(files, base.sha256)


@pytest.fixture(scope="module")
def truth() -> Grid:
    """The bundled robot, which is in no training set."""
    return resized(read_grid(EXAMPLE), 128)


@pytest.fixture(scope="module")
def made(truth, tmp_path_factory) -> Grid:
    return generated(truth, tmp_path_factory.mktemp("whole"))


def generated(truth: Grid, folder: Path, coarse_only: bool = False) -> Grid:
    """Generate from the input view at a few frames."""
    seen = np.stack([truth.image(0, frame) for frame in FRAMES])
    chosen = GenerateSettings("mini", elevation_deg=10.0, coarse_only=coarse_only)
    return open_pipeline(chosen).generate(whole_clip(seen), folder / "grid").grid


def mean_over_views(measure: Callable, truth: Grid, images: Callable) -> float:
    """Average a metric over the images of the generated views, over white."""
    found = [
        measure(over_white(images(view, index)), over_white(truth.image(view, frame)))
        for view in range(1, truth.V)
        for index, frame in enumerate(FRAMES)
    ]
    return float(np.mean(found))


@pytest.mark.slow
def test_views_of_an_unseen_object_are_nearer_to_the_truth_than_the_input(truth, made):
    copy = copied(truth)
    of_copy = mean_over_views(psnr, truth, lambda view, index: copy[view, FRAMES[index]])
    assert mean_over_views(psnr, truth, made.image) > of_copy + 0.5


@pytest.mark.slow
def test_the_fine_stage_adds_structure_to_the_coarse_one(truth, made, tmp_path):
    coarse = generated(truth, tmp_path, coarse_only=True)
    of_coarse = mean_over_views(ssim, truth, coarse.image)
    assert mean_over_views(ssim, truth, made.image) > of_coarse


def over_white(image: np.ndarray) -> np.ndarray:
    alpha = image[..., 3:] / 255
    return image[..., :3] / 255 * alpha + 1 - alpha
