"""`fourdvd models`: the published networks and their weights on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import JsonOption, QuietOption, VerboseOption
from generation.weights.catalogue import PublishedModel, find_model, published

NAMES = ", ".join(model.label for model in published.values())

models = typer.Typer(
    name="models",
    help="Weights of the published networks: list, fetch, verify.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def parse_model(name: str | PublishedModel) -> PublishedModel:
    """The model of a name, with - or _ in it; typer hands its default over as it is."""
    model = name if isinstance(name, PublishedModel) else find_model(name)
    if model is None:
        raise typer.BadParameter(f"{name!r} is none of {NAMES}")
    return model


ModelArgument = Annotated[
    PublishedModel, typer.Argument(metavar="NAME", parser=parse_model, help=f"One of {NAMES}.")
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="DIR",
        help="Folder of weights.",
        show_default="FOURDVD_WEIGHTS, then the Hugging Face cache",
    ),
]


@models.command("list")
def list_models(weights: WeightsOption = None, json: JsonOption = False) -> None:
    """The known models and where their weights are."""
    from fourdvd_cli.weights_listing import list_weights, listing_lines

    listed = list_weights(weights)
    if json:
        console.print_json({"models": listed})
    else:
        console.print_lines(listing_lines(listed))


@models.command()
def fetch(
    model: ModelArgument,
    weights: WeightsOption = None,
    accept_licence: Annotated[
        bool,
        typer.Option(
            "--accept-licence",
            "--accept-license",
            help="You have read the licence of the weights and accept it.",
        ),
    ] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Download the weights of a model and print where they are.

    They go to --weights, FOURDVD_WEIGHTS or the Hugging Face cache. Run again to go on with an
    unfinished download. HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are honoured.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.weights_listing import fetch_with_progress

    path = fetch_with_progress(model, weights, accept_licence=accept_licence, quiet=quiet)
    console.print_lines([str(path)])


@models.command()
def verify(
    names: Annotated[
        list[PublishedModel] | None,
        typer.Argument(
            metavar="NAME",
            parser=parse_model,
            help=f"Some of {NAMES}.",
            show_default="all that are found",
        ),
    ] = None,
    weights: WeightsOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="This file instead, of the one model named."),
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Check that files hold their models' tensors.

    All that are read must be there in the right shapes. Only headers are looked at, so it takes a
    moment. Exit code 4 if one file is not sound.
    """
    console.configure(quiet=False, verbose=verbose)
    if file is not None and len(names or []) != 1:
        raise typer.BadParameter("needs exactly one model beside it", param_hint="--file")
    from fourdvd_cli.weights_listing import check_weights, report_lines

    checked = check_weights(names or [], weights, file)
    if json:
        console.print_json({"models": checked.results})
    else:
        console.print_lines(report_lines(checked.results))
    checked.raise_if_bad()
