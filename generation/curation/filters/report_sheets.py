"""Sheets of small images with a name and a reason below each, for a look at very many grids.

Letters: none. What it does not know: who is kept and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recon.media import decode_image, write_png

COLUMNS, ROWS = 4, 6
CELL_WIDTH, STRIP_HEIGHT = 384, 192
GAP_PX = 8
FONT_PX = 14
LINE_PX = 18
TEXT_LINES = 3

Cell = tuple[Path | None, str, tuple[str, ...]]
"""Small images, name, reasons."""


def write_sheets(cells: Sequence[Cell], folder: Path, name: str) -> None:
    """Writes `name_01.png` and so on into a folder; nothing where there are no cells."""
    on_a_page = COLUMNS * ROWS
    pages = range(0, len(cells), on_a_page)
    digits = max(2, len(str(len(pages))))
    for number, start in enumerate(pages, start=1):
        page = _page(cells[start : start + on_a_page])
        write_png(folder / f"{name}_{number:0{digits}d}.png", np.asarray(page))


def _page(cells: Sequence[Cell]) -> Image.Image:
    width, height = CELL_WIDTH + GAP_PX, STRIP_HEIGHT + TEXT_LINES * LINE_PX + GAP_PX
    rows = -(-len(cells) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * width + GAP_PX, rows * height + GAP_PX), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(FONT_PX)
    for place, (strip, name, reasons) in enumerate(cells):
        left = GAP_PX + place % COLUMNS * width
        top = GAP_PX + place // COLUMNS * height
        if strip is not None:
            image = decode_image(strip.read_bytes(), "JPEG", mode="RGB")
            page.paste(Image.fromarray(image), (left, top))
        for line, text in enumerate([name, *reasons][:TEXT_LINES]):
            colour = "#222222" if line == 0 else "#b00020"
            at = (left, top + STRIP_HEIGHT + line * LINE_PX)
            draw.text(at, _shortened(text, font, draw), fill=colour, font=font)
    return page


def _shortened(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, draw: ImageDraw.ImageDraw
) -> str:
    """As much of a text as fits a cell, on one line and of letters that can be drawn."""
    text = " ".join(text.encode(errors="replace").decode().split())
    if draw.textlength(text, font) <= CELL_WIDTH:
        return text
    while draw.textlength(text + "…", font) > CELL_WIDTH:
        text = text[:-1]
    return text + "…"
