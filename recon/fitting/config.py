"""Settings of a fit, and their presets by quality. Letters: N Gaussians, T frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from recon.errors import InputError
from recon.fitting.densification import DensificationPolicy, Relocation
from recon.losses import LossWeights

DEFAULT_QUALITY = "standard"
DEFAULT_MOTION = "bones"  # on every device
REFERENCE_SIZE = 256  # pixels: the longer image edge that the settings are tuned for
REFERENCE_FRAMES = 21  # as well
GPU_VIEWS_PER_STEP = 16  # hardly slower than two on a GPU


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of Adam, in the normalized frame of a fit: an object of radius about 1.

    Attributes:
        means: initial rate of the means.
        means_final: final rate of the means; it decays exponentially over the whole fit.
        scales: rate of the logarithmic scales.
        quats: rate of the rotations.
        opacities: rate of the logit opacities.
        sh0: rate of the constant color coefficient.
        shN: rate of the view-dependent color coefficients.
        final_factor: factor by which all rates but that of the means decay during refinement.
        new_frame_boost: relative increase of the motion's rates for a frame that has just joined.
        motion_final_factor: factor by which the motion's rates decay during refinement.
    """

    means: float = 1e-3
    means_final: float = 3e-5
    scales: float = 6e-3
    quats: float = 4e-3
    opacities: float = 4e-2
    sh0: float = 4e-3
    shN: float = 2e-4
    final_factor: float = 0.3
    new_frame_boost: float = 4.0
    motion_final_factor: float = 0.1


@dataclass(frozen=True)
class FitConfig:
    """All settings of a fit; `fit_config` returns the presets.

    Attributes:
        motion: motion model, a key of `recon.deformation.motion_models`.
        iterations: number of optimization steps; `for_grid` raises it for clips of more than
            `REFERENCE_FRAMES`.
        initial_gaussians: number of Gaussians drawn from the visual hull; cap on N until
            refinement.
        max_gaussians: cap on N during refinement.
        views_per_step: number of images in one step, all of the same frame.
        sh_degree: degree of the spherical harmonics, 0 to 3.
        static_fraction: fraction of the iterations in the static phase, on a single frame.
        motion_fraction: fraction of the iterations in the motion phase, while frames join.
        newest_frame_prob: probability that a step of the motion phase samples a newest frame.
        new_frame_stiffness: relative increase of the motion's regularization for a frame that has
            just joined.
        motion_image_size: longer image edge in pixels during the static and the motion phase.
        middle_image_size: longer image edge in pixels in the first part of refinement; full size
            afterwards.
        middle_fraction: fraction of the iterations at `middle_image_size`.
        loss_weights: weights of the terms of the image loss.
        learning_rates: learning rates of Adam.
        densification: policy that adds, moves and removes Gaussians.
        robust_weights: whether images that contradict the others of their frame have less weight,
            and those of the input view more.
        random_background: whether images are compared over random colors instead of white.
        threads: number of threads of the CPU kernels; 0: see `recon.devices.usable_threads`.
        device: "cpu" or "cuda".
        seed: random seed.
        checkpoint_every: iterations between two checkpoints.
    """

    motion: str = DEFAULT_MOTION
    iterations: int = 9000
    initial_gaussians: int = 5000
    max_gaussians: int = 10000
    views_per_step: int = 2
    sh_degree: int = 0
    static_fraction: float = 0.1
    motion_fraction: float = 0.5
    newest_frame_prob: float = 0.6
    new_frame_stiffness: float = 9.0
    motion_image_size: int = 128
    middle_image_size: int = 256
    middle_fraction: float = 0.1
    loss_weights: LossWeights = field(default_factory=LossWeights)
    learning_rates: LearningRates = field(default_factory=LearningRates)
    densification: DensificationPolicy = field(default_factory=Relocation)
    robust_weights: bool = True
    random_background: bool = True
    threads: int = 0
    device: str = "cpu"
    seed: int = 0
    checkpoint_every: int = 500

    def for_grid(self, edge: int, frames: int) -> FitConfig:
        """Scale the number of Gaussians to the images, and that of the iterations to the frames.

        Larger images show more detail. More frames have more poses; but neighbors have similar
        ones, so the iterations grow with the square root of the frames. The other settings are
        unchanged.

        Args:
            edge: longer edge of the images in pixels.
            frames: number of frames, T.
        """
        factor = edge / REFERENCE_SIZE
        longer = math.sqrt(max(1.0, frames / REFERENCE_FRAMES))
        return replace(
            self,
            iterations=round(self.iterations * longer),
            initial_gaussians=round(self.initial_gaussians * min(1.0, factor)),
            max_gaussians=round(self.max_gaussians * factor),
        )


QUALITIES: dict[str, FitConfig] = {
    "draft": FitConfig(iterations=3000, initial_gaussians=4000, max_gaussians=6000),
    "standard": FitConfig(),
    "high": FitConfig(iterations=22000, initial_gaussians=8000, max_gaussians=20000),
}


def fit_config(
    quality: str = DEFAULT_QUALITY,
    motion: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    sh_degree: int = 0,
) -> FitConfig:
    """Return the preset of a quality.

    Args:
        quality: "draft", "standard" or "high": standard takes about a minute on two CPU cores
            for 21 frames at 256², longer for more; draft has a third of its iterations, high 2.4
            times as many and twice the Gaussians.
        motion: motion model, a key of `recon.deformation.motion_models`; None: `DEFAULT_MOTION`.
        device: "cpu" or "cuda".
        seed: random seed.
        sh_degree: degree of the spherical harmonics, 0 to 3; above 0 colors depend on the view.

    Raises:
        InputError: the quality is unknown, or the degree is not in 0 to 3.
    """
    if quality not in QUALITIES:
        raise InputError(f"unknown quality {quality!r}; expected one of {sorted(QUALITIES)}")
    if sh_degree not in range(4):
        raise InputError(f"expected a degree of spherical harmonics from 0 to 3, found {sh_degree}")
    config = replace(
        QUALITIES[quality],
        motion=motion or DEFAULT_MOTION,
        device=device,
        seed=seed,
        sh_degree=sh_degree,
    )
    return config if device == "cpu" else replace(config, views_per_step=GPU_VIEWS_PER_STEP)
