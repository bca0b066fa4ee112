"""Reference of all commands in Markdown, from their help: `python -m fourdvd_cli.reference`.

A test compares docs/cli.md with what this module writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typer.main import get_command

from fourdvd_cli.app import app
from fourdvd_cli.errors import EXIT_CODES
from fourdvd_cli.help import Description, Group, Row, describe

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
EVERYWHERE = "--help"  # left out of the tables


def walk() -> Iterator[tuple[Any, Any]]:
    """Yield every command and group of the application with click's context of it."""
    command = get_command(app)
    yield from _walk(command, command.make_context("fourdvd", [], resilient_parsing=True))


def reference() -> str:
    """Return the page: the exit codes, and every command with its options by panel."""
    pages = [(context.command_path, describe(command, context)) for command, context in walk()]
    (_, overview), *others = pages
    codes = [(str(code), meaning) for code, meaning in EXIT_CODES.items()]
    parts = [
        "# Commands",
        "Generated from `--help` by `make docs`; do not edit.",
        _section(overview),
        "## Exit codes",
        _table(("code", "meaning"), codes),
    ]
    for path, description in others:
        parts += [f"{'#' * len(path.split())} {path}", _section(description)]
    return "\n\n".join(parts) + "\n"


def _walk(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    yield command, context
    if isinstance(command, Group):
        for name in command.list_commands(context):
            member: Any = command.get_command(context, name)
            yield from _walk(
                member, member.make_context(name, [], parent=context, resilient_parsing=True)
            )


def _section(description: Description) -> str:
    parts = [f"    {description.usage}", *map(_text, description.paragraphs)]
    for title, rows in description.panels.items():
        cells = [_cells(row) for row in rows if row.name != EVERYWHERE]
        if cells:
            parts.append(_table((title, ""), cells))
    return "\n\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row) -> tuple[str, str]:
    facts = f" [{row.facts}]" if row.facts else ""
    return f"`{row.name}`".replace("|", "\\|"), f"{_text(row.text)}{facts}"


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(reference(), encoding="utf-8")
