"""Tables of the README: made here, and put between the two comments that mark their place.

<!-- bench:NAME -->
… replaced …
<!-- /bench:NAME -->
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; columns after the first are aligned to the right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def replace_section(text: str, name: str, body: str) -> str | None:
    """The text with another body between the marks of a section, or None if they are not there."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        return None
    return f"{before}{begin}\n{body}\n{end}{after}"


def publish(name: str, body: str, readme: Path | None) -> None:
    """Prints a section and, where a README is given, writes it there."""
    print(f"\n{body}\n", flush=True)
    if readme is None:
        return
    text = replace_section(readme.read_text(encoding="utf-8"), name, body)
    if text is None:
        print(f"{readme.name} has no <!-- bench:{name} --> … <!-- /bench:{name} -->: not written",
              file=sys.stderr)  # fmt: skip
        return
    readme.write_text(text, encoding="utf-8")
    print(f"written to {readme.name}, section {name}", file=sys.stderr)


def add_options(parser: argparse.ArgumentParser, section: str) -> None:
    """`--section NAME` and `--readme FILE` / `--no-readme`, for `publish`."""
    parser.add_argument("--section", default=section, help="of the README (default: %(default)s)")
    parser.add_argument("--readme", type=Path, default=README, help="where the section is replaced")
    parser.add_argument("--no-readme", dest="readme", action="store_const", const=None,
                        help="print only")  # fmt: skip
