"""Where the weights of finished trainings are: each in its own folder, or all assembled in one.

    TRAINING/weights/NAME      as `fourdvd train STAGE` leaves them
    ASSEMBLED/FILE             as `fourdvd train assemble` collects them, under other names

What it does not know: what is in the files.
"""

from __future__ import annotations

from pathlib import Path

from generation.training.run_folder import RunFolder
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE, VAE_FILE, trained
from recon.errors import WeightsError

UNET_NAME, TOWER_NAME = "unet.safetensors", "tower.safetensors"

_ORBIT, _GRID = trained["mini_sv3d"], trained["mini"]

SOURCES = {
    VAE_FILE: ("vae", VAE_FILE),
    _ORBIT.unet_file: ("reference-views", UNET_NAME),
    _ORBIT.image_encoder_file: ("reference-views", TOWER_NAME),
    _GRID.unet_file: ("base", UNET_NAME),
    _GRID.image_encoder_file: ("base", TOWER_NAME),
    LORA_FILE: ("coarse", LORA_FILE),
    BRANCH_FILE: ("fine", BRANCH_FILE),
}
"""File in an assembled folder → stage and its name there."""
_ASSEMBLED = {source: name for name, source in SOURCES.items()}


def trained_file(folder: Path, name: str, stage: str) -> Path:
    """A file that a finished training has written.

    Args:
        folder: of the training, or an assembled one.
        name: of the file, as the stage writes it.
        stage: that writes it.

    Raises:
        WeightsError: it is not there.
    """
    path = RunFolder(Path(folder)).weights / name
    assembled = Path(folder) / _ASSEMBLED[stage, name]
    if path.is_file() or assembled.is_file():
        return path if path.is_file() else assembled
    raise WeightsError(
        f"{path} is not there", hint=f"name the folder of a finished `fourdvd train {stage}`"
    )
