"""`fourdvd doctor`: what this machine supports."""

from __future__ import annotations

from pathlib import Path

from fourdvd_cli import console
from fourdvd_cli.options import JsonOption


def doctor(json: JsonOption = False) -> None:
    """Show what this machine supports, and what to install for more."""
    from fourdvd_cli.doctor import diagnose

    findings = diagnose(Path.cwd())
    if json:
        console.print_json({name: finding._asdict() for name, finding in findings.items()})
    else:
        console.print_lines([finding.line(name) for name, finding in findings.items()])
