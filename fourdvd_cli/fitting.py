"""`recon.fitting.reconstruction` as the command line runs it: with progress, and stoppable."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdvd_cli import console, interrupts
from recon.devices import resolve_device

if TYPE_CHECKING:
    from recon.fitting.reconstruction import Progress
    from recon.scene import Scene

WITHOUT_KERNELS = (
    "the CPU kernels were not compiled at the install, so this goes on in plain PyTorch, hundreds "
    "of times slower; install a C++ compiler and run `python -m recon.native.build`"
)


@dataclass(frozen=True)
class FitSettings:
    """What a person chooses about a fit.

    Attributes:
        quality: "draft", "standard" or "high".
        motion: a key of `recon.deformation.motion_models`, or None for the device's best one.
        device: "auto", "cpu" or "cuda".
        seed: of all random choices.
        sh_degree: of the colours' spherical harmonics; above 0 they depend on the view.
    """

    quality: str = "standard"
    motion: str | None = None
    device: str = "auto"
    seed: int = 0
    sh_degree: int = 0


def fit(
    grid: Path, folder: Path, settings: FitSettings, *, overwrite: bool = False, quiet: bool = False
) -> Scene:
    """Fits a scene to a grid, shows how it goes, and stops with its state saved when asked to.

    Raises:
        FourdvdError: as `recon.fitting.reconstruction.reconstruct`; `Interrupted` after a signal.
    """
    with interrupts.stop_request() as should_stop:  # before the imports, which take seconds
        from recon.fitting.config import preset
        from recon.fitting.reconstruction import reconstruct
        from recon.native.library import built

        values: dict[str, Any] = asdict(settings)
        values["device"] = resolve_device(settings.device)
        if values["device"] == "cpu" and not built():
            console.say(WITHOUT_KERNELS)
        with console.progress("fitting", quiet) as report:
            scene = reconstruct(
                grid,
                folder,
                preset(**values),
                overwrite=overwrite,
                on_step=lambda step: report(step.iteration, step.iterations, describe(step)),
                should_stop=should_stop,
            )
    console.say(f"wrote {folder}: {describe_scene(scene)}")
    return scene


def describe_scene(scene: Scene) -> str:
    """How large and how good a finished scene is; held-out views count where there are some."""
    split = "test" if "test" in scene.metrics else "train"
    views = "held-out" if split == "test" else "training"
    return (
        f"{len(scene.gaussians.means)} Gaussians, "
        f"{scene.metrics[split]['psnr']:.2f} dB on the {views} views"
    )


def describe(step: Progress) -> str:
    """The numbers that matter about a fit that goes on."""
    minutes, seconds = divmod(round(step.seconds_left), 60)
    return (
        f"{step.stage} · {step.psnr:.1f} dB · {step.gaussians} Gaussians · "
        f"{minutes}:{seconds:02d} left"
    )
