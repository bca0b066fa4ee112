"""What must agree across the project's own files."""

import importlib
import re
from pathlib import Path

import pytest

import fourdvd_cli
from tests.benchmarks.harness import PAGE, replace_section

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BENCHMARKS = sorted(path.stem for path in (ROOT / "tests" / "benchmarks").glob("[a-z]*.py"))


def test_the_top_version_of_the_changelog_is_that_of_the_package():
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(v for v in versions if v != "Unreleased") == fourdvd_cli.__version__


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check", "bench", "clean"])
def test_the_makefile_has_the_documented_targets(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_continuous_integration_runs_what_people_run():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert {"make test", "make check"} <= {
        line.split(" #")[0].strip() for line in script.read_text().splitlines()
    }


def test_paths_on_the_map_of_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    block = text.split("## Map of the packages\n")[1].split("\n## ")[0]
    paths, package = [], ROOT
    for line in block.splitlines():
        if not line.startswith("    "):
            continue
        names = re.split(r"\s{2,}", line.strip())[0].split(" · ")
        if not line.startswith("      "):  # a package or folder of the project
            package = ROOT
            paths += [package / name for name in names]
            package = ROOT / names[0]
        else:
            paths += [package / name for name in names]
    assert len(paths) > 40
    assert [str(path.relative_to(ROOT)) for path in paths if not path.exists()] == []


def test_the_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_can_be_imported(name):
    importlib.import_module(f"tests.benchmarks.{name}")


def test_a_benchmark_replaces_only_its_own_section():
    text = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n"
    assert replace_section(text, "x", "new") == text.replace("old", "new")
    assert replace_section(text, "y", "new") is None


@pytest.mark.parametrize(
    "section",
    ["novel-views", "fit", "rasterizer", "fit-step", "unet", "loading", "mesh-renderers",
     "dataset", "clips", "cuda",
     "large-grids", "frozen-set"],
)  # fmt: skip
def test_the_page_of_benchmarks_has_the_section(section):
    assert replace_section(PAGE.read_text(), section, "") is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    links = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    named = re.findall(r"`((?:fourdvd_cli|generation|recon|tests|docs|examples)/[\w./-]+)`", text)
    missing = [target for target in links if not (page.parent / target).exists()]
    missing += [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_headings_that_a_page_links_to_exist(page):
    for file, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        if "://" not in file:
            target = page.parent / file if file else page
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]
