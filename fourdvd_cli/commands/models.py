"""`fourdvd models`: weights of the models on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fourdvd_cli import console
from fourdvd_cli.help import MODEL, Command, Group
from fourdvd_cli.options import JsonOption, QuietOption, VerboseOption, WeightsOption
from generation.weights.catalogue import (
    BundledModel,
    PublishedModel,
    bundled,
    known_model,
    published,
    published_model,
)
from generation.weights.metric_catalogue import MetricModel, metric_models

if TYPE_CHECKING:
    from generation.weights.metric_files import MetricCheck
    from generation.weights.model_weights import BundledCheck
    from generation.weights.verify import Check
    from recon.progress import Progress

HEADER = ("model", "file", "size", "gated", "license", "found in")
NAMES = ", ".join([*(model.label for model in published.values()), *metric_models])
ALL_NAMES = ", ".join([*bundled, NAMES])

models = typer.Typer(
    name="models",
    cls=Group,
    help="List, download and verify the weights of networks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def parse_model(name: str | PublishedModel | MetricModel) -> PublishedModel | MetricModel:
    """Find a model by its name, with - or _; typer passes a default of this type unchanged."""
    model = (metric_models.get(name) or published_model(name)) if isinstance(name, str) else name
    if model is None:
        raise typer.BadParameter(f"expected one of {NAMES}, found {name!r}")
    return model


def parse_any(
    name: str | PublishedModel | BundledModel | MetricModel,
) -> PublishedModel | BundledModel | MetricModel:
    """Find any model by its name, as `parse_model` does."""
    model = (metric_models.get(name) or known_model(name)) if isinstance(name, str) else name
    if model is None:
        raise typer.BadParameter(f"expected one of {ALL_NAMES}, found {name!r}")
    return model


ModelArgument = Annotated[
    Any, typer.Argument(metavar="NAME", parser=parse_model, help=f"One of {NAMES}.")
]


@models.command("list", cls=Command)
def list_models(weights: WeightsOption = None, json: JsonOption = False) -> None:
    """List the networks of models and metrics and where their weights are on this machine."""
    from generation.weights.metric_files import list_metric_files
    from generation.weights.store import list_bundled, list_published

    own, others = list_bundled(weights).items(), list_published(weights).items()
    metrics = list_metric_files(weights).items()
    if json:
        listed = [*(_listed_bundled(*each) for each in own), *(_listed(*each) for each in others)]
        measuring = [_listed_metric(*each) for each in metrics]
        console.print_json({"models": listed, "metrics": measuring})
    else:
        rows = [*(_bundled_row(*each) for each in own), *(_row(*each) for each in others)]
        rows += [_metric_row(*each) for each in metrics]
        console.print_lines(_columns([HEADER, *rows]))


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

    The weights are stored in --weights, FOURDVD_WEIGHTS or the Hugging Face cache, those of metrics
    in torch's cache. Run the command
    again to resume an unfinished download. HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are
    respected.
    """
    console.configure(quiet, verbose)
    from generation.weights.hub import fetch_weights
    from generation.weights.metric_files import fetch_metric_files

    with console.progress(f"fetching {model.label}", quiet) as report:

        def on_step(progress: Progress) -> None:
            report(progress.step, progress.steps, "MB")

        if isinstance(model, MetricModel):  # under licenses that need not be accepted
            paths = fetch_metric_files(model, weights, on_step)
        else:
            paths = [fetch_weights(model, weights, accept_license, on_step)]
    console.print_lines([str(path) for path in paths])


@models.command(cls=Command)
def verify(
    names: Annotated[
        list[Any] | None,
        typer.Argument(
            metavar="NAME...",
            parser=parse_any,
            help=f"Any of {ALL_NAMES}.",
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
    values are not checked. Of metrics the content is compared with the published one. Exits with 4
    if a file is not valid.
    """
    console.configure(quiet=False, verbose=verbose)
    if file is not None and len(names or []) != 1:
        raise typer.BadParameter("expected exactly one NAME", param_hint="--file")
    from generation.weights.metric_files import verify_metrics
    from generation.weights.model_weights import verify_bundled
    from generation.weights.store import holds_bundled, list_bundled
    from generation.weights.verify import raise_failures, verify_found
    from recon.errors import WeightsError

    found = [model for model, paths in list_bundled(weights).items() if paths]
    own = [model for model in names or found if isinstance(model, BundledModel)]
    others = [model for model in names or [] if isinstance(model, PublishedModel)]
    checks = [
        verify_bundled(model, weights if names or holds_bundled(model, weights) else None, file)
        for model in dict.fromkeys(own)
    ]
    published_checks = verify_found(others, weights, file) if others or not names else []
    measuring = [model for model in names or [] if isinstance(model, MetricModel)]
    metric_checks = verify_metrics(measuring, weights, file) if measuring or not names else []
    errors = [each.error for each in (*checks, *published_checks, *metric_checks)]
    if not errors:
        raise WeightsError(
            "expected weights on this machine, found none",
            hint="`fourdvd models list` shows what can be fetched",
        )
    if json:
        facts = [*map(_checked_bundled, checks), *map(_checked, published_checks)]
        facts += map(_checked_metric, metric_checks)
        console.print_json({"models": facts})
    else:
        lines = [*map(_bundled_line, checks), *map(_line, published_checks)]
        lines += map(_metric_line, metric_checks)
        alone = len(lines) == 1  # a single error is shown as the error of the command
        kept = [line for line, error in zip(lines, errors, strict=True) if not (alone and error)]
        console.print_lines(kept)
    raise_failures(errors)


def _listed_bundled(model: BundledModel, paths: Sequence[Path]) -> dict[str, Any]:
    return {
        "name": model.label,
        "file": model.files[0],
        "size_bytes": sum(path.stat().st_size for path in paths) if paths else None,
        "licence": model.license,
        "licence_url": None,
        "gated": False,
        "page": None,
        "found": bool(paths),
        "path": str(paths[0]) if paths else None,
    }


def _bundled_row(model: BundledModel, paths: Sequence[Path]) -> tuple[str, ...]:
    size = sum(path.stat().st_size for path in paths)
    return (
        model.label,
        model.files[0] if len(model.files) == 1 else f"{len(model.files)} files",
        f"{size / 1e6:.0f} MB" if paths else "–",
        "no",
        model.license,
        str(paths[0].parent) if paths else "– (not found)",
    )


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


def _listed_metric(model: MetricModel, paths: Sequence[Path]) -> dict[str, Any]:
    files = [
        {
            "file": file.name,
            "url": file.url,
            "licence": file.license,
            "sha256": file.sha256 or None,
            "git_blob": file.git_blob or None,
            "size_bytes": file.size_bytes,
        }
        for file in model.files
    ]
    return {
        "name": model.name,
        "files": files,
        "found": bool(paths),
        "paths": [str(path) for path in paths],
    }


def _metric_row(model: MetricModel, paths: Sequence[Path]) -> tuple[str, ...]:
    sizes = [file.size_bytes for file in model.files if file.size_bytes]
    return (
        model.name,
        model.files[0].name if len(model.files) == 1 else f"{len(model.files)} files",
        f"{sum(sizes) / 1e6:.0f} MB" if sizes else "–",
        "no",
        model.license,
        str(paths[0].parent) if paths else "– (not found)",
    )


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align rows in columns; unlike a rich table, it never cuts long paths."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _checked_bundled(check: BundledCheck) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": str(check.paths[0]) if check.paths else None}
    if check.error is not None:
        facts["error"] = str(check.error)
    return {"name": check.model.label, "ok": check.error is None, **facts}


def _bundled_line(check: BundledCheck) -> str:
    if check.error is not None:
        return f"– {check.model.label}: {check.error}"
    return f"✓ {check.model.label}: all tensors in {', '.join(map(str, check.paths))}"


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


def _checked_metric(check: MetricCheck) -> dict[str, Any]:
    facts: dict[str, Any] = {"paths": [str(each.path) for each in check.files]}
    if check.error is not None:
        facts["error"] = str(check.error)
    return {"name": check.model.name, "ok": check.error is None, **facts}


def _metric_line(check: MetricCheck) -> str:
    if check.error is not None:
        return f"– {check.model.name}: {check.error}"
    kinds = {True: "the published file", False: "not the published file"}
    return f"✓ {check.model.name}: " + ", ".join(
        f"{each.path} ({kinds[each.published]})" for each in check.files
    )
