"""Completeness of an object, judged by a multimodal language model.

    four views of one frame over white ──▶ the model ──▶ {"complete": true, "reason": "…"}

The paper uses CogVLM; here any `Judge` can be used (see `judges`). An answer without a verdict does
not reject the grid. The report counts such answers, because many of them mean that the model is
unable to judge.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from generation.curation.filters.clips import OPAQUE, evenly
from recon.grid import read_grid
from recon.grid.grid import composite
from recon.media import encode_image, in_rows, tile_images

PROMPT = """The picture shows one 3D model from four sides. Decide whether it is a complete object.

Complete: a whole character, animal, vehicle, plant, machine or other thing as one would meet it. \
Style is not a fault: low-poly, toy-like, made of blocks or of one color is complete.
Not complete: only a part of such an object (an arm without a body, one leg, half a machine), an \
object with parts missing or falling apart, loose fragments, or nothing that can be recognised.

Answer with one line of JSON and nothing else:
{"complete": true or false, "reason": "at most 15 words"}"""
PROMPT_SHA256 = hashlib.sha256(PROMPT.encode()).hexdigest()

VIEWS = 4
TILE_PX = 384
MARGIN = 1.1  # relative to the object's longer side
MAX_REASON_CHARACTERS = 200


class Judge(Protocol):
    """A multimodal language model."""

    @property
    def name(self) -> str:
        """Name of the model; answers are reused only for the same name."""
        ...

    def answer(self, picture: Image.Image, prompt: str) -> str:
        """Answer a prompt about an RGB picture."""
        ...


@dataclass(frozen=True)
class Judgement:
    """The answer of a model about a grid.

    Attributes:
        complete: the verdict; None if the answer has none.
        reason: reason that the model gives, shortened; empty if it gives none.
        answer: full text of the answer.
        model: name of the model.
        prompt_sha256: hash of the prompt.
    """

    complete: bool | None
    reason: str
    answer: str
    model: str
    prompt_sha256: str = PROMPT_SHA256

    def is_by(self, judge: Judge) -> bool:
        """Return whether model and prompt are the same as those of a judge."""
        return (self.model, self.prompt_sha256) == (judge.name, PROMPT_SHA256)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Judgement:
        """Create a judgement from the result of `asdict`; raise ValueError for anything else."""
        if values.keys() != {each.name for each in fields(cls)}:
            raise ValueError(f"expected a judgement, found {sorted(values)}")
        return cls(**values)


def judge_completeness(picture: Image.Image, judge: Judge) -> Judgement:
    """Ask a model about the picture of a grid; errors of the judge are passed on."""
    answer = judge.answer(picture, PROMPT)
    complete, reason = parse_answer(answer)
    return Judgement(complete, reason, answer, judge.name)


def parse_answer(answer: str) -> tuple[bool | None, str]:
    """Extract verdict and reason from an answer, ignoring other text; (None, "") without one."""
    for found in re.finditer(r"\{[^{}]*\}", answer):
        try:
            values = json.loads(found.group())
        except ValueError:
            continue
        if isinstance(values.get("complete"), bool):
            return values["complete"], str(values.get("reason", ""))[:MAX_REASON_CHARACTERS]
    return None, ""


def picture_for_judge(folder: Path) -> bytes:
    """Tile the middle frame of a grid folder in four views, two by two over white, as PNG.

    The images are cropped to the object, so that small objects are visible.

    Raises:
        GridError: the grid is not valid.
    """
    grid = read_grid(folder)
    tiles: list[np.ndarray | None] = [None] * VIEWS
    for place, view in enumerate(evenly(grid.V, VIEWS)):
        images = grid.of_view(int(view))
        cut_out = _cut_out(grid.images[images[len(images) // 2]])
        tiles[place] = np.asarray(cut_out.resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC))
    return encode_image(tile_images(in_rows(tiles, 2)), ".png")


def _cut_out(rgba: np.ndarray) -> Image.Image:
    """Crop to a square around the object with a margin, over white; an empty image stays whole."""
    image = Image.fromarray(rgba)
    rows, columns = np.nonzero(rgba[..., 3] >= 255 * OPAQUE)
    if len(rows):
        row, column = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
        half = MARGIN * (1 + max(np.ptp(rows), np.ptp(columns))) / 2
        left, top = round(float(column - half)), round(float(row - half))
        side = round(float(2 * half))
        image = image.crop((left, top, left + side, top + side))  # transparent outside
    return Image.fromarray(composite(np.asarray(image)))
