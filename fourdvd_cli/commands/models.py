"""`fourdvd models`: weights of the published networks on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fourdvd_cli import console
from fourdvd_cli.help import MODEL, Command, Group
from fourdvd_cli.options import JsonOption, QuietOption, VerboseOption, WeightsOption
from generation.weights.catalogue import PublishedModel, published, published_model

if TYPE_CHECKING:
    from generation.weights.verify import Check

HEADER = ("model", "file", "size", "gated", "license", "found in")
NAMES = ", ".join(model.label for model in published.values())

models = typer.Typer(
    name="models",
    cls=Group,
    help="List, download and verify the weights of published networks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def parse_model(name: str | PublishedModel) -> PublishedModel:
    """Find a model by its name, with - or _; typer passes a default of this type unchanged."""
    model = name if isinstance(name, PublishedModel) else published_model(name)
    if model is None:
        raise typer.BadParameter(f"expected one of {NAMES}, found {name!r}")
    return model


ModelArgument = Annotated[
    PublishedModel, typer.Argument(metavar="NAME", parser=parse_model, help=f"One of {NAMES}.")
]


@models.command("list", cls=Command)
def list_models(weights: WeightsOption = None, json: JsonOption = False) -> None:
    """List the published networks and where their weights are on this machine."""
    from generation.weights.store import list_published

    found = list_published(weights)
    if json:
        console.print_json({"models": [_listed(*each) for each in found.items()]})
    else:
        console.print_lines(_columns([HEADER, *(_row(*each) for each in found.items())]))


@models.command(cls=Command)
def fetch(
    model: ModelArgument,
    weights: WeightsOption = None,
    accept_license: Annotated[
        bool,
        typer.Option(
            "--accept-license",
            help="Confirm that you have read and accept the license of the weights.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Download the weights of a published network and print their path.

    The weights are stored in --weights, FOURDVD_WEIGHTS or the Hugging Face cache. Run the command
    again to resume an unfinished download. HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are
    respected.
    """
    console.configure(quiet, verbose)
    from generation.weights.hub import fetch_weights

    with console.progress(f"fetching {model.label}", quiet) as report:
        path = fetch_weights(
            model,
            weights,
            accept_license,
            lambda progress: report(progress.step, progress.steps, "MB"),
        )
    console.print_lines([str(path)])


@models.command(cls=Command)
def verify(
    names: Annotated[
        list[PublishedModel] | None,
        typer.Argument(
            metavar="NAME...",
            parser=parse_model,
            help=f"Any of {NAMES}.",
            show_default="all on this machine",
        ),
    ] = None,
    weights: WeightsOption = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Weights file to verify; needs exactly one NAME.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Verify that weights files contain the tensors of their network.

    Compares the names and shapes of the tensors in the headers of the files, which takes a moment;
    values are not checked. Exits with 4 if a file is not valid.
    """
    console.configure(quiet=False, verbose=verbose)
    if file is not None and len(names or []) != 1:
        raise typer.BadParameter("expected exactly one NAME", param_hint="--file")
    from generation.weights.verify import raise_failures, verify_found

    checks = verify_found(names or [], weights, file)
    if json:
        console.print_json({"models": [_checked(each) for each in checks]})
    else:
        alone = len(checks) == 1  # a single error is shown as the error of the command
        console.print_lines([_line(each) for each in checks if each.error is None or not alone])
    raise_failures(checks)


def _listed(model: PublishedModel, path: Path | None) -> dict[str, Any]:
    return {
        "name": model.label,
        "file": model.file_name,
        "size_bytes": model.size_bytes,
        "licence": model.license,
        "licence_url": model.license_url,
        "gated": model.gated,
        "page": model.page,
        "found": path is not None,
        "path": None if path is None else str(path),
    }


def _row(model: PublishedModel, path: Path | None) -> tuple[str, ...]:
    return (
        model.label,
        model.file_name,
        f"{model.size_bytes / 1e9:.1f} GB",
        "yes" if model.gated else "no",
        model.license,
        "– (not found)" if path is None else str(path.parent),
    )


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align rows in columns; unlike a rich table, it never cuts long paths."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _checked(check: Check) -> dict[str, Any]:
    facts = {"path": None if check.path is None else str(check.path)}
    if check.verification is not None:
        facts = check.verification._asdict() | facts
    else:
        facts["error"] = str(check.error)
    return {"name": check.model.label, "ok": check.error is None, **facts}


def _line(check: Check) -> str:
    facts = check.verification
    if facts is None:
        return f"– {check.model.label}: {check.error}"
    return (
        f"✓ {check.model.label}: {check.path} has all tensors ({facts.tensors}, "
        f"{'/'.join(facts.dtypes)}; unused tensors: {facts.missing_unread} missing, "
        f"{facts.extra_unread} extra)"
    )
