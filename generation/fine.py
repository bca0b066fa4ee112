"""The cascade's fine stage: SV4D as it is, told the coarse grid by a structure branch.

    coarse views ─▶ latents ─▶ branch ─┐ added to the network's features, in every step
    input video ──▶ latents ───────────┴▶ passes of SV4D at full size

Letters: n frames of the clip, T times and V views of a pass, h × w latent pixels.

Source: 4DVD, §3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from generation.models.structure_branch import Structure, StructureBranch
from generation.models.sv4d import SV4DConfig, SV4DUNet
from generation.models.unet import FeatureResiduals
from generation.networks import Networks
from generation.stages import Stage
from generation.weights.cascade_weights import BRANCH, load_branch, open_cascade_file
from recon.errors import InputError, WeightsError


class FineStage(Stage):
    """See `Stage`."""

    name = "fine"
    grids_before = 1

    def __init__(self, coarse: Tensor, branch: Path, base_sha256: str):
        """Keeps what it needs.

        Args:
            coarse: views of the coarse stage in [−1, 1], those of the input first, [n, V, 3, H, W].
            branch: the file.
            base_sha256: of the published file that the networks are from.
        """
        self.coarse, self.file, self.base_sha256 = coarse, branch, base_sha256

    def prepare(self, networks: Networks) -> None:
        """Reads the branch, and makes latents of the coarse grid.

        The branch stays on the device whatever the memory, because one of its forms has a share in
        every step.
        """
        assert isinstance(networks.unet, SV4DUNet)
        unet = networks.unet
        self.branch = read_branch(
            self.file, unet.config, self.base_sha256, unet.dtype, networks.device
        )
        latents = networks.latents(self.coarse.flatten(0, 1))
        self.latents = latents.unflatten(0, self.coarse.shape[:2])

    @torch.inference_mode()
    def inject(
        self, networks: Networks, latents: Tensor, frames: Sequence[int]
    ) -> FeatureResiduals:
        """See `Stage`."""
        structure = Structure(self.latents[frames].unsqueeze(0), latents[frames].unsqueeze(0))
        return self.branch(Structure(*(part.to(networks.device) for part in structure)))


def read_branch(
    path: Path,
    config: SV4DConfig,
    base_sha256: str,
    dtype: torch.dtype,
    device: torch.device,
) -> StructureBranch:
    """The branch of a file, whichever of the paper's or the ablations' it says it is.

    Args: as `load_branch`.

    Raises:
        WeightsError: as `load_branch`, and where it is none that is known.
    """
    told = open_cascade_file(path, BRANCH, base_sha256).hyper_parameters
    name, roles = str(told.get("name")), str(told.get("roles"))
    try:
        return load_branch(path, config, base_sha256, name, roles, dtype, device)
    except InputError as error:
        raise WeightsError(f"{path}: {error}; the file is damaged") from error
