"""The cascade's own files on this machine: where they are, and whether they are the right ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from generation.weights.files import describe
from generation.weights.store import FOLDER_VARIABLE, search_folders
from recon.errors import WeightsError

LORA_FILE, BRANCH_FILE = "4dvd_lora.safetensors", "4dvd_branch.safetensors"
KINDS = {LORA_FILE: "lora", BRANCH_FILE: "structure-branch"}


def find_trained(name: str, folder: str | Path | None = None) -> Path:
    """A file of weights that `fourdvd train` has made.

    Args:
        name: `LORA_FILE` or `BRANCH_FILE`.
        folder: looked through first; the one of the environment comes after it.

    Returns:
        The first file of the name; it is not looked into.

    Raises:
        WeightsError: there is none, or `folder` is not a folder. Says where it was looked for.
    """
    folders = search_folders(folder)
    for path in (place / name for place in folders):
        if path.is_file():
            return path
    places = ", nor in ".join(map(str, folders)) or f"a folder, as {FOLDER_VARIABLE} is not set"
    raise WeightsError(
        f"weights of the cascade are not here: no {name} in {places}; the authors of 4DVD have "
        "published none",
        hint=f"`fourdvd train` makes them; --weights DIR names a folder that has {name}",
    )


def check_trained(files: Mapping[str, Path], base_sha256: str) -> None:
    """Makes sure before long work that files are what their names say, and of the same base.

    Args:
        files: by their names.
        base_sha256: of the published file that is used with them.

    Raises:
        WeightsError: a file is damaged, of another kind or for another base.
    """
    for name, path in files.items():
        describe(path, KINDS[name]).check_requires(base=base_sha256)
