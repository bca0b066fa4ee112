"""The weights that a plan needs, wherever they are: published files, and a trained cascade's."""

from __future__ import annotations

from pathlib import Path

from generation.grid_sampler import Weights
from generation.presets import Plan
from generation.settings import GenerateSettings
from generation.weights.cascade_files import find_trained
from generation.weights.catalogue import published
from generation.weights.store import find_weights, open_weights
from generation.weights.trained_weights import (
    BASE,
    REFERENCE_VIEWS,
    UNET_FILES,
    TrainedWeights,
    model_paths,
    open_trained,
    trained_folder,
    trained_path,
)


def find_model(name: str, folder: Path | None = None) -> Path:
    """The file of a model's weights.

    Args:
        name: one of those in `Plan.needs`.
        folder: looked through first.

    Raises:
        WeightsError: it is not here, or what it was trained with; says where it was looked for.
    """
    if name in UNET_FILES:
        return model_paths(trained_folder(folder), name)[0]
    return find_weights(published[name], folder)


def find_cascade_file(name: str, todo: Plan, folder: Path | None = None) -> Path:
    """One of the cascade's own files.

    Args:
        name: one of those in `Plan.cascade_files`.
        todo: the plan: files must lie beside the networks that they were trained on, if these are
            ours.
        folder: looked through first.

    Raises:
        WeightsError: as `find_model`.
    """
    if todo.preset.published:
        return find_trained(name, folder)
    return trained_path(trained_folder(folder), name)


def open_models(
    todo: Plan, settings: GenerateSettings, folder: Path | None = None
) -> dict[str, Weights]:
    """Finds and verifies the weights of all models of a plan; no tensor is read yet.

    Raises:
        WeightsError: a file is not here, not whole or of another model.
    """
    found = {name: find_model(name, folder) for name in todo.models}
    return {
        name: open_trained(path.parent, name)
        if name in UNET_FILES
        else open_weights(path, published[name])
        for name, path in found.items()
    }


def trained_sizes(todo: Plan, folder: Path | None = None) -> dict[str, TrainedWeights]:
    """What the files of a trained cascade say of its networks; nothing for published ones.

    Raises:
        WeightsError: as `open_models`.
    """
    if todo.preset.published:
        return {}
    place = trained_folder(folder)
    return {name: open_trained(place, name) for name in (REFERENCE_VIEWS, BASE)}
