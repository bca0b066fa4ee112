"""`fourdvd reconstruct`: fit a scene to a grid."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fourdvd_cli import console, interrupts
from fourdvd_cli.help import OUTPUT
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    FitSeedOption,
    JsonOption,
    MotionOption,
    OverwriteOption,
    Quality,
    QualityOption,
    QuietOption,
    ShDegreeOption,
    SkipMissingOption,
    Up,
    UpOption,
    VerboseOption,
    check_inputs,
)
from fourdvd_cli.playing import playing, wait_for_interrupt

if TYPE_CHECKING:
    from recon import Scene
    from recon.progress import ShouldStop
    from recon.viewer.server import PlayerServer


def reconstruct(
    grid: Annotated[
        Path,
        typer.Argument(
            metavar="GRID",
            help="Folder of a grid, a D-NeRF data set or a nerfstudio data set; or its JSON.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="SCENE",
            help="Scene folder to write.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: OverwriteOption = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Discard the state of an interrupted fit instead of resuming it.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    quality: QualityOption = Quality.standard,
    motion: MotionOption = None,
    sh_degree: ShDegreeOption = 0,
    seed: FitSeedOption = 0,
    up: UpOption = Up.auto,
    skip_missing: SkipMissingOption = False,
    device: DeviceOption = Device.auto,
    view: Annotated[
        bool,
        typer.Option(
            "--view",
            help="Show the scene in the browser while it is fitted; Ctrl-C ends the player.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Fit a scene of deformable 3D Gaussians to a grid.

    Ctrl-C saves the state of the fit; run the same command again to resume it, also with
    --overwrite, or with --restart to start from the beginning.
    """
    console.configure(quiet, verbose)
    check_inputs(grid)
    settings = {
        "quality": quality.value,
        "motion": motion and motion.value,
        "device": device.value,
        "seed": seed,
        "sh_degree": sh_degree,
    }
    reading = {"up": up.value, "skip_missing": skip_missing, "restart": restart}
    with contextlib.ExitStack() as stack:
        if view:
            stack.enter_context(playing(stack.enter_context(_server(output))))
        with interrupts.stop_request() as should_stop:  # before the imports, which take seconds
            scene = reconstruct_with_progress(
                grid, output, settings | reading, should_stop, overwrite=overwrite, quiet=quiet
            )
        if json:
            console.print_json(scene.metrics)
        if view:
            wait_for_interrupt()


def _server(folder: Path) -> PlayerServer:
    """Return a player of the fit that is about to make or replace a scene folder."""
    from recon.viewer.server import PlayerServer
    from recon.viewer.sources import SceneSource

    return PlayerServer(SceneSource(folder, refit=True), folder.resolve().name)


def reconstruct_with_progress(
    grid: Path,
    output: Path,
    settings: dict[str, Any],
    should_stop: ShouldStop,
    *,
    overwrite: bool,
    quiet: bool,
) -> Scene:
    """Call `recon.reconstruct` with a progress bar.

    Args:
        grid: see `recon.reconstruct`.
        output: see `recon.reconstruct`.
        settings: further arguments of `recon.reconstruct`.
        should_stop: see `recon.reconstruct`.
        overwrite: see `recon.reconstruct`.
        quiet: show no progress.
    """
    from recon import reconstruct as reconstruct_scene

    with console.steps("fitting", quiet) as on_step:
        scene = reconstruct_scene(
            grid,
            output,
            **settings,
            overwrite=overwrite,
            on_step=on_step,
            should_stop=should_stop,
        )
    split = "test" if "test" in scene.metrics else "train"
    views = "held-out" if split == "test" else "training"
    console.say(
        f"wrote {output}: {len(scene.gaussians.means)} Gaussians, "
        f"{scene.metrics[split]['psnr']:.2f} dB over white on the {views} views"
    )
    for warning in scene.metrics["warnings"]:
        console.warn(warning)
    return scene
