"""One token for an image, by a small convolutional network: what CLIP's tower is to the large ones.

    image ─▶ side × side ─▶ (3 × 3 convolution with stride 2, norm, SiLU) … ─▶ linear ─▶ token

It is trained together with the network that reads its tokens. Letters: N images, H × W pixels.
What it does not know: words, and any image but those of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate

from generation.models.normalization import GROUPS, GroupNorm
from recon.errors import InputError


@dataclass(frozen=True)
class TokenTowerConfig:
    """Sizes of a tower.

    Attributes:
        side: of the image that the convolutions see, in pixels.
        widths: channels after each convolution, multiples of 32.
        token: width of the token.

    Raises:
        InputError: a width is no multiple of 32, or the side is not divisible as often as there are
            convolutions.
    """

    side: int = 64
    widths: tuple[int, ...] = (32, 64, 64, 64)
    token: int = 128

    def __post_init__(self):
        if any(width % GROUPS for width in self.widths) or self.side % 2 ** len(self.widths):
            raise InputError(
                f"expected tower widths that are multiples of {GROUPS} and a side that can be "
                f"halved {len(self.widths)} times, found {self.widths} and {self.side}"
            )


class TokenTower(nn.Module):
    """Images to tokens."""

    def __init__(self, config: TokenTowerConfig):
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), GroupNorm(after), nn.SiLU())
                for before, after in pairwise((3, *config.widths))
            )
        )
        left = config.side >> len(config.widths)
        self.project = nn.Linear(config.widths[-1] * left**2, config.token)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens, float32.

        Args:
            images: in [−1, 1], of any size, [N, 3, H, W].

        Returns:
            [N, token].
        """
        size = (self.config.side, self.config.side)
        if images.shape[-2:] != size:
            images = interpolate(images, size, mode="bilinear", antialias=True)
        images = images.to(self.project.weight.dtype)
        return self.project(self.layers(images).flatten(1)).float()
