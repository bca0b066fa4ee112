"""Help of the commands: its content, and its layout with rich, one panel per group of options.

typer's own panels have seven columns, which leaves 23 characters for the text on a terminal of 80.
Here an option takes two columns: its names with a placeholder for its value, and its description.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

# Titles of panels, for `rich_help_panel`. Panels of options are shown in the order in which they
# first occur among the parameters of a command.
ARGUMENTS = "Arguments"
INPUT = "Input"
MODEL = "Model"
CAMERAS = "Cameras"
IMAGES = "Images"
FIT = "Fit"
MESH = "Mesh"
TRAINING = "Training"
LIMITS = "Limits"
MEASURES = "Optional measures"
METRIC = "Metrics"
OUTPUT = "Output"
MACHINE = "Machine"
TERMINAL = "Terminal"  # always last; --help is here

ASSETS = "Make an asset"
LOOKING = "Render and evaluate"
MODELS = "Weights, data, training"
COMMANDS = "Commands"

NARROWEST_TEXT = 40  # minimum width of the descriptions in characters
FRAME_WIDTH = 6  # characters around the two columns of a panel

_FACTS = re.compile(r"\s*\\?\[([^\[\]]*)\]$")  # typer 0.15 escapes the bracket
_KIND_OF_ERROR = re.compile(r"^(Value|Assertion) error, ")  # pydantic's, which typer 0.29 uses
_RANGE = re.compile(r"(-?[\d.]+)<=x<=([\d.]+)")


class Row(NamedTuple):
    """One option, argument or command.

    Attributes:
        name: names with a placeholder for the value: "-o, --output GRID".
        text: description.
        facts: "required" or the default, and the range: "default: 0; at least 0"; may be empty.
    """

    name: str
    text: str
    facts: str = ""


class Description(NamedTuple):
    """Content of the help of a command.

    Attributes:
        usage: usage line, e.g. "fourdvd export SCENE -o DIR -f FORMAT [OPTIONS]".
        paragraphs: the description; the first paragraph is a summary.
        panels: rows by the title of their panel, in the order in which they are shown.
        epilog: closing lines; may be empty.
    """

    usage: str
    paragraphs: list[str]
    panels: dict[str, list[Row]]
    epilog: list[str]


class Command(TyperCommand):
    """A command whose help is drawn by `render`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; without the words of the library with which typer converts them."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _KIND_OF_ERROR.sub("", error.message)
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the arguments, then the required options, then "[OPTIONS]"."""
        arguments, required = [], []
        for parameter in self.get_params(ctx):
            name = _name(parameter, ctx)
            if name and parameter.param_type_name == "argument":
                arguments.append(name if parameter.required else f"[{name}]")
            elif name and parameter.required:
                required.append(f"{parameter.opts[-1]} {name.split()[-1]}")
        return [*arguments, *required, "[OPTIONS]"]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help into click's formatter."""
        formatter.write(render(describe(self, ctx)))


class Group(TyperGroup):
    """A group of commands whose help is drawn by `render`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help into click's formatter."""
        formatter.write(render(describe(self, ctx)))


def describe(command: Any, ctx: Any) -> Description:
    """Collect the content of the help of a command or of a group of commands.

    Args:
        command: a `Command` or a `Group`.
        ctx: its click context.
    """
    panels: dict[str, list[Row]] = {title: [] for title in (ASSETS, LOOKING, MODELS, ARGUMENTS)}
    for name in command.list_commands(ctx) if isinstance(command, Group) else ():
        member: Any = command.get_command(ctx, name)
        panel = getattr(member, "rich_help_panel", None) or COMMANDS
        panels.setdefault(panel, []).append(Row(name, _paragraphs(member.help)[0]))
    terminal: list[Row] = []
    parameters: list[Any] = command.get_params(ctx)
    for parameter in parameters:
        name = _name(parameter, ctx)
        if name is None:
            continue
        _, text = parameter.get_help_record(ctx)
        row = _row(name, text)
        if parameter.param_type_name == "argument":
            panels[ARGUMENTS].append(row)
        elif panel := getattr(parameter, "rich_help_panel", None):
            panels.setdefault(panel, []).append(row)
        else:
            terminal.append(row)
    panels[TERMINAL] = terminal
    pieces = " ".join(command.collect_usage_pieces(ctx))
    return Description(
        f"{ctx.command_path} {pieces}",
        _paragraphs(command.help),
        {title: rows for title, rows in panels.items() if rows},
        inspect.cleandoc(command.epilog or "").splitlines(),
    )


def render(description: Description) -> str:
    """Draw a help text as wide as the terminal, in color if stdout is a terminal."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    longest = max(len(row.name) for rows in description.panels.values() for row in rows)
    name_width = min(longest, console.width - NARROWEST_TEXT - FRAME_WIDTH)
    with console.capture() as capture:
        console.print(Padding(Text(f"Usage: {description.usage}", style="bold"), 1))
        for paragraph in description.paragraphs:
            console.print(Padding(_marked(paragraph), (0, 1, 1, 1)))
        for title, rows in description.panels.items():
            table = Table.grid(padding=(0, 2, 0, 0), expand=True)
            table.add_column(width=name_width, overflow="fold")
            table.add_column(ratio=1)
            for row in rows:
                text = _marked(row.text)
                if row.facts:
                    text.append(f" [{row.facts}]", style="dim")
                table.add_row(Text(row.name, style="bold cyan"), text)
            console.print(Panel(table, title=title, title_align="left", border_style="dim"))
        for line in description.epilog:
            console.print(Padding(_marked(line), (0, 1)))
    return capture.get()


def _marked(text: str) -> Any:
    """Return a rich text in which option names are colored."""
    from rich.text import Text

    marked = Text(text)
    marked.highlight_regex(r"(?<![\w-])--?[a-z][\w-]*", "cyan")
    return marked


def _name(parameter: Any, ctx: Any) -> str | None:
    """Return the names of a parameter, without the type of an argument; None if it is hidden."""
    record = parameter.get_help_record(ctx)
    if record is None:
        return None
    return record[0].split(" <")[0] if parameter.param_type_name == "argument" else record[0]


def _row(name: str, text: str) -> Row:
    """Parse the text of click's help record: "Text.  [default: (the model's); 1<=x<=20]"."""
    found = _FACTS.search(text)
    if found is None:
        return Row(name, text)
    facts = _RANGE.sub(r"\1 to \2", found[1]).replace("x>=", "at least ")
    for obvious in ("at least 0", "at least 1"):
        facts = facts.removesuffix(obvious).removesuffix("; ")
    if facts.startswith("default: ("):
        facts = facts.replace("(", "", 1).replace(")", "", 1)
    return Row(name, text[: found.start()], facts)


def _paragraphs(text: str | None) -> list[str]:
    blocks = inspect.cleandoc(text or "").split("\n\n")
    return [" ".join(block.split()) for block in blocks]
