"""What is different between the grids that a generation makes; `pipeline.Run` is what they share.

    Stage          published models: the published network, at the size of the input
    └ CoarseStage  the cascade's first grid: small, with a LoRA on the network (`coarse`)
    └ FineStage    its second: of full size, told the first by a structure branch (`fine`)

Letters: n frames of the clip, T times and V views of a pass, h × w latent pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import interpolate

from generation.checkpoint import STATE
from generation.models.unet import FeatureResiduals
from generation.networks import Networks

SEEDS = 1_000_003  # passes that one seed has noise for


class Stage:
    """A grid of the size of the input, of the published network as it is.

    Attributes:
        name: for people, before the names of passes; empty where it is the only one.
        state: name of the file in which its passes are saved.
        grids_before: how many are made before it.
        first_seed: its passes have noise of their own from this number on, below `SEEDS`.
    """

    name: ClassVar[str] = ""
    state: ClassVar[str] = STATE
    grids_before: ClassVar[int] = 0
    first_seed: ClassVar[int] = 0

    def resized(self, images: Tensor) -> Tensor:
        """Images of the input's size as this stage sees them, [N, 3, H, W]."""
        return images

    def prepare(self, networks: Networks) -> None:
        """Makes of the published networks those of the stage, before they are asked anything.

        Raises:
            WeightsError: its own weights do not fit them.
        """

    def inject(
        self, networks: Networks, latents: Tensor, frames: Sequence[int]
    ) -> FeatureResiduals | None:
        """What is added to the features of the network while it makes some frames.

        Args:
            networks: that were prepared.
            latents: of the input video, not scaled, [n, c, h, w].
            frames: T of them, in the order in which the network sees them.
        """
        return None

    def titled(self, what: str) -> str:
        """The name of a part of the work, for people."""
        return f"{self.name} {what}" if self.name else what


def reduced(images: Tensor, size: int) -> Tensor:
    """Images [N, 3, H, W] at size², unless they are not larger."""
    if images.shape[-1] <= size:
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True)


def enlarged(views: Tensor, size: int) -> Tensor:
    """Views [n, V, 3, H, W] in [−1, 1] at size², where they are smaller."""
    if views.shape[-1] == size:
        return views
    large = interpolate(views.flatten(0, 1), (size, size), mode="bicubic", align_corners=False)
    return large.clamp(-1, 1).unflatten(0, views.shape[:2])
