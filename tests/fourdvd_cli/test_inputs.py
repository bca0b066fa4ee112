"""What is wrong with the arguments is said before torch is imported, in one wording."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fourdvd_cli.commands.evaluate import CONSISTENT4D
from recon.evaluation.consistent4d import PREFIX

REPOSITORY = Path(__file__).parents[2]
GRID, VIDEO = REPOSITORY / "examples" / "robot", REPOSITORY / "examples" / "robot.mp4"
GENERATE = ["generate", VIDEO, "-o", GRID]
SCRIPT = """
import io, json, sys
from contextlib import redirect_stderr
from fourdvd_cli.app import main

found = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fourdvd", *arguments]
    with redirect_stderr(io.StringIO()) as printed:
        try:
            main()
        except SystemExit as ending:
            code = ending.code
    from fourdvd_cli import console
    console._stderr.cache_clear()
    found.append((code, printed.getvalue(), "torch" in sys.modules))
print(json.dumps(found))
"""
MISSING = [
    ["evaluate", "gone.mp4", "--mosaic", "2x4", "--against", GRID],
    ["evaluate", GRID, "--against", "gone"],
    ["evaluate", GRID, "--against", "consistent4d:gone"],
    ["evaluate", "--table", "gone.toml"],
    ["grid", "gone.mp4", "-o", "g"],
    ["grid", "gone", "--dnerf", "-o", "g"],
    ["grid", VIDEO, "--cameras", "gone.json", "-o", "g"],
    ["grid", VIDEO, "--masks", "gone", "-o", "g"],
    ["render", "gone", "-o", "v.mp4"],
    ["render", GRID, "-o", "v.mp4", "--camera", "gone.json"],
    ["render", GRID, "-o", "v.mp4", "--camera", "source", "--over", "gone.mp4"],
    ["view", "gone"],
    ["reconstruct", "gone", "-o", "s"],
    ["generate", "gone.mp4", "-o", "g"],
    ["run", "gone.mp4", "-o", "r"],
    ["export", "gone", "-o", "e", "--format", "ply"],
    ["train", "lift", "gone", "-o", "t"],
    ["data", "pack", "gone", "-o", "p"],
    ["data", "filter", "gone"],
]
WRONG = {  # what the message says, and the arguments
    "ROWSxCOLUMNS": ["evaluate", GRID, "--against", GRID, "--mosaic", "axb"],
    "v.mkv": ["render", GRID, "-o", "v.mkv"],
    "without suffix": ["render", GRID, "-o", "v.mp4", "--transparent"],
    "the camera 'source'": ["render", GRID, "-o", "v.mp4", "--over", VIDEO],
    "bogus": ["render", GRID, "-o", "v.mp4", "--camera", "bogus"],
    "--coarse-only: expected a model with": [*GENERATE, "--model", "sv4d2", "--coarse-only"],
    "--orbit-model: expected no": [*GENERATE, "--model", "lift", "--orbit-model", "sv3d_p"],
    "--azimuths: expected ascending": [*GENERATE, "--azimuths", "20,10"],
    "--stop: expected": [*GENERATE, "--start", 5, "--stop", 3],
    "--steps: expected no steps for lift": [*GENERATE, "--model", "lift", "--steps", 3],
    "--distance: expected 0.001 to": ["generate", "gone.mp4", "-o", GRID, "--distance", 0],
    "--source-fps: expected": ["run", VIDEO, "-o", GRID, "--source-fps", 0],
    "--steps": ["run", GRID, "-o", "r", "--steps", 3],
    "--fps": ["grid", GRID, "-o", GRID, "--dnerf", "--fps", 12],
    "--mosaic": ["grid", GRID, "-o", GRID, "--dnerf", "--mosaic", "2x4"],
    "--elevation": ["grid", VIDEO, "-o", GRID, "--cameras", "c.json", "--elevation", "5"],
    "2 azimuths": ["grid", VIDEO, VIDEO, "-o", GRID, "--azimuths", "0"],
    "--init-from": ["train", "lift", GRID, "-o", "t", "--encoder", "e", "--init-from", "i"],
}


def endings(commands: list[list], folder: Path) -> list[tuple[int, str, bool]]:
    """Run commands in one process; return exit code, stderr, and whether torch was imported."""
    arguments = json.dumps([[str(each) for each in command] for command in commands])
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, arguments],
        cwd=folder, env=None, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [tuple(each) for each in json.loads(ran.stdout)]


@pytest.mark.parametrize(
    ("commands", "code", "texts"),
    [
        (MISSING, 3, ["no such file or folder"] * len(MISSING)),
        (list(WRONG.values()), 2, list(WRONG)),
    ],
    ids=["missing", "wrong"],
)
def test_wrong_arguments_are_refused_without_torch(commands, code, texts, tmp_path):
    for command, text, ending in zip(commands, texts, endings(commands, tmp_path), strict=True):
        found, printed, has_torch = ending
        assert found == code, (command, printed)
        assert text in printed, (command, printed)
        assert not has_torch, command
        if code == 3:
            gone = next(str(each) for each in command if "gone" in str(each))
            assert f"error: {gone.removeprefix(CONSISTENT4D)}: " in printed
    assert list(tmp_path.iterdir()) == []


def test_the_prefix_of_consistent4d_is_that_of_the_library():
    assert CONSISTENT4D == PREFIX
