"""The results of five trainings as one folder, from which `fourdvd generate` makes grids.

    TRAININGS/vae, reference-views, base, coarse, fine    as `fourdvd train` leaves them
        └─▶ FOLDER, see `generation.weights.catalogue`

What it does not know: how good they are.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from generation.training.results import SOURCES, trained_file
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE, VAE_FILE, trained
from generation.weights.files import describe
from generation.weights.model_weights import open_cascade_files
from recon.output import output_folder


def assemble(trainings: Path, folder: Path, overwrite: bool = False) -> dict[str, int]:
    """Collects the weights of a trained cascade, after making sure that they fit each other.

    Args:
        trainings: has a folder of each stage's training, by the stage's name.
        folder: to make.
        overwrite: whether what is there may be replaced.

    Returns:
        Bytes of each file by name.

    Raises:
        WeightsError: a training is missing or not finished, or was made on other networks than
            these.
        OutputExistsError, OutputError: as `recon.output.output_folder`.
    """
    found = {
        name: trained_file(trainings / stage, file, stage)
        for name, (stage, file) in SOURCES.items()
    }
    vae, base = describe(found[VAE_FILE], "vae"), describe(found[trained["mini"].unet_file], "sv4d")
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
