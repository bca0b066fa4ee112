"""What decides how a fit goes: its settings, and the usual ones by name.

Letters: N Gaussians. It knows neither images nor tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from recon.errors import InputError
from recon.fitting.densification import GrowAndPrune, Relocation
from recon.losses import LossWeights


@dataclass(frozen=True)
class LearningRates:
    """Adam's, for an object of radius about 1.

    Attributes:
        means: at the start; falls exponentially to `means_end` over the fit.
        means_end: at the end.
        scales: of the logarithmic scales.
        quats: of the rotations.
        opacities: of the logits.
        sh0: of the constant colour.
        shN: of the colour that depends on the view.
        end: factor of all but the means at the end, reached exponentially after the growth.
        motion_start: by how much the motion of a frame is fitted faster when it has just joined.
        motion_end: factor of the motion's own rates at the end, reached likewise.
    """

    means: float = 1e-3
    means_end: float = 3e-5
    scales: float = 6e-3
    quats: float = 4e-3
    opacities: float = 4e-2
    sh0: float = 4e-3
    shN: float = 2e-4
    end: float = 0.3
    motion_start: float = 4.0
    motion_end: float = 0.1


@dataclass(frozen=True)
class FitConfig:
    """All that decides what a fit does; `preset` makes the usual ones.

    Attributes:
        motion: key of `recon.deformation.motion_models`.
        iterations: in all.
        initial_gaussians: drawn from the visual hull; N until all frames have joined.
        gaussians: cap on N afterwards.
        views: in one step.
        sh_degree: of the spherical harmonics, 0 to 3.
        static: fraction of the iterations on one frame.
        growth: fraction of the iterations in which the other frames join one by one.
        newest: fraction of the growth's steps that draw the frames that joined last.
        stiff_start: by how much the motion of a frame is stiffer when it has just joined.
        growth_size: longer edge of the images in pixels until the growth is over.
        middle_size: likewise at the beginning of the rest; the last part has the full size.
        middle: fraction of the iterations at `middle_size`.
        weights: of the loss.
        rates: of the optimiser.
        densification: policy.
        robust: whether images that contradict the others of their time count less, and those of a
            generated grid's input view more.
        random_background: whether images are compared over random colours (else over white).
        threads: of the CPU kernels; 0 means all processors.
        device: of the tensors.
        seed: of everything random.
        checkpoint_every: iterations between two checkpoints.
    """

    motion: str = "bones"
    iterations: int = 9000
    initial_gaussians: int = 5000
    gaussians: int = 10000
    views: int = 2
    sh_degree: int = 0
    static: float = 0.1
    growth: float = 0.5
    newest: float = 0.6
    stiff_start: float = 9.0
    growth_size: int = 128
    middle_size: int = 256
    middle: float = 0.1
    weights: LossWeights = field(default_factory=LossWeights)
    rates: LearningRates = field(default_factory=LearningRates)
    densification: Relocation | GrowAndPrune = field(default_factory=Relocation)
    robust: bool = True
    random_background: bool = True
    threads: int = 0
    device: str = "cpu"
    seed: int = 0
    checkpoint_every: int = 500

    def for_images(self, edge: int) -> FitConfig:
        """The same settings for images of another size than 256 pixels, which `preset` is made for.

        Larger images show more, so the number of Gaussians grows with their edge.
        """
        factor = edge / 256
        return replace(
            self,
            initial_gaussians=round(self.initial_gaussians * min(1.0, factor)),
            gaussians=round(self.gaussians * factor),
        )


QUALITIES: dict[str, FitConfig] = {
    "draft": FitConfig(iterations=3000, initial_gaussians=4000, gaussians=6000),
    "standard": FitConfig(),
    "high": FitConfig(iterations=22000, initial_gaussians=8000, gaussians=20000),
}
ALL_VIEWS = 16  # in one step on a GPU, which is hardly slower than two


def preset(
    quality: str = "standard",
    motion: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    sh_degree: int = 0,
) -> FitConfig:
    """The usual settings.

    Args:
        quality: "draft", "standard" or "high": about 1, 5 or 15 minutes on two CPU cores at 256².
        motion: key of `recon.deformation.motion_models`; bones if None.
        device: "cpu" or "cuda".
        seed: of everything random.
        sh_degree: of the spherical harmonics, 0 to 3; above 0 the colour depends on the view.

    Raises:
        InputError: there is no such quality or degree.
    """
    if quality not in QUALITIES:
        raise InputError(f"unknown quality {quality!r}; expected one of {sorted(QUALITIES)}")
    if sh_degree not in range(4):
        raise InputError(f"expected a degree of spherical harmonics from 0 to 3, found {sh_degree}")
    config = replace(
        QUALITIES[quality],
        motion=motion or "bones",
        device=device,
        seed=seed,
        sh_degree=sh_degree,
    )
    return config if device == "cpu" else replace(config, views=ALL_VIEWS)
