"""The results of five trainings as one folder, from which `fourdvd generate` makes grids.

    TRAININGS/vae, reference-views, base, coarse, fine    as `fourdvd train` leaves them
        └─▶ FOLDER, see `generation.weights.trained_weights`

What it does not know: how good they are.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from generation.training.results import SOURCES, trained_file
from generation.weights.cascade_files import BRANCH_FILE, LORA_FILE, check_trained
from generation.weights.files import describe
from generation.weights.store import file_sha256
from generation.weights.trained_weights import (
    BASE,
    KINDS,
    REFERENCE_VIEWS,
    TOWER_FILES,
    UNET_FILES,
    VAE_FILE,
)
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
    vae = file_sha256(found[VAE_FILE])
    for network in (REFERENCE_VIEWS, BASE):
        for file, kind in ((UNET_FILES, KINDS[network]), (TOWER_FILES, "image-encoder")):
            weights = describe(found[file[network]], kind)
            weights.check_requires(vae=vae)
            weights.build()
    own = {name: found[name] for name in (LORA_FILE, BRANCH_FILE)}
    check_trained(own, file_sha256(found[UNET_FILES[BASE]]))
    with output_folder(folder, overwrite) as partial:
        for name, path in found.items():
            shutil.copyfile(path, partial / name)
    return {name: path.stat().st_size for name, path in found.items()}
