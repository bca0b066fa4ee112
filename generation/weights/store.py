"""Search for weights on this machine: find the file of each model by name.

    published models    --weights DIR, then FOURDVD_WEIGHTS, then the Hugging Face cache (HF_HOME)
    trained cascades    --weights DIR; without it `mini`, which is part of this package
    network of `lift`   --weights DIR; without it the one that is part of this package

Nothing is downloaded here, and no file is opened. Light to import: no torch.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from generation.weights.catalogue import (
    LIFT_FILE,
    VAE_FILE,
    BundledModel,
    PublishedModel,
    TrainedModel,
    bundled,
    published,
    trained,
)
from recon.errors import WeightsError

FOLDER_VARIABLE = "FOURDVD_WEIGHTS"
OWN_FILES = (  # no published file has one of these names
    VAE_FILE,
    trained["mini_sv3d"].unet_file,
    *(model.image_encoder_file for model in trained.values()),
)


def find_model(name: str, folder: str | Path | None = None) -> Path:
    """Find the file of a model: a published one, or the UNet of a trained cascade.

    Args:
        name: key of `catalogue.published` or `catalogue.trained`.
        folder: folder to search first.

    Raises:
        WeightsError: the file is not found, or a trained UNet lacks its autoencoder or image
            encoder. The message names the folders that were searched.
    """
    if name in trained:
        return find_trained(trained[name], folder)[0]
    return find_published(published[name], folder)


def find_published(model: PublishedModel, folder: str | Path | None = None) -> Path:
    """Find the file of a published model.

    Args:
        model: description of the model.
        folder: folder to search before `FOURDVD_WEIGHTS` and the Hugging Face cache.

    Raises:
        WeightsError: the file is not found, or `folder` is not a folder.
    """
    folders = search_folders(folder)
    for path in [place / model.file_name for place in folders]:
        try:
            if path.exists():
                return path
        except PermissionError as error:
            raise WeightsError(
                f"{path.parent}: no permission to search this folder",
                hint="change its permissions, or name another folder with --weights",
            ) from error
    if cached := find_in_cache(model):
        return cached
    places = [*map(str, folders), f"the Hugging Face cache {cache_folder()}"]
    raise WeightsError(
        f"the weights of {model.label} are missing: no {model.file_name} in "
        f"{', nor in '.join(places)}",
        hint=f"`fourdvd models fetch {model.label} --accept-license` downloads "
        f"{model.size_bytes / 1e9:.1f} GB; --weights DIR names a folder that has the file",
    )


def list_published(folder: str | Path | None = None) -> dict[PublishedModel, Path | None]:
    """List all published models, each with the path of its file, or None if it is not found.

    Args:
        folder: folder to search first.

    Raises:
        WeightsError: `folder` is not a folder.
    """
    search_folders(folder)
    return {model: _found_or_none(model, folder) for model in published.values()}


def list_bundled(folder: str | Path | None = None) -> dict[BundledModel, list[Path]]:
    """List all bundled models, each with the paths of its files; none if one is missing.

    Args:
        folder: folder to search first; models that it does not hold are listed as bundled.

    Raises:
        WeightsError: `folder` is not a folder.
    """
    found = {}
    for model in bundled.values():
        place = folder if holds_bundled(model, folder) else None
        try:
            found[model] = find_bundled(model, place)
        except WeightsError:
            found[model] = []
    return found


def holds_bundled(model: BundledModel, folder: str | Path | None) -> bool:
    """Return whether a folder has weights for a bundled model, be they incomplete.

    Args:
        model: description of the model.
        folder: folder named by the user, or None.

    Raises:
        WeightsError: `folder` is missing or is not a folder.
    """
    if folder is None:
        return False
    names = (LIFT_FILE,) if model == bundled["lift"] else OWN_FILES
    place = _existing(Path(folder))
    return any((place / name).exists() for name in names)


def _found_or_none(model: PublishedModel, folder: str | Path | None) -> Path | None:
    try:
        return find_published(model, folder)
    except WeightsError:
        return None


def find_in_cache(model: PublishedModel) -> Path | None:
    """Find the file of a published model in the Hugging Face cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.repository, model.file_name)
    return Path(found) if isinstance(found, str) else None


def cache_folder() -> Path:
    """Return the folder of the Hugging Face cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def search_folders(folder: str | Path | None = None) -> list[Path]:
    """Return the folders that are searched before the Hugging Face cache.

    Args:
        folder: folder named by the user, or None.

    Returns:
        `folder`, then the folder in the environment variable `FOURDVD_WEIGHTS` if it is set.

    Raises:
        WeightsError: `folder` is missing or is not a folder.
    """
    named = [] if folder is None else [_existing(Path(folder))]
    variable = os.environ.get(FOLDER_VARIABLE)
    return [*named, *([Path(variable)] if variable else [])]


def find_trained(model: TrainedModel, folder: str | Path | None = None) -> tuple[Path, Path, Path]:
    """Find the files of a trained model: UNet, image encoder, autoencoder.

    Args:
        model: description of the model.
        folder: folder named by the user, see `trained_folder`.

    Raises:
        WeightsError: one of them is missing.
    """
    place = trained_folder(folder)
    return (
        _in_cascade(place, model.unet_file),
        _in_cascade(place, model.image_encoder_file),
        _in_cascade(place, VAE_FILE),
    )


def find_cascade_file(file_name: str, base: str, folder: str | Path | None = None) -> Path:
    """Find the LoRA or the structure branch of a cascade.

    Args:
        file_name: `catalogue.LORA_FILE` or `BRANCH_FILE`.
        base: name of the base model. The files for a trained base are in the folder of its UNet.
        folder: folder to search first.

    Raises:
        WeightsError: the file is not found; the message names the folders that were searched.
    """
    if base in trained:
        return _in_cascade(trained_folder(folder), file_name)
    folders = search_folders(folder)
    for path in (place / file_name for place in folders):
        if path.is_file():
            return path
    places = ", nor in ".join(map(str, folders)) or f"a folder, as {FOLDER_VARIABLE} is not set"
    raise WeightsError(
        f"the weights of the cascade are missing: no {file_name} in {places}; the authors of 4DVD "
        "have published none",
        hint=f"train them with `fourdvd train`; --weights DIR names a folder that has {file_name}",
    )


def find_lift(folder: str | Path | None = None) -> Path:
    """Find the network of `lift`.

    Args:
        folder: folder named by the user; None for the bundled network.

    Raises:
        WeightsError: `folder` is not a folder or lacks the file, or the package lacks it.
    """
    if folder is not None:
        _check_holds(bundled["lift"], folder, f"no {LIFT_FILE}")
        return Path(folder) / LIFT_FILE
    own = package_folder() / "lift" / LIFT_FILE
    if not own.is_file():
        raise WeightsError(
            f"the weights of lift are missing: no {own}",
            hint="`fourdvd train lift` trains them; --weights DIR names a folder that has "
            f"{LIFT_FILE}",
        )
    return own


def find_bundled(model: BundledModel, folder: str | Path | None = None) -> list[Path]:
    """Find the files of a bundled model, in a folder of the user or in this package.

    Args:
        model: description of the model.
        folder: folder named by the user; None for the bundled files.

    Raises:
        WeightsError: a file is missing, or `folder` is not a folder.
    """
    if model == bundled["lift"]:
        return [find_lift(folder)]
    place = trained_folder(folder)
    return [_in_cascade(place, name) for name in model.files]


def bundled_folder() -> Path:
    """Return the folder of `mini`, the trained cascade that is part of this package."""
    return package_folder() / "mini"


def package_folder() -> Path:
    """Return the folder of this package, which has the bundled weights in subfolders."""
    return Path(str(resources.files("generation")))


def trained_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of a trained cascade.

    Args:
        folder: folder named by the user; None for the bundled folder.

    Raises:
        WeightsError: `folder` is missing, is not a folder or has no file that only trained cascades
            have.
    """
    if folder is None:
        return bundled_folder()
    _check_holds(bundled["mini"], folder, f"none of {', '.join(OWN_FILES)}")
    return Path(folder)


def _check_holds(model: BundledModel, folder: str | Path, missing: str) -> None:
    if not holds_bundled(model, folder):
        raise WeightsError(
            f"the weights of {model.label} are missing: {missing} in {folder}",
            hint="leave out --weights to use the weights that are part of the package",
        )


def _existing(folder: Path) -> Path:
    if folder.is_file():
        raise WeightsError(f"{folder} is a file; name the folder that holds it: {folder.parent}")
    if not folder.is_dir():
        raise WeightsError(f"the folder of weights {folder} does not exist; check --weights")
    return folder


def _in_cascade(folder: Path, file_name: str) -> Path:
    if not (folder / file_name).is_file():
        raise WeightsError(
            f"the trained cascade is incomplete: no {file_name} in {folder}",
            hint="`fourdvd train assemble` collects all files from finished trainings; "
            "--weights DIR names the folder",
        )
    return folder / file_name
