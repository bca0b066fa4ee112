"""Format of the weights that fourdvd writes: safetensors with these metadata entries.

    format    "fourdvd-weights"
    version   "1"
    kind      a key of `KINDS`
    config    JSON: the fields of the kind's configuration, from which the network is built
    requires  JSON: {role: sha256} of the files that the weights were trained with, "vae" for UNets
              and image encoders, "base" (the UNet of SV4D) for LoRAs and structure branches

Files of the four formats that older versions wrote are read, too; see `_current_metadata`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from generation.lift.network import LiftConfig, build_network
from generation.models.image_encoders import ConvImageEncoder, ConvImageEncoderConfig
from generation.models.loading import compare_shapes, load_module
from generation.models.lora import LoraSettings, add_lora, load_lora_state, merge_lora
from generation.models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from generation.models.structure_branch import (
    StructureBranch,
    StructureBranchSettings,
    build_branch,
)
from generation.models.sv3d import SV3DUNet
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import UNetConfig
from generation.weights.verify import FLOATS, file_sha256, read_header
from recon.errors import InputError, WeightsError
from recon.output import output_file
from recon.resume import save_tensors

FORMAT, VERSION = "fourdvd-weights", "1"


class Kind(NamedTuple):
    """A kind of weights.

    Attributes:
        config: dataclass of the configuration; each kind has its own.
        build: builds the network from the configuration alone; None if that needs the base
            network, too.
    """

    config: type[Any]
    build: Callable[[Any], nn.Module] | None


KINDS: dict[str, Kind] = {
    "vae": Kind(PatchAutoencoderConfig, PatchAutoencoder),
    "sv3d": Kind(UNetConfig, SV3DUNet),
    "sv4d": Kind(SV4DConfig, SV4DUNet),
    "image-encoder": Kind(ConvImageEncoderConfig, ConvImageEncoder),
    "lora": Kind(LoraSettings, None),
    "structure-branch": Kind(StructureBranchSettings, None),
    "lift": Kind(LiftConfig, build_network),
}


def save_weights(
    path: str | Path,
    config: Any,
    tensors: Mapping[str, Tensor],
    requires: Mapping[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write weights; equal content gives equal bytes.

    Args:
        path: path of the file.
        config: configuration; its class determines the kind of the file, see `KINDS`.
        tensors: state dict of the network, on any device.
        requires: sha256 of the files that the weights were trained with, by role.
        dtype: floating-point type of the tensors in the file.
        overwrite: whether to replace an existing file.

    Raises:
        OutputExistsError, OutputError: see `recon.output.output_file`.

    Example:
        >>> save_weights("sv4d.safetensors", unet.config, unet.state_dict(), {"vae": vae.sha256})
    """
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "kind": next(name for name, kind in KINDS.items() if type(config) is kind.config),
        "config": json.dumps(asdict(config)),
        "requires": json.dumps(dict(requires or {}), sort_keys=True),
    }
    numbers = {name: each.detach().to("cpu", dtype) for name, each in tensors.items()}
    with output_file(path, overwrite) as partial:
        save_tensors(partial, numbers, metadata)


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, of which only the header has been read.

    Attributes:
        path: the file.
        kind: a key of `KINDS`.
        config: configuration, an instance of the kind's class.
        requires: sha256 of the files that the weights were trained with, by role.
    """

    path: Path
    kind: str
    config: Any
    requires: Mapping[str, str]

    @cached_property
    def sha256(self) -> str:
        """The file's sha256 in hexadecimal digits, computed once."""
        return file_sha256(self.path)

    def check_requires(self, **sha256: str) -> None:
        """Check that the weights were trained with the files they are used with.

        Args:
            sha256: sha256 of the file in use, by role, e.g. `vae=…`.

        Raises:
            WeightsError: the weights were trained with another file.
        """
        for role, expected in sha256.items():
            found = self.requires.get(role)
            if found != expected:
                raise WeightsError(
                    f"{self.path}: expected weights trained with the {role} of sha256 {expected}, "
                    f"found {found}",
                    hint=f"use the {role} they were trained with, or train them with this one",
                )

    def check_shapes(self) -> None:
        """Check that the file has the tensors of its network, by its header; not their values.

        LoRAs and structure branches, which are no networks of their own, are not checked.

        Raises:
            WeightsError: the configuration is not valid, or a tensor is missing, extra or of
                another shape.
        """
        if KINDS[self.kind].build is None:
            return
        entries, _ = read_header(self.path)
        found = {name: entry.shape for name, entry in entries.items()}
        state = self._network_without_values().state_dict()
        difference = compare_shapes(found, {name: tuple(x.shape) for name, x in state.items()})
        if difference.total:
            raise WeightsError(f"{self.path}: the tensors do not fit the config: {difference}")

    def _network_without_values(self) -> nn.Module:
        build = KINDS[self.kind].build
        assert build is not None, f"{self.kind} is not a network of its own"
        try:
            with torch.device("meta"):
                return build(self.config)
        except (ValueError, TypeError, RuntimeError) as error:
            raise WeightsError(
                f"{self.path}: expected a config that a network can be built from, found "
                f"{self.config} ({error})"
            ) from error

    def tensors(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Read all tensors, by name.

        Args:
            dtype: floating-point type to convert to.
            device: target device.

        Raises:
            WeightsError: the file cannot be read.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                return {
                    name: file.get_tensor(name).to(device=device, dtype=dtype)
                    for name in file.keys()  # noqa: SIM118
                }
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{self.path}: the tensors cannot be read ({error})") from error

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Any:
        """Build the network with its weights, in evaluation mode and without gradients.

        Only for kinds that have a `Kind.build`; see `load_lora` and `load_branch` for the others.

        Raises:
            WeightsError: the tensors do not fit the configuration, or cannot be read.
            torch.OutOfMemoryError: the device has too little memory.
        """
        network, tensors = self._network_without_values(), self.tensors(dtype, device)
        try:
            return load_module(network, tensors)
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from error


def describe(path: str | Path, kind: str | None = None) -> WeightsFile:
    """Read the description of a weights file, without its tensors.

    Args:
        path: the file.
        kind: the expected kind, a key of `KINDS`; any kind if None.

    Raises:
        WeightsError: the file is missing or damaged, was not written by fourdvd, or has another
            kind.
    """
    path = Path(path)
    tensors, metadata = read_header(path)
    for key, entry in tensors.items():
        if entry.dtype not in FLOATS:
            raise WeightsError(f"{path}: expected floating-point tensors, {key} is {entry.dtype}")
    try:
        metadata = _current_metadata(metadata)
        found = metadata["kind"]
        if kind not in (None, found):
            raise WeightsError(
                f"{path}: expected weights of kind {kind}, found {found}",
                hint="check whether two files were confused",
            )
        config = _parse_config(KINDS[found].config, _json_object(metadata["config"]))
        requires = _json_object(metadata["requires"])
    except (ValueError, KeyError, TypeError, InputError) as error:
        raise WeightsError(
            f"{path}: expected metadata of {FORMAT} version {VERSION}, found {error}",
            hint="name a file that this version of fourdvd has written",
        ) from error
    return WeightsFile(path, found, config, requires)


def load_lora(path: str | Path, unet: SV4DUNet, base_sha256: str) -> None:
    """Add a saved LoRA to a UNet.

    Args:
        path: the file.
        unet: the base network, without a LoRA; unchanged if this fails.
        base_sha256: sha256 of the file with the base network's weights.

    Raises:
        WeightsError: the file is damaged, is not a LoRA, was trained on another base or does not
            fit the network.
    """
    file = describe(path, "lora")
    file.check_requires(base=base_sha256)
    add_lora(unet, file.config.rank, file.config.alpha)
    try:
        load_lora_state(unet, file.tensors())
    except WeightsError as error:
        merge_lora(unet)  # the new LoRA is zero, so merging restores the network
        raise WeightsError(f"{path}: {error}") from error


def load_branch(
    path: str | Path,
    config: SV4DConfig,
    base_sha256: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> StructureBranch:
    """Load a structure branch, in evaluation mode and without gradients.

    Args:
        path: the file.
        config: configuration of the base network.
        base_sha256: sha256 of the file with the base network's weights.
        dtype: floating-point type of its parameters.
        device: target device.

    Raises:
        WeightsError: the file is damaged, is not a structure branch, was trained on another base
            or does not fit the network.
    """
    file = describe(path, "structure-branch")
    file.check_requires(base=base_sha256)
    try:
        with torch.device("meta"):
            branch = build_branch(file.config.name, config, file.config.roles)
        return load_module(branch, file.tensors(dtype, device))
    except (InputError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}") from error


def _current_metadata(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Translate the metadata of an older format to the current one.

    Older formats, all of version 1: "fourdvd-network" (UNets and image encoders), "fourdvd-vae",
    "fourdvd-lora" and "fourdvd-structure-branch".

    Raises:
        ValueError: the format or version is unknown.
        KeyError: an entry is missing.
    """
    format, version = metadata.get("format"), metadata.get("version")
    if version == "1":
        if format == FORMAT:
            return metadata
        if format == "fourdvd-network":
            kind, requires = metadata["kind"], {"vae": metadata["vae_sha256"]}
            kind = "image-encoder" if kind == "token-tower" else kind
            return _metadata(kind, metadata["config"], requires)
        if format == "fourdvd-vae":
            config = _json_object(metadata["config"])
            config["latent_scale"] = float(metadata["scale"])
            return _metadata("vae", json.dumps(config), {})
        if format in ("fourdvd-lora", "fourdvd-structure-branch"):
            kind = format.removeprefix("fourdvd-")
            requires = {"base": metadata["base_sha256"]}
            return _metadata(kind, metadata["hyper_parameters"], requires)
    raise ValueError(f"format {format!r} version {version!r}")


def _metadata(kind: str, config: str, requires: Mapping[str, str]) -> dict[str, str]:
    return {"kind": kind, "config": config, "requires": json.dumps(requires)}


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text!r}, which is not a JSON object")
    return value


def _parse_config(config: type[Any], values: Mapping[str, Any]) -> Any:
    """Create a configuration from JSON, which has lists instead of tuples."""
    names = {field.name for field in fields(config)}
    if set(values) != names:
        raise ValueError(f"a config with the keys {sorted(values)} instead of {sorted(names)}")
    return config(**{name: tuple(x) if isinstance(x, list) else x for name, x in values.items()})
