"""The cascade that is part of the package: whole, small, and better than no network."""

from pathlib import Path

import numpy as np

from generation.cascade_files import BRANCH_FILE, LORA_FILE, check_trained
from generation.model_files import open_models
from generation.pipeline import generate
from generation.planning import plan
from generation.recipes import recipes
from generation.settings import GenerateSettings
from generation.trained_weights import BASE, FILES, mini_folder, open_trained
from recon.grid import read_grid
from recon.metrics import psnr
from tests.benchmarks.novel_views import copied, resized, whole_clip

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot"
FRAMES = [0, 4, 8, 12, 16]


def test_all_files_are_there_and_together_below_40_megabytes():
    assert sum((mini_folder() / name).stat().st_size for name in FILES) < 40e6


def test_the_files_belong_together_and_have_the_sizes_of_the_recipe():
    base = open_trained(mini_folder(), BASE)
    assert base.config == recipes["mini"].config
    check_trained({name: mini_folder() / name for name in (LORA_FILE, BRANCH_FILE)}, base.sha256())


def test_views_of_an_object_it_has_never_seen_are_nearer_to_the_truth_than_the_input_is(tmp_path):
    """On the bundled robot, which is in no training set."""
    truth = resized(read_grid(EXAMPLE), 128)
    seen = np.stack([truth.image(0, frame) for frame in FRAMES])
    settings = GenerateSettings("mini", elevation_deg=10.0)
    todo = plan(settings, len(FRAMES))
    made = generate(
        whole_clip(seen), tmp_path / "grid", settings, open_models(todo, settings),
        trained={name: mini_folder() / name for name in todo.needs_trained},
    ).grid  # fmt: skip

    def error(images) -> float:
        """PSNR in dB over white, of the views that are not the input."""
        found = []
        for view in range(1, truth.V):
            for index, frame in enumerate(FRAMES):
                target = over_white(truth.image(view, frame))
                found.append(psnr(over_white(images(view, index)), target))
        return float(np.mean(found))

    copy = copied(truth)
    assert error(made.image) > error(lambda view, index: copy[view, FRAMES[index]]) + 0.5


def over_white(image: np.ndarray) -> np.ndarray:
    alpha = image[..., 3:] / 255
    return image[..., :3] / 255 * alpha + 1 - alpha
