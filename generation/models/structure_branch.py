"""The structure condition branches by name: the paper's, and those of its ablation.

    unet(x, noise, vector, context, reference, inject=branch(structure))

is the fine stage of the cascade. What it does not know: files, and what the UNet was trained on.

Source: 4DVD, §3.4 and §5.5.
"""

from __future__ import annotations

from generation.models.appearance_propagation import ROLES
from generation.models.controlnet_branch import ControlNetBranch
from generation.models.pyramid_branches import LayerwiseBranch, T2IAdapterBranch
from generation.models.structure_condition import StructureBranch
from generation.models.sv4d import SV4DConfig
from recon.errors import InputError

BRANCHES: dict[str, type[StructureBranch]] = {
    branch.name: branch for branch in (LayerwiseBranch, ControlNetBranch, T2IAdapterBranch)
}


def build_branch(name: str, config: SV4DConfig, roles: str = "reference_query") -> StructureBranch:
    """A branch of fresh weights, which adds nothing yet.

    Args:
        name: "layerwise" (the paper's), "controlnet" or "t2i_adapter".
        config: of the UNet whose features it adds to.
        roles: of MAP, "reference_query" (the paper's) or "feature_query".

    Raises:
        InputError: there is no such branch or no such role.
    """
    if name not in BRANCHES:
        raise InputError(
            f"there is no structure branch {name!r}; choose one of {', '.join(BRANCHES)}"
        )
    if roles not in ROLES:
        raise InputError(f"MAP has no roles {roles!r}; choose one of {', '.join(ROLES)}")
    return BRANCHES[name](config, roles)
