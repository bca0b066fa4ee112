"""The HTML page of a report: one sortable table, with relative links only.

The page needs no network and no server. Names, licenses and answers of a model are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple
from urllib.parse import quote

from generation.curation.filters.completeness import Judgement

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
table { border-collapse: collapse }
th, td { padding: 4px 8px; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
th { position: sticky; top: 0; background: #f4f4f4; cursor: pointer; white-space: nowrap }
td.number { text-align: right; font-variant-numeric: tabular-nums }
tr.rejected .verdict { color: #b00020 } tr.kept .verdict { color: #1b6e2b }
img { width: 288px; display: block } .reasons { max-width: 22em }
body.only-kept tr.rejected, body.only-rejected tr.kept { display: none }
"""

_SCRIPT = """
const body = document.querySelector("tbody");
document.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
  const up = head.dataset.up !== "1";
  head.dataset.up = up ? "1" : "0";
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)], difference = Number(x) - Number(y);
    return (Number.isNaN(difference) ? x.localeCompare(y) : difference) * (up ? 1 : -1);
  };
  body.append(...[...body.rows].sort(compare));
}));
document.querySelectorAll("input").forEach(choice => choice.addEventListener("change", () => {
  document.body.className = choice.value;
}));
"""


class ReportRow(NamedTuple):
    """A row of the table.

    Attributes:
        name: name of the grid's folder.
        reasons: reasons why the grid is rejected; empty if it is kept.
        scores: scores by name.
        judgement: judgement of the language model; None if it was not asked.
        licence: license of the asset; None if unknown.
        strip: path of the thumbnails relative to the page; None if there are none.
        sheet: path of the contact sheet relative to the page; None if there is none.
    """

    name: str
    reasons: tuple[str, ...]
    scores: Mapping[str, float | None]
    judgement: Judgement | None
    licence: str | None
    strip: str | None
    sheet: str | None


def report_page(title: str, rows: Sequence[ReportRow], headline: str) -> str:
    """Return the HTML of the page.

    Args:
        title: name of the filtered folder.
        rows: rows of the table, one for each grid.
        headline: counts of the run in one line.
    """
    measured = (name for row in rows for name, value in row.scores.items() if value is not None)
    numbers = list(dict.fromkeys(measured))
    heads = ["images", "name", "verdict", "reasons", *numbers, "complete", "licence"]
    header = "".join(f"<th>{escape(head.replace('_', ' '))}</th>" for head in heads)
    lines = "\n".join(_line(row, numbers) for row in rows)
    choices = " ".join(
        f'<label><input type="radio" name="shown" value="{value}"{checked}> {label}</label>'
        for value, label, checked in (
            ("", "all", " checked"),
            ("only-kept", "kept", ""),
            ("only-rejected", "rejected", ""),
        )
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{escape(title)}: filtered</title>
<style>{_STYLE}</style>
<h1>{escape(title)}</h1>
<p>{escape(headline)}</p>
<p>{choices}</p>
<table>
<thead><tr>{header}</tr></thead>
<tbody>
{lines}
</tbody>
</table>
<script>{_SCRIPT}</script>
</html>
"""


def _line(row: ReportRow, numbers: Sequence[str]) -> str:
    verdict = "rejected" if row.reasons else "kept"
    cells = [
        f"<td>{_images(row)}</td>",
        f"<td>{escape(row.name)}</td>",
        f'<td class="verdict">{verdict}</td>',
        f'<td class="reasons">{"<br>".join(map(escape, row.reasons))}</td>',
        *(_number(row.scores.get(name)) for name in numbers),
        f'<td class="reasons">{_judged(row.judgement)}</td>',
        f"<td>{escape(row.licence or '')}</td>",
    ]
    return f'<tr class="{verdict}">{"".join(cells)}</tr>'


def _images(row: ReportRow) -> str:
    if row.strip is None:
        return ""
    image = f'<img src="{_address(row.strip)}" loading="lazy" alt="">'
    return image if row.sheet is None else f'<a href="{_address(row.sheet)}">{image}</a>'


def _address(path: str) -> str:
    return escape(quote(path, errors="surrogateescape"))


def _number(value: float | None) -> str:
    if value is None:
        return '<td class="number" data-value="-1"></td>'
    return f'<td class="number" data-value="{value}">{value:.3g}</td>'


def _judged(judgement: Judgement | None) -> str:
    if judgement is None:
        return ""
    word = {True: "yes", False: "no", None: "undecided"}[judgement.complete]
    return escape(f"{word}: {judgement.reason}" if judgement.reason else word)
