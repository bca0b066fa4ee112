"""Generation: from a video of one object to a grid of views × frames.

    video ──load_clip──▶ clip ──load_pipeline(name)──▶ grid

Example:
    >>> from generation import load_clip, load_pipeline
    >>> clip = load_clip("robot.mp4")
    >>> pipeline = load_pipeline()  # weights are read once, for any number of grids
    >>> grid = pipeline(clip, seed=0, on_step=print)

Public names are imported on first use, so that `import generation` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generation.clip.preparing import Clip, SquareClip, load_clip
    from generation.pipeline import Generated, Pipeline
    from generation.pipelines import load_pipeline
    from generation.plan import Plan
    from generation.presets import Preset, SamplingPlan, make_plan, presets
    from generation.settings import GenerateSettings

_modules = {
    "Clip": "generation.clip.preparing",
    "GenerateSettings": "generation.settings",
    "Generated": "generation.pipeline",
    "Pipeline": "generation.pipeline",
    "Plan": "generation.plan",
    "Preset": "generation.presets",
    "SamplingPlan": "generation.presets",
    "SquareClip": "generation.clip.preparing",
    "load_clip": "generation.clip.preparing",
    "load_pipeline": "generation.pipelines",
    "make_plan": "generation.presets",
    "presets": "generation.presets",
}

__all__ = [
    "Clip",
    "GenerateSettings",
    "Generated",
    "Pipeline",
    "Plan",
    "Preset",
    "SamplingPlan",
    "SquareClip",
    "load_clip",
    "load_pipeline",
    "make_plan",
    "presets",
]


def __getattr__(name: str) -> Any:
    if name not in _modules:
        raise AttributeError(f"module 'generation' has no attribute {name!r}")
    return getattr(importlib.import_module(_modules[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
