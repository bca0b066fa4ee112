"""The report of a filter run: a folder, which appears only when it is complete.

It holds

    kept.txt         names of the kept grids, one per line; the input of packing
    scores.jsonl     a line for each grid: verdict, reasons, scores, judgement, origin
    filter.json      settings, thresholds, counts
    report.html      table of all grids
    kept_01.png …    sheets of the thumbnails of kept grids, and rejected_01.png …
    strips/          the thumbnails
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from generation.curation.filters.records import Candidate, Verdict
from generation.curation.filters.report_page import ReportRow, report_page
from generation.curation.filters.thresholds import Thresholds
from recon.media import decode_image, in_rows, tile_images, write_png
from recon.output import output_folder, write_json

SCORES_NAME = "scores.jsonl"
SUMMARY_NAME = "filter.json"
KEPT_NAME = "kept.txt"
PAGE_NAME = "report.html"
STRIPS_NAME = "strips"
ORIGINS = ("asset", "source", "licence", "author", "clip")


@dataclass(frozen=True)
class Summary:
    """Counts of a filter run.

    Attributes:
        grids: number of grids.
        kept: number of kept grids.
        rejected: number of rejected grids.
        reasons: number of rejected grids by kind of reason; a grid may have several.
        unmeasured: number of grids that could not be read.
        judged: number of grids with an answer of the language model.
        undecided: number of answers without a verdict.
    """

    grids: int
    kept: int
    rejected: int
    reasons: dict[str, int]
    unmeasured: int
    judged: int
    undecided: int


@dataclass(frozen=True)
class Report:
    """Content of a report.

    Attributes:
        folder: absolute path of the folder of rendered grids.
        candidates: the grids, ordered by name.
        verdicts: verdict about each grid.
        strips: path of the thumbnails of each grid; None if there are none.
        settings: scoring settings as JSON.
        thresholds: thresholds of the scores.
        judge: name of the language model; None if none was asked.
    """

    folder: Path
    candidates: Sequence[Candidate]
    verdicts: Sequence[Verdict]
    strips: Sequence[Path | None]
    settings: dict[str, Any]
    thresholds: Thresholds
    judge: str | None = None

    @property
    def summary(self) -> Summary:
        """Counts of the run."""
        judgements = [verdict.record.judgement for verdict in self.verdicts]
        answers = [each for each in judgements if each is not None] if self.judge else []
        kinds = Counter(
            reason.split(":")[0].split(" as ")[0]
            for verdict in self.verdicts
            for reason in verdict.reasons
        )
        kept = sum(verdict.kept for verdict in self.verdicts)
        return Summary(
            grids=len(self.verdicts),
            kept=kept,
            rejected=len(self.verdicts) - kept,
            reasons=dict(kinds.most_common()),
            unmeasured=sum(verdict.record.scores is None for verdict in self.verdicts),
            judged=len(answers),
            undecided=sum(answer.complete is None for answer in answers),
        )


def strip_name(candidate: Candidate) -> str:
    """Return the path of a grid's thumbnails in a report, which depends on its fingerprint."""
    return f"{STRIPS_NAME}/{candidate.fingerprint}.jpg"


def write_report(report: Report, folder: Path) -> Summary:
    """Write the folder of the report, replacing an earlier report.

    Raises:
        OutputError: the folder cannot be created or replaced.
        OSError: the disk is full or not writable.
    """
    with output_folder(folder, overwrite=True) as partial:
        (partial / STRIPS_NAME).mkdir()
        for candidate, strip in zip(report.candidates, report.strips, strict=True):
            if strip is not None:
                _link(strip, partial / strip_name(candidate))
        _write_lists(report, partial)
        for kept, name in ((True, "kept"), (False, "rejected")):
            chosen = [i for i, verdict in enumerate(report.verdicts) if verdict.kept is kept]
            cells = [
                (report.strips[i], report.candidates[i].name, report.verdicts[i].reasons)
                for i in chosen
            ]
            write_sheets(cells, partial, name)
        rows = _rows(report, folder.resolve())
        (partial / PAGE_NAME).write_text(
            report_page(report.folder.name, rows, _headline(report)),
            encoding="utf-8",
            errors="replace",  # names of folders may hold bytes that are not valid text
        )
        write_json(partial / SUMMARY_NAME, _summary_json(report))
    return report.summary


def _write_lists(report: Report, folder: Path) -> None:
    kept = [verdict.record.name for verdict in report.verdicts if verdict.kept]
    lines = "".join(f"{name}\n" for name in kept)
    (folder / KEPT_NAME).write_text(lines, encoding="utf-8", errors="surrogateescape")
    with (folder / SCORES_NAME).open("w", encoding="utf-8") as file:
        for candidate, verdict in zip(report.candidates, report.verdicts, strict=True):
            file.write(json.dumps(_line(candidate, verdict)) + "\n")


def _line(candidate: Candidate, verdict: Verdict) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "verdict": "kept" if verdict.kept else "rejected",
        "reasons": list(verdict.reasons),
        "duplicate_of": verdict.duplicate_of,
        **{key: getattr(candidate.row, key, None) for key in ORIGINS},
        **verdict.record.to_json(),
    }


def _summary_json(report: Report) -> dict[str, Any]:
    return {
        "folder": str(report.folder),
        "settings": report.settings,
        "language_model": report.judge,
        "thresholds": asdict(report.thresholds),
        **asdict(report.summary),
    }


def _headline(report: Report) -> str:
    counts = report.summary
    parts = [f"{counts.kept} of {counts.grids} grids kept"]
    parts += [f"{count} {kind}" for kind, count in counts.reasons.items()]
    if report.judge:
        parts.append(f"{counts.undecided} of {counts.judged} answers of {report.judge} undecided")
    return " · ".join(parts)


def _rows(report: Report, folder: Path) -> list[ReportRow]:
    to_data = os.path.relpath(report.folder, folder)
    rows = []
    for candidate, verdict, strip in zip(
        report.candidates, report.verdicts, report.strips, strict=True
    ):
        sheet = candidate.folder / "contact_sheet.png"
        rows.append(
            ReportRow(
                name=candidate.name,
                reasons=verdict.reasons,
                scores={} if verdict.record.scores is None else verdict.record.scores.numbers,
                judgement=verdict.record.judgement,
                licence=None if candidate.row is None else candidate.row.licence,
                strip=None if strip is None else strip_name(candidate),
                sheet=f"{to_data}/{candidate.name}/{sheet.name}" if sheet.is_file() else None,
            )
        )
    return rows


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system has no hard links."""
    with suppress(OSError):
        target.hardlink_to(source)
        return
    shutil.copyfile(source, target)


COLUMNS, ROWS = 4, 6
CELL_WIDTH, STRIP_HEIGHT = 384, 192
GAP_PX = 8
FONT_PX = 14
LINE_PX = 18
TEXT_LINES = 3

Cell = tuple[Path | None, str, tuple[str, ...]]
"""Path of the thumbnails, name, reasons."""


def write_sheets(cells: Sequence[Cell], folder: Path, name: str) -> None:
    """Write sheets of thumbnails, `name_01.png` and so on, to a folder."""
    per_page = COLUMNS * ROWS
    pages = range(0, len(cells), per_page)
    digits = max(2, len(str(len(pages))))
    for number, start in enumerate(pages, start=1):
        page = _page(cells[start : start + per_page])
        write_png(folder / f"{name}_{number:0{digits}d}.png", page)


def _page(cells: Sequence[Cell]) -> np.ndarray:
    drawn = [_cell(*cell) for cell in cells]
    return tile_images(in_rows(drawn, COLUMNS), GAP_PX, GAP_PX)


def _cell(strip: Path | None, name: str, reasons: tuple[str, ...]) -> np.ndarray:
    cell = Image.new("RGB", (CELL_WIDTH, STRIP_HEIGHT + TEXT_LINES * LINE_PX), "white")
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(FONT_PX)
    if strip is not None:
        image = decode_image(strip.read_bytes(), "JPEG", mode="RGB")
        cell.paste(Image.fromarray(image), (0, 0))
    for line, text in enumerate([name, *reasons][:TEXT_LINES]):
        color = "#222222" if line == 0 else "#b00020"
        at = (0, STRIP_HEIGHT + line * LINE_PX)
        draw.text(at, _shortened(text, font, draw), fill=color, font=font)
    return np.asarray(cell)


def _shortened(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, draw: ImageDraw.ImageDraw
) -> str:
    """Shorten a text to one line of a cell, without characters that cannot be drawn."""
    text = " ".join(text.encode(errors="replace").decode().split())
    if draw.textlength(text, font) <= CELL_WIDTH:
        return text
    while draw.textlength(text + "…", font) > CELL_WIDTH:
        text = text[:-1]
    return text + "…"
