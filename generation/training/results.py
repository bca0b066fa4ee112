"""Weights of finished trainings, each in its own folder or assembled in one.

They are found at

    TRAINING/weights/NAME      written by `fourdvd train STAGE`
    ASSEMBLED/FILE             collected by `fourdvd train assemble` for `fourdvd generate`
"""

from __future__ import annotations

import shutil
from pathlib import Path

from generation.training.run_folder import RunFolder
from generation.weights.catalogue import BRANCH_FILE, LIFT_FILE, LORA_FILE, VAE_FILE, trained
from generation.weights.files import describe
from generation.weights.model_weights import open_cascade_files
from recon.errors import WeightsError
from recon.output import output_folder

UNET_NAME, IMAGE_ENCODER_NAME = "unet.safetensors", "tower.safetensors"
_ORBIT, _GRID = trained["mini_sv3d"], trained["mini"]

SOURCES = {
    VAE_FILE: ("vae", VAE_FILE),
    _ORBIT.unet_file: ("reference-views", UNET_NAME),
    _ORBIT.image_encoder_file: ("reference-views", IMAGE_ENCODER_NAME),
    _GRID.unet_file: ("base", UNET_NAME),
    _GRID.image_encoder_file: ("base", IMAGE_ENCODER_NAME),
    LORA_FILE: ("coarse", LORA_FILE),
    BRANCH_FILE: ("fine", BRANCH_FILE),
}
"""File in an assembled folder → stage that trains it, and file name in that training's folder."""
_ASSEMBLED = {source: name for name, source in SOURCES.items()} | {("lift", LIFT_FILE): LIFT_FILE}


def trained_file(folder: Path, name: str, stage: str) -> Path:
    """Find a file of a finished training.

    Args:
        folder: output folder of the training, or of `fourdvd train assemble`.
        name: name of the file in the training's folder.
        stage: the stage that writes it.

    Raises:
        WeightsError: the file does not exist.
    """
    path = RunFolder(Path(folder)).weights / name
    assembled = Path(folder) / _ASSEMBLED[stage, name]
    if path.is_file() or assembled.is_file():
        return path if path.is_file() else assembled
    raise WeightsError(
        f"expected the weights of a finished training, but {path} does not exist",
        hint=f"name the folder of a finished `fourdvd train {stage}`",
    )


def assemble(trainings: Path, folder: Path, overwrite: bool = False) -> dict[str, int]:
    """Collect the weights of five finished trainings in one folder, if they match each other.

    Args:
        trainings: folder that holds the output folder of each stage, under the stage's name.
        folder: folder to create; `fourdvd generate --weights` reads it.
        overwrite: whether to replace an existing folder.

    Returns:
        Size of each file in bytes by name.

    Raises:
        WeightsError: a training is missing or unfinished, or was trained on other networks.
        OutputExistsError, OutputError: see `recon.output.output_folder`.
    """
    found = {
        name: trained_file(trainings / stage, file, stage)
        for name, (stage, file) in SOURCES.items()
    }
    vae, base = describe(found[VAE_FILE], "vae"), describe(found[_GRID.unet_file], "sv4d")
    for model in trained.values():
        for name, kind in (
            (model.unet_file, model.kind),
            (model.image_encoder_file, "image-encoder"),
        ):
            weights = describe(found[name], kind)
            weights.check_requires(vae=vae.sha256)
            weights.build()
    open_cascade_files({name: found[name] for name in (LORA_FILE, BRANCH_FILE)}, base.sha256)
    with output_folder(folder, overwrite) as partial:
        for name, path in found.items():
            shutil.copyfile(path, partial / name)
    return {name: path.stat().st_size for name, path in found.items()}
