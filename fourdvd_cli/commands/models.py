"""`fourdvd models`: weights of the published networks on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import MODEL, Command, Group
from fourdvd_cli.options import JsonOption, QuietOption, VerboseOption, WeightsOption
from generation.weights.catalogue import PublishedModel, find_model, published

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
    model = name if isinstance(name, PublishedModel) else find_model(name)
    if model is None:
        raise typer.BadParameter(f"expected one of {NAMES}, found {name!r}")
    return model


ModelArgument = Annotated[
    PublishedModel, typer.Argument(metavar="NAME", parser=parse_model, help=f"One of {NAMES}.")
]


@models.command("list", cls=Command)
def list_models(weights: WeightsOption = None, json: JsonOption = False) -> None:
    """List the published networks and where their weights are on this machine."""
    from fourdvd_cli.weights_listing import list_weights, listing_lines

    listed = list_weights(weights)
    if json:
        console.print_json({"models": listed})
    else:
        console.print_lines(listing_lines(listed))


@models.command(cls=Command)
def fetch(
    model: ModelArgument,
    weights: WeightsOption = None,
    accept_licence: Annotated[
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

    They are stored in --weights, FOURDVD_WEIGHTS or the Hugging Face cache. Run the command again
    to resume an unfinished download. HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are
    respected.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.weights_listing import fetch_with_progress

    path = fetch_with_progress(model, weights, accept_licence=accept_licence, quiet=quiet)
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
            help="Verify this file as the weights of the one network named.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Verify that weights files hold the tensors of their network.

    Checks the names and shapes of all tensors that are loaded. Reads only the headers of the files,
    so it is quick. Exits with 4 if a file is not valid.
    """
    console.configure(quiet=False, verbose=verbose)
    if file is not None and len(names or []) != 1:
        raise typer.BadParameter("expected exactly one NAME with it", param_hint="--file")
    from fourdvd_cli.weights_listing import check_weights, report_lines

    checked = check_weights(names or [], weights, file)
    if json:
        console.print_json({"models": checked.results})
    else:
        console.print_lines(report_lines(checked.results))
    checked.raise_if_bad()
