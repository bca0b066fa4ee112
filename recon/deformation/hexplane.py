"""HexPlane: the motion is a smooth function of position and time, from feature planes and an MLP.

    (x, y, z, t) ──▶ planes xy xz yz · xt yt zt ──▶ product, levels concatenated ──▶ MLP ──▶ heads

The architecture of DreamGaussian4D (Ren et al. 2023) and 4D-GS (Wu et al. 2024), with the planes of
HexPlane (Cao and Johnson 2023). It is evaluated at the canonical means, so Gaussians close together
move alike, and has no parameters per Gaussian.

Letters: N Gaussians, C channels, L levels, R resolution. Frame: world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.deformation.interface import Deformation, restore_state
from recon.deformation.poses import ascending
from recon.gaussians import Gaussians
from recon.rotations import multiply_quats

PLANES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # pairs of the axes x y z t
TIME_AXIS = 3
MARGIN = 0.1  # around the Gaussians, relative to their extent
PLANE_RATE = 6.4e-3  # learning rates and weights as in the configuration of DreamGaussian4D
NETWORK_RATE = 6.4e-4
SPACE_VARIATION = 1e-4
TIME_SMOOTHNESS = 1e-2


class HexPlaneDeformation(Deformation):
    """Translation, rotation and optionally change of scale of any point at any time.

    The last layers of the heads are initialized with zeros: without fitting it is the identity.

    Args:
        times: fitted times, ascending; the time planes cover the range from the first to the last.
        bounds: lower and upper corner of the box that the planes cover, world units, [2, 3];
            outside, the features at its border are used.
        channels: C of every plane.
        resolution: resolution of the coarsest level along x, y, z and time; each further level
            doubles it in space. None: 64, 64, 64 and the number of times.
        levels: L.
        hidden: width of the MLP.
        scale_head: whether the logarithmic scales change as well, as in DreamGaussian4D.

    Raises:
        ValueError: times do not ascend, bounds have no extent, or a size is below 1.
    """

    name: ClassVar[str] = "hexplane"
    bounds: Tensor

    def __init__(
        self,
        times: Sequence[float],
        bounds: Tensor | Sequence[Sequence[float]],
        channels: int = 16,
        resolution: Sequence[int] | None = None,
        levels: int = 2,
        hidden: int = 64,
        scale_head: bool = False,
    ):
        super().__init__()
        self.times = ascending(times)
        self.resolution = tuple(resolution or (64, 64, 64, len(self.times)))
        if len(self.resolution) != 4 or min(*self.resolution, channels, levels, hidden) < 1:
            raise ValueError(
                f"expected positive sizes and four resolutions, found channels {channels}, "
                f"resolution {self.resolution}, levels {levels}, hidden {hidden}"
            )
        box = torch.as_tensor(bounds, dtype=torch.float32)
        if box.shape != (2, 3) or not (box[0] < box[1]).all():
            raise ValueError(f"expected bounds [2, 3], the lower corner first, found {bounds}")
        self.register_buffer("bounds", box, persistent=False)  # saved in the configuration
        self.levels = nn.ModuleList(
            _plane_level([2**level * r for r in self.resolution[:3]], self.resolution[3], channels)
            for level in range(levels)
        )
        self.network = nn.Sequential(
            nn.Linear(levels * channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.translation = _zero_head(hidden, 3)
        self.rotation = _zero_head(hidden, 4)
        self.scale = _zero_head(hidden, 3) if scale_head else None

    @classmethod
    def for_fit(cls, gaussians: Gaussians, times: Sequence[float]) -> HexPlaneDeformation:
        """Build a module without motion over the box of the N ≥ 1 Gaussians, on their device."""
        means = gaussians.means.detach()
        low, high = means.amin(dim=0), means.amax(dim=0)
        margin = MARGIN * (high - low).amax().clamp_min(1e-6)  # a single point has no extent
        return cls(times, torch.stack([low - margin, high + margin]).cpu()).to(means.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See `Deformation.parameter_groups`: the planes, and the network with its heads."""
        planes = list(self.levels.parameters())
        heads = [head for head in (self.translation, self.rotation, self.scale) if head is not None]
        layers = [parameter for part in (self.network, *heads) for parameter in part.parameters()]
        return [
            {"params": planes, "lr": PLANE_RATE, "name": "planes"},
            {"params": layers, "lr": NETWORK_RATE, "name": "network"},
        ]

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        """Move the Gaussians to `time`, and rotate each about its mean."""
        hidden = self.network(self.features(gaussians.means, time))
        identity = hidden.new_tensor([1.0, 0.0, 0.0, 0.0])
        turn = F.normalize(identity + self.rotation(hidden), dim=-1)
        scales = gaussians.scales
        return gaussians._replace(
            means=gaussians.means + self.translation(hidden),
            quats=multiply_quats(turn, gaussians.quats),
            scales=scales if self.scale is None else scales + self.scale(hidden),
        )

    def features(self, means: Tensor, time: float) -> Tensor:
        """Multiply the planes of each level and concatenate the levels, [N, 3] → [N, L · C]."""
        low, high = self.bounds
        start, span = self.times[0], self.times[-1] - self.times[0]
        normalized_time = 2 * (time - start) / span - 1 if span > 0 else 0.0
        space = 2 * (means - low) / (high - low) - 1
        points = torch.cat([space, space.new_full((len(space), 1), normalized_time)], dim=1)
        return torch.cat([_sampled_product(level, points) for level in self.levels], dim=1)

    def regularization(self, gaussians: Gaussians, time: float) -> Tensor:
        """Return total variation of space planes plus curvature of time planes, a scalar."""
        total = gaussians.means.new_zeros(())
        for level in self.levels:
            for axes, plane in zip(PLANES, level.parameters(), strict=True):
                if TIME_AXIS in axes:
                    total = total + TIME_SMOOTHNESS * _mean_square(plane.diff(n=2, dim=1))
                else:
                    variation = _mean_square(plane.diff(dim=1)) + _mean_square(plane.diff(dim=2))
                    total = total + SPACE_VARIATION * variation
        return total

    @torch.no_grad()
    def change_world(self, scale: float, offset: Tensor) -> None:
        """See `Deformation.change_world`: the box moves, the translation's last layer scales."""
        self.bounds.copy_(scale * self.bounds.double() + offset.to(self.bounds.device))
        for parameter in self.translation[-1].parameters():
            parameter.mul_(scale)

    def configuration(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        first = next(self.levels.parameters())
        return {
            "times": list(self.times),
            "bounds": self.bounds.tolist(),
            "channels": first.shape[0],
            "resolution": list(self.resolution),
            "levels": len(self.levels),
            "hidden": self.network[0].out_features,
            "scale_head": self.scale is not None,
        }

    @classmethod
    def from_tensors(
        cls, configuration: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> HexPlaneDeformation:
        """See `Deformation.from_tensors`."""
        module = cls(**configuration)
        restore_state(module, tensors)
        return module


def _plane_level(space: Sequence[int], times: int, channels: int) -> nn.ParameterList:
    """Planes [C, R_b, R_a] in the order of `PLANES`; time planes start at 1, the neutral factor."""
    sizes = [*space, times]
    return nn.ParameterList(
        torch.ones(channels, sizes[b], sizes[a])
        if b == TIME_AXIS
        else torch.empty(channels, sizes[b], sizes[a]).uniform_(0.1, 0.5)
        for a, b in PLANES
    )


def _zero_head(hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), last)


def _sampled_product(planes: nn.Module, points: Tensor) -> Tensor:
    """Product of bilinear samples of six planes at points in [−1, 1]⁴, [N, 4] → [N, C]."""
    product = points.new_ones(())
    for (a, b), plane in zip(PLANES, planes.parameters(), strict=True):
        values = F.grid_sample(
            plane[None],
            points[None, None, :, [a, b]],
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        product = product * values[0, :, 0]
    return product.T


def _mean_square(differences: Tensor) -> Tensor:
    """Mean of squares; 0 for no differences."""
    return differences.square().sum() / max(1, differences.numel())
