"""What holds for the help of every command, and for the names of all options."""

import re

import pytest
from typer.main import get_command

from fourdvd_cli.app import app
from fourdvd_cli.help import TERMINAL, Command, describe
from fourdvd_cli.options import RENAMED
from fourdvd_cli.reference import PAGE, reference, walk

COMMANDS = {context.command_path: (command, context) for command, context in walk()}
LEAVES = {path: pair for path, pair in COMMANDS.items() if isinstance(pair[0], Command)}
TERMINAL_OPTIONS = {"--json", "--quiet", "--verbose", "--help", "--version"}


def options_of(path: str) -> dict[str, str]:
    """The long names of a command's visible options and the placeholders of their values."""
    rows = [row for rows in describe(*COMMANDS[path]).panels.values() for row in rows]
    found = [re.search(r"(--[\w-]+)(?: (.*))?$", row.name) for row in rows]
    return {match[1]: match[2] or "" for match in found if match}


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_of_a_command_is_whole_in_80_columns_without_a_terminal(
    fourdvd, monkeypatch, path
):
    monkeypatch.setenv("COLUMNS", "80")
    shown = fourdvd(*path.split()[1:], "--help").stdout
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    description = describe(*COMMANDS[path])
    for title, rows in description.panels.items():
        assert f"─ {title} ─" in shown
        for row in rows:
            assert row.name in shown
    words = " ".join(re.sub(r"[│╭╰─╮╯]", " ", shown).split())
    assert "…" not in shown
    assert " ".join(description.paragraphs[0].split()) in words


@pytest.mark.parametrize("path", LEAVES)
def test_every_option_has_a_panel_and_a_sentence(path):
    for title, rows in describe(*COMMANDS[path]).panels.items():
        for row in rows:
            assert row.text.endswith(".") or row.name == "--help", row
            if title == TERMINAL:
                assert row.name.split(", ")[-1] in TERMINAL_OPTIONS, row


def test_required_parameters_are_in_the_usage_line():
    assert describe(*COMMANDS["fourdvd export"]).usage == (
        "fourdvd export SCENE -o DIR -f FORMAT [OPTIONS]"
    )


def test_an_option_has_the_same_value_type_in_every_command():
    values: dict[str, set[str]] = {}
    for path in LEAVES:
        for name, value in options_of(path).items():
            values.setdefault(name, set()).add(value)
    del values["--output"]  # the placeholder names what is written
    del values["--elevation"]  # one for all views, or one for each
    assert {name: kinds for name, kinds in values.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("generate video.mp4 -o grid --radius 3", "distance", 3.0),
        ("grid video.mp4 -o grid --radius 3", "distance", 3.0),
        ("export scene -o out -f glb --faces 99", "max_faces", 99),
        ("data render asset.glb -o out --max-triangles 99", "max_faces", 99),
        ("data objaverse -o out --licence by-nc", "licence", ["by-nc"]),
        ("data objaverse -o out --max-size 7", "max_size", 7),
        ("data pack in -o out --codec webp --quality 7", "quality", 7),
        ("models fetch sv4d2 --accept-licence", "accept_license", True),
        ("train base in -o out --vae vae --start base", "start", "base"),
        ("train base in -o out --vae vae --size high", "size", "high"),
        ("train vae in -o out --batch 2", "batch_size", 2),
    ],
)
def test_names_of_older_versions_are_accepted(arguments, name, value):
    command, context = get_command(app), None
    words = arguments.split()
    context = command.make_context("fourdvd", list(words))
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        context = command.make_context("", list(words), parent=context)
    found = context.params[name]
    assert (str(found) if isinstance(value, str) else found) == value


def test_names_of_older_versions_are_not_shown():
    names = {name for path in LEAVES for name in options_of(path)}
    assert not names & {f"--{old}" for old in RENAMED}
    assert names >= {f"--{new}" for new in RENAMED.values()}


def test_docs_cli_is_generated_from_the_help():
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"
