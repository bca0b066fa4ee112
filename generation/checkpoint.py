"""Checkpoints of an unfinished generation, from which an interrupted one is resumed.

    GRID/unfinished/input                        the prepared clip, to look at
    GRID/unfinished/reference_views.safetensors  views of frame 0 that the orbit model made
    GRID/unfinished/{coarse,fine,grid}.safetensors  latents of the windows that are done, by stage
    GRID/unfinished/layers.safetensors           layers that lift has predicted

Each file is replaced atomically, so a killed run leaves the last one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from generation.clip.preparing import SquareClip
from generation.clip.writing import write_clip
from recon.errors import InputError, OutputExistsError
from recon.output import check_output, output_folder
from recon.resume import SavedState, check_same, load_state, save_state

UNFINISHED, INPUT = "unfinished", "input"
STATES = ("reference_views", "coarse", "fine", "grid", "layers")
FORMAT, VERSION = "fourdvd-unfinished-grid", "1"


class Checkpoint:
    """Saved states of one generation.

    Attributes:
        folder: the grid folder; None to save and resume nothing.
        identity: values that a saved state must match to be resumed, see `recon.resume`.
    """

    def __init__(self, folder: Path | None = None, identity: Mapping[str, Any] | None = None):
        self.folder, self.identity = folder, dict(identity or {})

    def save(self, name: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Replace a saved state.

        Args:
            name: one of `STATES`.
            tensors: tensors to save.
            notes: JSON object to save with them.
        """
        if self.folder is not None:
            description = {"identity": self.identity, **notes}
            path = _path(self.folder, name)
            save_state(path, tensors, description, format=FORMAT, version=VERSION)

    def load(self, name: str) -> SavedState | None:
        """Read a saved state; None if there is none.

        Raises:
            OutputExistsError: the state belongs to another clip or to other settings.
            InputError: the file is damaged.
        """
        if self.folder is None:
            return None
        path = _path(self.folder, name)
        state = load_state(path, format=FORMAT, version=VERSION)
        if state is not None:
            found = state.description.get("identity", {})
            check_same(found, self.identity, self.folder, "an unfinished generation")
        return state

    def discard_other(self) -> None:
        """Remove saved states that are damaged or do not match."""
        try:
            for name in STATES:
                self.load(name)
        except (InputError, OutputExistsError):
            assert self.folder is not None
            shutil.rmtree(self.folder / UNFINISHED)


def check_folder(folder: Path, overwrite: bool = False) -> None:
    """Check that a grid may be written to a folder, which may hold an unfinished generation.

    Raises:
        OutputExistsError: the folder holds anything else, and `overwrite` is False.
        OutputError: see `check_output`.
    """
    if not _is_unfinished(folder):
        check_output(folder, overwrite)


def write_input(folder: Path, clip: SquareClip) -> Path:
    """Write the prepared clip, so that it can be inspected before the grid is complete.

    Returns:
        Folder of the frames and their preview.
    """
    place = folder / UNFINISHED / INPUT
    with output_folder(place, overwrite=True) as partial:
        write_clip(clip, partial)
    return place


def _path(folder: Path, name: str) -> Path:
    return folder / UNFINISHED / f"{name}.safetensors"


def _is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds nothing but the state of a stopped or killed generation."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != {UNFINISHED}:
        return False
    ours = (*(f"{name}.safetensors" for name in STATES), INPUT)
    leftovers = tuple(f".{name}." for name in (*STATES, INPUT))  # see `recon.output`
    names = [path.name for path in (folder / UNFINISHED).iterdir()]
    return all(name in ours or name.startswith(leftovers) for name in names)
