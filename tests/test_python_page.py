"""The code of docs/python.md runs, on a short clip and with short fits."""

import dataclasses
import re
from pathlib import Path

import pytest

from recon.fitting import config
from recon.grid import read_grid
from recon.media import write_video

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.M | re.S
)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with a video of five frames; fits in it take a dozen iterations."""
    robot = read_grid(ROOT / "examples" / "robot")
    write_video(tmp_path / "robot.mp4", robot.over(indices=robot.of_view(0)[:5]), robot.fps)
    usual = config.fit_config

    def short(*arguments, **named) -> config.FitConfig:
        settings = usual(*arguments, **named)
        return dataclasses.replace(
            settings, iterations=12, initial_gaussians=60, max_gaussians=60, threads=1
        )

    monkeypatch.setattr("recon.fitting.reconstruction.fit_config", short)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_code_of_the_page_runs_from_top_to_bottom(workplace, capsys):
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
    for path in ("scene/scene.json", "export/ply", "export/glb/scene.glb", "orbit.mp4"):
        assert (workplace / "out" / path).exists()
    assert capsys.readouterr().err == ""
