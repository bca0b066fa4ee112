"""`fourdvd train`: the networks of the cascade, one command a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    TrainingSize,
    VerboseOption,
)

train = typer.Typer(
    name="train",
    help="Train the networks of the cascade, stage by stage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

ShardsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="SHARDS...",
        help="Folders of shards, as `fourdvd data pack` makes; one that is named twice is seen "
        "twice as often. The last samples of the last are held out.",
    ),
]
TrainingOption = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="OUT", help="Folder of the training; an older one goes on."
    ),
]
ConfigOption = Annotated[
    str,
    typer.Option(
        "--config", metavar="NAME|FILE", help="mini, mini_noisy, mini_more, paper, or a TOML file."
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="In all.", show_default="the configuration's"),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch", min=1, help="Grids of a step, of all processes.", show_default="likewise"
    ),
]
LearningRateOption = Annotated[
    float | None, typer.Option("--lr", help="After the warm-up.", show_default="likewise")
]
TrainingSeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Of everything random.", show_default="likewise"),
]
ReadersOption = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes that read samples.", show_default="likewise"),
]
VaeOption = Annotated[
    Path,
    typer.Option(
        "--vae", metavar="DIR", help="Output folder of `fourdvd train vae`, or an assembled one."
    ),
]
BaseOption = Annotated[
    Path,
    typer.Option(
        "--base",
        metavar="DIR|FILE",
        help="Output folder of `fourdvd train base`, an assembled one, or SV4D's published file.",
    ),
]
BaseVaeOption = Annotated[
    Path | None,
    typer.Option(
        "--vae",
        metavar="DIR",
        help="Output folder of `fourdvd train vae`, or an assembled one.",
        show_default="that of a published base",
    ),
]
StartOption = Annotated[
    Path | None,
    typer.Option(
        "--start",
        metavar="DIR",
        help="Output folder of another training of this stage, whose networks to start from.",
        show_default="fresh networks",
    ),
]
ViewsOption = Annotated[
    Path | None,
    typer.Option(
        "--reference-views",
        metavar="DIR",
        help="Output folder of `fourdvd train reference-views`, whose views to be told.",
        show_default="true views",
    ),
]
CoarseOption = Annotated[
    Path | None,
    typer.Option(
        "--coarse",
        metavar="DIR",
        help="Output folder of `fourdvd train coarse`, whose views to be told.",
        show_default="true views",
    ),
]
BranchOption = Annotated[
    str, typer.Option("--branch", metavar="NAME", help="layerwise, controlnet or t2i_adapter.")
]
RolesOption = Annotated[
    str, typer.Option("--roles", metavar="NAME", help="reference_query or feature_query.")
]
SizeOption = Annotated[
    TrainingSize | None,
    typer.Option("--size", help="Of the images.", show_default="the configuration's"),
]
AgainOption = Annotated[
    bool, typer.Option("--overwrite", help="Start again, and lose what was trained before.")
]


@train.command()
def vae(
    shards: ShardsArgument,
    output: TrainingOption,
    config: ConfigOption = "mini",
    steps: StepsOption = None,
    batch: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    overwrite: AgainOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Image autoencoder, in whose latents the other stages work.

    Ctrl-C saves the state; the same command goes on from there.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingChoices, train_vae

    choices = TrainingChoices(
        shards, output, config, steps, batch, learning_rate, seed, device.value, workers,
        overwrite, quiet,
    )  # fmt: skip
    told = train_vae(choices)
    if json:
        console.print_json(told)


@train.command("reference-views")
def reference_views(
    shards: ShardsArgument,
    output: TrainingOption,
    vae: VaeOption,
    config: ConfigOption = "mini",
    start: StartOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    overwrite: AgainOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """SV3D, which makes views of the first frame.

    Ctrl-C saves the state; the same command goes on from there.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingChoices, train_reference_views

    choices = TrainingChoices(
        shards, output, config, steps, batch, learning_rate, seed, device.value, workers,
        overwrite, quiet,
    )  # fmt: skip
    told = train_reference_views(choices, vae, start)
    if json:
        console.print_json(told)


@train.command("base")
def base_network(
    shards: ShardsArgument,
    output: TrainingOption,
    vae: VaeOption,
    config: ConfigOption = "mini",
    start: StartOption = None,
    size: SizeOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    overwrite: AgainOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """SV4D, which makes all frames of few views, on which the cascade stands.

    Ctrl-C saves the state; the same command goes on from there.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingChoices, train_base

    choices = TrainingChoices(
        shards, output, config, steps, batch, learning_rate, seed, device.value, workers,
        overwrite, quiet,
    )  # fmt: skip
    told = train_base(choices, vae, start, size and size.value)
    if json:
        console.print_json(told)


@train.command()
def coarse(
    shards: ShardsArgument,
    output: TrainingOption,
    base: BaseOption,
    vae: BaseVaeOption = None,
    reference_views: ViewsOption = None,
    config: ConfigOption = "mini",
    steps: StepsOption = None,
    batch: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    overwrite: AgainOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """LoRA with which the base makes all views at the low size.

    Ctrl-C saves the state; the same command goes on from there.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingChoices, train_coarse

    choices = TrainingChoices(
        shards, output, config, steps, batch, learning_rate, seed, device.value, workers,
        overwrite, quiet,
    )  # fmt: skip
    told = train_coarse(choices, vae, base, reference_views)
    if json:
        console.print_json(told)


@train.command()
def fine(
    shards: ShardsArgument,
    output: TrainingOption,
    base: BaseOption,
    vae: BaseVaeOption = None,
    reference_views: ViewsOption = None,
    coarse: CoarseOption = None,
    config: ConfigOption = "mini",
    branch: BranchOption = "layerwise",
    roles: RolesOption = "reference_query",
    steps: StepsOption = None,
    batch: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    overwrite: AgainOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Branch with which the base makes the high size after the coarse views.

    Ctrl-C saves the state; the same command goes on from there.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingChoices, train_fine

    choices = TrainingChoices(
        shards, output, config, steps, batch, learning_rate, seed, device.value, workers,
        overwrite, quiet,
    )  # fmt: skip
    told = train_fine(choices, vae, base, branch, roles, reference_views, coarse)
    if json:
        console.print_json(told)


@train.command()
def assemble(
    trainings: Annotated[
        Path,
        typer.Argument(
            metavar="TRAININGS",
            help="Folder with those of vae, reference-views, base, coarse and fine in it.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="WEIGHTS", help="Folder to make.")
    ],
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Five finished trainings → weights for `generate --model mini --weights WEIGHTS`."""
    console.configure(quiet, verbose)
    from generation.training.assembling import assemble as collect

    sizes = collect(trainings, output, overwrite)
    if json:
        console.print_json({"weights": str(output), "bytes": sizes})
    console.say(f"wrote {output}: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB")
