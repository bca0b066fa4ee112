"""What imports must not do, beyond the contracts of import-linter in pyproject.toml."""

import ast
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fourdvd_cli", "recon", "generation")
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def test_what_runs_inside_blender_imports_only_numpy_and_blender():
    graph = grimp.build_graph("generation", include_external_packages=True, cache_dir=None)
    package = "generation.curation.blender"
    inside = {package} | graph.find_descendants(package)
    imported = set().union(*(graph.find_upstream_modules(module) for module in inside)) - inside
    assert imported - set(sys.stdlib_module_names) <= {"numpy", "bpy", "mathutils", "gpu"}


def test_no_module_imports_itself_through_others():
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    for module in graph.modules:
        imported = graph.find_modules_directly_imported_by(module)
        assert not any(graph.chain_exists(other, module) for other in imported), module


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_needs_a_posix_system_to_be_imported(package):
    for path in (ROOT / package).rglob("*.py"):
        imported = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
        assert not imported & POSIX_ONLY, path
