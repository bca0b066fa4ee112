"""The Python API as README and docs/python.md show it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import recon
from recon import FitConfig, Grid, Progress, evaluate, evaluate_scene, export, fit, read_grid
from recon.errors import InputError, Interrupted, OutputExistsError
from recon.fitting.densification import Relocation
from recon.scene import load_scene

EXAMPLE = Path(__file__).parents[1] / "examples" / "robot"
TINY = FitConfig(
    iterations=24,
    initial_gaussians=200,
    max_gaussians=300,
    motion_image_size=16,
    middle_image_size=24,
    middle_fraction=0.4,
    densification=Relocation(every=8),
)


@pytest.fixture(scope="module")
def grid() -> Grid:
    """The bundled example: some views and frames of it."""
    full = read_grid(EXAMPLE)
    return full.subset(np.flatnonzero((full.view % 4 == 0) & (full.frame % 5 == 0)))


@pytest.fixture(scope="module")
def steps() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def scene(grid: Grid, steps: list[Progress]) -> recon.Scene:
    return fit(grid, config=TINY, test_grid=grid.subset(np.array([1])), on_step=steps.append)


def test_a_grid_in_memory_becomes_a_scene(scene: recon.Scene, steps: list[Progress]):
    assert [step.step for step in steps] == list(range(1, 25))
    assert steps[0].phase == "static" and steps[-1].phase == "refinement"
    assert {"psnr", "gaussians"} <= set(steps[-1].metrics)
    assert scene.metrics["train"]["psnr"] > 10
    assert scene.metrics["test"]["missing"] == 0


def test_a_saved_scene_is_loaded_and_renders_the_same(scene: recon.Scene, tmp_path: Path):
    scene.save(tmp_path / "scene")
    with pytest.raises(OutputExistsError):
        scene.save(tmp_path / "scene")
    scene.save(tmp_path / "scene", overwrite=True)
    loaded, camera = load_scene(tmp_path / "scene"), scene.cameras[0]
    image = scene.render(camera, time=0.5)
    assert image.shape == (camera.height, camera.width, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(loaded.render(camera, time=0.5), image)
    assert scene.render(camera, 0.5, background=(0, 0, 0)).mean() < image.mean()
    with pytest.raises(InputError):
        scene.render(camera, time=1.01)


def test_a_scene_is_exported(scene: recon.Scene, tmp_path: Path):
    export(scene, tmp_path, formats=["ply", "splat"])
    assert len(list((tmp_path / "ply").glob("*.ply"))) == len(scene.times)
    assert (tmp_path / "export.json").is_file()


def test_a_scene_is_evaluated_in_memory_and_from_files(scene: recon.Scene, tmp_path: Path):
    scene.save(tmp_path / "scene")
    held_out = read_grid(EXAMPLE, "test")
    recon.write_grid(held_out.subset(np.arange(3)), tmp_path / "truth")
    from_files = evaluate(tmp_path / "scene", against=tmp_path / "truth", device="cpu")
    in_memory = evaluate_scene(scene, read_grid(tmp_path / "truth"))
    assert from_files.psnr == in_memory.psnr


def test_a_fit_can_be_stopped(grid: Grid):
    with pytest.raises(Interrupted, match="iteration 1 "):
        fit(grid, config=TINY, should_stop=lambda: True)


def test_public_names_exist_and_others_do_not():
    assert all(getattr(recon, name) for name in recon.__all__)
    assert set(recon.__all__) <= set(dir(recon))
    with pytest.raises(AttributeError, match="nothing"):
        _ = recon.nothing


@pytest.mark.parametrize("module", ["recon", "recon.grid"])
def test_importing_the_grid_imports_no_torch(module: str):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
