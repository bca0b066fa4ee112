"""The scores of a grid, as numbers to compare with limits and as JSON.

What it does not know: how they are measured, which are good.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Scores:
    """What was measured of one grid; units and meaning are those of the modules that measure.

    Attributes:
        coverage: `image_quality`, like the next four.
        cut_off: share of the images in which the object reaches the border.
        sharpness: of the sharpest places.
        clutter: detail on the whole.
        grain: noise.
        motion: `motion`, like the next two; fractions of the object's diagonal per frame.
        peak_motion: of the fastest parts in the fastest frame.
        smoothness: displacement over two frames divided by that over one.
        render_hash: `duplicates`, hexadecimal.
        lpips: `lpips`; None where it is not measured.
    """

    coverage: float
    cut_off: float
    sharpness: float
    clutter: float
    grain: float
    motion: float
    peak_motion: float
    smoothness: float
    render_hash: str
    lpips: float | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        """The scores without the hash, by name."""
        return {name: value for name, value in asdict(self).items() if name != "render_hash"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Scores:
        """What `asdict` made; TypeError or ValueError if it is anything else."""
        if values.keys() != {each.name for each in fields(cls)}:
            raise ValueError(f"expected the scores of a grid, found {sorted(values)}")
        return cls(**values)
