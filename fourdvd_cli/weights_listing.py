"""Published weights as the command line tells of them, fetches and verifies them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fourdvd_cli import console
from generation.weights.catalogue import PublishedModel, published
from generation.weights.hub import fetch_weights
from generation.weights.store import find_weights, search_folders
from generation.weights.verify import verify_weights
from recon.errors import WeightsError

HEADER = ("model", "file", "size", "gated", "licence", "found in")
MEGABYTE = 10**6


class Checked(NamedTuple):
    """What came of verifying files.

    Attributes:
        results: for each model its name, whether it is ok, the path, and the facts or the error.
        errors: of those that are not ok.
    """

    results: list[dict[str, Any]]
    errors: list[WeightsError]

    def raise_if_bad(self) -> None:
        """Raises the error of a single file, or one that counts them."""
        if len(self.results) == len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            count = f"{len(self.errors)} of {len(self.results)}"
            raise WeightsError(
                f"{count} models have no sound weights", hint=self.errors[0].hint
            ) from self.errors[0]


def list_weights(folder: Path | None) -> list[dict[str, Any]]:
    """The catalogue and where the weights of each model are found.

    Raises:
        WeightsError: `folder` is not a folder.
    """
    search_folders(folder)
    return [
        {
            "name": model.label,
            "file": model.file_name,
            "size_bytes": model.size_bytes,
            "licence": model.licence,
            "licence_url": model.licence_url,
            "gated": model.gated,
            "page": model.page,
            "found": (path := find_if_here(model, folder)) is not None,
            "path": None if path is None else str(path),
        }
        for model in published.values()
    ]


def listing_lines(listed: Sequence[dict[str, Any]]) -> list[str]:
    """The catalogue for people, in columns; paths are never cut."""
    rows = [HEADER] + [
        (
            model["name"],
            model["file"],
            f"{model['size_bytes'] / 1e9:.1f} GB",
            "yes" if model["gated"] else "no",
            model["licence"],
            str(Path(model["path"]).parent) if model["found"] else "– (not found)",
        )
        for model in listed
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def fetch_with_progress(
    model: PublishedModel, folder: Path | None, *, accept_licence: bool, quiet: bool
) -> Path:
    """`fetch_weights` with a progress bar that counts megabytes.

    Raises:
        FourdvdError: as `fetch_weights`.
    """
    with console.progress(f"fetching {model.label}", quiet) as report:
        return fetch_weights(
            model,
            folder,
            accept_licence,
            lambda done, total: report(done // MEGABYTE, total // MEGABYTE, "MB"),
        )


def check_weights(
    models: Sequence[PublishedModel], folder: Path | None, file: Path | None = None
) -> Checked:
    """Verifies the weights of models.

    Args:
        models: which; all that are found if there are none.
        folder: looked through first.
        file: looked at instead of searching, for the one model.

    Raises:
        WeightsError: no models are named and none is found, or `folder` is not a folder.
    """
    search_folders(folder)
    named = models or [m for m in published.values() if find_if_here(m, folder) is not None]
    if not named:
        places = [str(place) for place in search_folders(folder)]
        raise WeightsError(
            f"no published weights are found in {', '.join([*places, 'the Hugging Face cache'])}",
            hint="`fourdvd models list` shows what can be fetched",
        )
    checked = Checked([], [])
    for model in dict.fromkeys(named):
        _check(model, folder, file, checked)
    return checked


def report_lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each file that is sound; the others are told as errors where they are alone."""
    lines = []
    for result in results:
        if result["ok"]:
            unread = f"{result['missing_unread']} missing and {result['extra_unread']} more"
            lines.append(
                f"✓ {result['name']}: {result['path']} has all tensors ({result['tensors']}, "
                f"{'/'.join(result['dtypes'])}; of those that nothing reads, {unread})"
            )
        elif len(results) > 1:
            lines.append(f"– {result['name']}: {result['error']}")
    return lines


def _check(model: PublishedModel, folder: Path | None, file: Path | None, checked: Checked) -> None:
    path = file
    try:
        path = path or find_weights(model, folder)
        facts = verify_weights(path, model)._asdict()
        checked.results.append({"name": model.label, "ok": True} | facts | {"path": str(path)})
    except WeightsError as error:
        checked.errors.append(error)
        where = None if path is None else str(path)
        checked.results.append(
            {"name": model.label, "ok": False, "path": where, "error": str(error)}
        )


def find_if_here(model: PublishedModel, folder: Path | None) -> Path | None:
    """As `generation.weights.store.find_weights`, but None where there are none."""
    try:
        return find_weights(model, folder)
    except WeightsError:
        return None
