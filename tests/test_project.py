"""What must agree across the project's own files."""

import re
from pathlib import Path

import pytest

import fourdvd_cli

ROOT = Path(__file__).parents[1]


def test_the_top_version_of_the_changelog_is_that_of_the_package():
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(v for v in versions if v != "Unreleased") == fourdvd_cli.__version__


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check", "bench", "clean"])
def test_the_makefile_has_the_targets_that_people_are_told_of(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_continuous_integration_runs_what_people_run():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert {"make test", "make check"} <= {
        line.split(" #")[0].strip() for line in script.read_text().splitlines()
    }
