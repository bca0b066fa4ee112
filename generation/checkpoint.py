"""The state of an unfinished generation on disk, saved after every pass.

    GRID/unfinished/state.safetensors   latents of all frames that are made, and the orbit's views
    GRID/unfinished/coarse.safetensors  the same of the grid that a cascade makes first
    GRID/unfinished/input               the prepared clip, for people

Letters: n frames, V views that the network makes, V′ those of them that are kept, c channels and
h × w pixels of latents, H × W pixels.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from generation.clip.preparing import PreparedClip
from generation.clip.writing import write_clip
from recon.errors import InputError, OutputExistsError
from recon.output import check_output, output_file, output_folder

UNFINISHED, STATE, INPUT = "unfinished", "state.safetensors", "input"
COARSE_STATE = "coarse.safetensors"


@dataclass
class State:
    """What passes have made so far.

    Attributes:
        latents: scaled; zeros where nothing is made, float32, [n, V, c, h, w].
        made: which frames are, bool, [n].
        orbit: views of frame 0 in [−1, 1], float32, [V′, 3, H, W]; None where there are none (yet).
        passes: how many are done.
        seconds: spent so far, by stage.
    """

    latents: Tensor
    made: Tensor
    orbit: Tensor | None
    passes: int
    seconds: dict[str, float]


def check_folder(folder: Path, overwrite: bool = False) -> None:
    """Tells early whether a grid may be made in a folder: as `check_output`, but go on is allowed.

    Raises:
        OutputExistsError: it holds something else than an unfinished generation, and `overwrite`
            is False.
        OutputError: as `check_output`.
    """
    if not _holds_only_ours(folder):
        check_output(folder, overwrite)


def _holds_only_ours(folder: Path) -> bool:
    """Whether nothing is in a folder but what an unfinished generation leaves, killed ones too."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != {UNFINISHED}:
        return False
    ours = (STATE, COARSE_STATE, INPUT)
    leftovers = tuple(f".{Path(name).stem}." for name in ours)  # see `recon.output`
    names = [path.name for path in (folder / UNFINISHED).iterdir()]
    return all(name in ours or name.startswith(leftovers) for name in names)


def write_input(folder: Path, clip: PreparedClip) -> Path:
    """Puts the prepared input where people can look at it before the grid is there.

    Returns:
        The folder with the frames and their preview.
    """
    place = folder / UNFINISHED / INPUT
    with output_folder(place, overwrite=True) as partial:
        write_clip(clip, partial)
    return place


def discard_other(folder: Path, identity: dict[str, Any]) -> None:
    """Removes a saved state that is damaged or of another run."""
    try:
        for name in (STATE, COARSE_STATE):
            load_state(folder, identity, name)
    except (InputError, OutputExistsError):
        shutil.rmtree(folder / UNFINISHED)


def save_state(folder: Path, state: State, identity: dict[str, Any], name: str = STATE) -> None:
    """Replaces the saved state; a run that is killed meanwhile leaves the older one.

    Args:
        folder: of the grid.
        state: what is saved.
        identity: what a run that goes on with it must share.
        name: of the file.
    """
    tensors = {"latents": state.latents, "made": state.made.to(torch.uint8)}
    if state.orbit is not None:
        tensors["orbit"] = state.orbit
    notes = {"identity": identity, "passes": state.passes, "seconds": state.seconds}
    with output_file(folder / UNFINISHED / name, overwrite=True) as partial:
        save_file(
            {key: tensor.contiguous() for key, tensor in tensors.items()},
            partial,
            {key: json.dumps(value) for key, value in notes.items()},
        )


def load_state(folder: Path, identity: dict[str, Any], name: str = STATE) -> State | None:
    """The saved state of a run with the same identity; None if nothing is saved.

    Args: as `save_state`.

    Raises:
        OutputExistsError: what is saved is of another clip or of other settings.
        InputError: the file is damaged.
    """
    path = folder / UNFINISHED / name
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            notes = {key: json.loads(text) for key, text in file.metadata().items()}
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        state = State(
            tensors["latents"],
            tensors["made"].bool(),
            tensors.get("orbit"),
            notes["passes"],
            notes["seconds"],
        )
        saved = notes["identity"]
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"the state of an unfinished generation is damaged ({error!r}); pass --overwrite to "
            "start again",
            path,
        ) from error
    if saved != json.loads(json.dumps(identity)):
        raise OutputExistsError(
            folder,
            "it holds an unfinished generation from another clip or with other settings; choose "
            "another folder, or pass --overwrite to start again",
        )
    return state
