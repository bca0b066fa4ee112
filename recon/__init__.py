"""Reconstruction: from a grid of posed images to a deformable 3D Gaussian scene, and its export.

    grid ──fit──▶ scene ──render, render_video, export──▶ images, videos, PLY, GLB and splat files

Example:
    >>> from recon import export, fit, load_scene
    >>> scene = fit("examples/robot", quality="draft")
    >>> scene.save("out/scene")
    >>> image = scene.render(scene.cameras[0], time=0.5)
    >>> export(scene, "out", formats=["ply", "glb"])

Public names are imported on first use, so that `import recon` and `recon.grid` need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.evaluation import Evaluation, evaluate, evaluate_grid, evaluate_scene
    from recon.exporters.folder import export
    from recon.exporters.options import ExportOptions
    from recon.film.rendering import render_video
    from recon.fitting.config import FitConfig, fit_config
    from recon.fitting.reconstruction import fit, reconstruct
    from recon.grid import Camera, Grid, grid_from_views, orbit_camera, read_grid, write_grid
    from recon.progress import Progress
    from recon.scene import Scene, load_scene

_modules = {
    "Camera": "recon.grid",
    "Evaluation": "recon.evaluation",
    "ExportOptions": "recon.exporters.options",
    "FitConfig": "recon.fitting.config",
    "Grid": "recon.grid",
    "Progress": "recon.progress",
    "Scene": "recon.scene",
    "evaluate": "recon.evaluation",
    "evaluate_grid": "recon.evaluation",
    "evaluate_scene": "recon.evaluation",
    "export": "recon.exporters.folder",
    "fit": "recon.fitting.reconstruction",
    "fit_config": "recon.fitting.config",
    "grid_from_views": "recon.grid",
    "load_scene": "recon.scene",
    "orbit_camera": "recon.grid",
    "read_grid": "recon.grid",
    "reconstruct": "recon.fitting.reconstruction",
    "render_video": "recon.film.rendering",
    "write_grid": "recon.grid",
}

__all__ = [
    "Camera",
    "Evaluation",
    "ExportOptions",
    "FitConfig",
    "Grid",
    "Progress",
    "Scene",
    "evaluate",
    "evaluate_grid",
    "evaluate_scene",
    "export",
    "fit",
    "fit_config",
    "grid_from_views",
    "load_scene",
    "orbit_camera",
    "read_grid",
    "reconstruct",
    "render_video",
    "write_grid",
]


def __getattr__(name: str) -> Any:
    if name not in _modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_modules[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
