"""Weights of published networks: where they are, and their tensors, without reading all at once.

Files are looked for in a folder that was named, in the folder of `FOURDVD_WEIGHTS`, and in the
cache that programs of Hugging Face share (`HF_HOME`); nothing is downloaded here. Tensors come out
of the file one by one through memory mapping, so that the peak is the file's own pages, which the
system can drop, and the network itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetensors import safe_open

from generation.weights.catalogue import PublishedModel, Shape
from generation.weights.verify import Verification, compare_shapes, verify_weights
from recon.errors import WeightsError

if TYPE_CHECKING:
    import torch

    Module = TypeVar("Module", bound=torch.nn.Module)

FOLDER_VARIABLE = "FOURDVD_WEIGHTS"


class PublishedWeights:
    """The tensors of a file that was found to hold the weights of a model.

    Attributes:
        path: the file.
        model: whose weights they are.
        verification: what was found in the file.
    """

    def __init__(self, path: Path, model: PublishedModel, verification: Verification):
        self.path = path
        self.model = model
        self.verification = verification

    def part(
        self, prefix: str, dtype: torch.dtype, device: torch.device | str
    ) -> dict[str, torch.Tensor]:
        """The tensors of one network in the file.

        Each is converted on its own, so there are never two copies of the part. A tensor that has
        the type already and stays on the CPU is not copied at all: it is a page of the file.

        Args:
            prefix: what their keys start with, e.g. "model.diffusion_model.".
            dtype: which they get.
            device: on which they come to lie.

        Returns:
            Tensors by key, the prefix removed; they outlive this object.
        """
        with safe_open(self.path, framework="pt") as file:
            return {
                key.removeprefix(prefix): file.get_tensor(key).to(device=device, dtype=dtype)
                for key in file.keys()  # noqa: SIM118
                if key.startswith(prefix)
            }

    @property
    def identity(self) -> int:
        """Tells the files of a model apart in no time: the size in bytes."""
        return self.verification.size_bytes

    def sha256(self) -> str:
        """Of the whole file, in hexadecimal digits; takes as long as reading it does."""
        return file_sha256(self.path)


def find_weights(model: PublishedModel, folder: str | Path | None = None) -> Path:
    """Where the weights of a model are on this machine; the network is not asked.

    Args:
        model: whose.
        folder: looked through first; the environment and the cache come after it.

    Returns:
        The first file of the model's name; it is not looked into.

    Raises:
        WeightsError: there is none, or `folder` is not a folder. Says where it was looked for.
    """
    folders = search_folders(folder)
    for path in [place / model.file_name for place in folders]:
        try:
            if path.exists():
                return path
        except PermissionError as error:
            raise WeightsError(f"{path.parent}: no permission to look into it") from error
    if cached := find_in_cache(model):
        return cached
    places = [*map(str, folders), f"the Hugging Face cache {_cache_folder()}"]
    raise WeightsError(
        f"the weights of {model.label} are not here: no {model.file_name} in "
        f"{', nor in '.join(places)}",
        hint=f"`fourdvd models fetch {model.label} --accept-licence` downloads "
        f"{model.size_bytes / 1e9:.1f} GB; --weights DIR names a folder that has the file",
    )


def find_in_cache(model: PublishedModel) -> Path | None:
    """The file of a model in the Hugging Face cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.repository, model.file_name)
    return Path(found) if isinstance(found, str) else None


def search_folders(folder: str | Path | None = None) -> list[Path]:
    """The folders in which weights are looked for before the Hugging Face cache.

    Args:
        folder: that was named by the user, or None.

    Returns:
        That folder, and the one of the environment variable `FOURDVD_WEIGHTS` if it is set.

    Raises:
        WeightsError: `folder` is not there or is not a folder.
    """
    named = [] if folder is None else [Path(folder)]
    for path in named:
        if path.is_file():
            raise WeightsError(f"{path} is a file; name the folder in which it lies: {path.parent}")
        if not path.is_dir():
            raise WeightsError(f"the folder of weights {path} does not exist; check --weights")
    variable = os.environ.get(FOLDER_VARIABLE)
    return [*named, *([Path(variable)] if variable else [])]


def open_weights(
    path: str | Path, model: PublishedModel, expected: Mapping[str, Shape] | None = None
) -> PublishedWeights:
    """Verifies a file and opens it; no tensor is read yet.

    Args:
        path: the file, as `find_weights` returns it.
        model: whose weights it should hold.
        expected: shapes by key; the published network's if None.

    Raises:
        WeightsError: as `verify_weights`.
    """
    return PublishedWeights(Path(path), model, verify_weights(path, model, expected))


def load_module(module: Module, tensors: Mapping[str, torch.Tensor]) -> Module:
    """Puts tensors into a module that was built on the meta device, without copying them.

    Args:
        module: gets exactly these tensors, is set to evaluation and needs no gradients from now on.
        tensors: by the names of the module's state.

    Returns:
        The same module.

    Raises:
        WeightsError: a tensor is missing, extra or of another shape, or something of the module is
            still on the meta device.
    """
    difference = compare_shapes(
        {key: tuple(tensor.shape) for key, tensor in tensors.items()},
        {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()},
    )
    if difference.total:
        raise WeightsError(f"the weights do not fit {type(module).__name__}; tensors: {difference}")
    module.load_state_dict(tensors, strict=True, assign=True)
    if left := _names_on_meta(module):
        raise WeightsError(f"{type(module).__name__} has no numbers for {', '.join(left)}")
    return module.eval().requires_grad_(False)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names_on_meta(module: torch.nn.Module) -> list[str]:
    """Parameters, buffers (those outside of the state too) and attributes without numbers."""
    import torch

    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, part in module.named_modules()
        for name, value in {**vars(part), **part._parameters, **part._buffers}.items()
        if isinstance(value, torch.Tensor) and value.is_meta
    ]


def _cache_folder() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE
