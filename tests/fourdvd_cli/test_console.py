import io
import json

import pytest
from rich.console import Console

from fourdvd_cli import console
from recon.progress import Progress


def test_without_a_terminal_progress_is_a_line_at_the_end(capsys):
    with console.progress("rendering") as report:
        for done in range(1, 101):
            report(done, 100, f"{done} dB")
    assert capsys.readouterr().err.splitlines() == ["rendering: 100/100 100 dB"]


def test_without_a_terminal_progress_is_a_line_every_few_seconds(capsys, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with console.progress("exporting") as report:
        report(1, None, "a.ply")
        report(2, None, "b.ply")
    assert capsys.readouterr().err.splitlines() == ["exporting: 1 a.ply", "exporting: 2 b.ply"]


def test_on_a_terminal_progress_is_a_bar_that_vanishes(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(console, "_stderr", lambda: terminal)
    with console.progress("fitting") as report:
        report(3, 7, "31.0 dB")
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "fitting" in shown
    assert "31.0 dB" in shown


def test_a_part_without_a_number_of_steps_shows_none(monkeypatch, capsys):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    with monkeypatch.context() as patch:
        patch.setattr(console, "_stderr", lambda: terminal)
        with console.progress("exporting") as report:
            report(3, 7, "views")
            report(0, None, "texture")
    assert "0/?" in terminal.file.getvalue()  # type: ignore[attr-defined]
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with console.progress("exporting") as report:
        report(0, None, "texture")
    assert capsys.readouterr().err == "exporting: texture\n"


def test_quiet_progress_shows_nothing(capsys):
    with console.progress("fitting", quiet=True) as report:
        report(1, 1)
    assert capsys.readouterr() == ("", "")


def test_the_steps_of_a_library_are_shown_with_their_metrics_and_the_time_left(capsys):
    with console.steps("fitting") as on_step:
        metrics = {"psnr": 31.23, "gaussians": 9800, "loss": 0.0123}
        on_step(Progress("static", 3, 3, 200.4, metrics))
    shown = "fitting: 3/3 static · 31.2 dB · 9800 gaussians · loss 0.0123 · 3:20 left\n"
    assert capsys.readouterr().err == shown


def test_on_a_terminal_each_running_part_of_a_batch_has_a_bar(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(console, "_stderr", lambda: terminal)
    with console.parts("inputs") as parts:
        parts.count(1, 4)
        parts.show("fox", "fitting", Progress("static", 3, 7, 200.4))
        parts.show("robot", "exporting", Progress("texture", 0, None))
        parts.end("robot")
        parts.show("fox", "fitting", Progress("motion", 6, 7))
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    last = shown[shown.rindex("inputs") :]
    assert "1/4" in last
    assert "6/7" in last
    assert "fitting · motion" in last
    assert "robot" in shown
    assert "robot" not in last


def test_without_a_terminal_a_batch_has_no_bars(capsys):
    with console.parts("inputs") as parts:
        parts.count(1, 4)
        parts.show("fox", "fitting", Progress("static", 3, 7))
        parts.end("fox")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("quiet", "shown"), [(False, "done\n"), (True, "")])
def test_messages_go_to_stderr_unless_quiet(fourdvd, capsys, quiet, shown):
    console.configure(quiet=quiet, verbose=False)
    console.say("done")
    assert capsys.readouterr() == ("", shown)


def test_json_is_one_object_on_stdout(capsys):
    console.print_json({"psnr": 31.5, "name": "Füchse"})
    assert json.loads(capsys.readouterr().out) == {"psnr": 31.5, "name": "Füchse"}


def test_json_has_a_line_for_each_row_and_is_unchanged_by_that(capsys):
    rows = [{"view": 0, "psnr": 31.5}, {"view": 1, "psnr": None}]
    value = {"psnr": 31.5, "images": rows, "none": [], "axes": [1, 2], "deep": {"a": {"b": [rows]}}}
    console.print_json(value)
    text = capsys.readouterr().out
    assert json.loads(text) == value
    assert text.splitlines()[:6] == [
        "{",
        ' "psnr": 31.5,',
        ' "images": [',
        '  {"view": 0, "psnr": 31.5},',
        '  {"view": 1, "psnr": null}',
        " ],",
    ]
    assert ' "axes": [1, 2],' in text.splitlines()


def test_a_piped_table_is_not_cut(capsys):
    console.print_table(("view", "PSNR"), [("x" * 120, "31.50"), ("all", "30.00")])
    assert "x" * 120 in capsys.readouterr().out
