"""Options that several commands share, and their choices.

The choices repeat tables of the libraries, because `--help` must not import them; a test compares
the two. An option has the same meaning in every command; option names of older versions are
accepted but not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fourdvd_cli.help import CAMERAS, FIT, INPUT, MACHINE, MODEL, OUTPUT
from recon.errors import InputError


class Device(StrEnum):
    """Device on which a command computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Quality(StrEnum):
    """Presets of a fit, in `recon.fitting.config`."""

    draft = "draft"
    standard = "standard"
    high = "high"


class Motion(StrEnum):
    """The motion models of `recon.deformation`."""

    bones = "bones"
    hexplane = "hexplane"
    keyframes = "keyframes"


class Format(StrEnum):
    """The formats of `recon.exporters`."""

    ply = "ply"
    glb = "glb"
    glb_splats = "glb-splats"
    splat = "splat"
    html = "html"
    zip = "zip"
    spz = "spz"
    sog = "sog"
    compressed_ply = "compressed-ply"
    usd = "usd"
    fourdgs = "4dgs"
    splat4d = "splat4d"


class Axes(StrEnum):
    """The axes of `recon.exporters.conventions`."""

    y_down = "y-down"
    y_up = "y-up"
    z_up = "z-up"


class ExportAxes(StrEnum):
    """The axes of `recon.exporters.conventions`, and those of the fitted files."""

    y_down = "y-down"
    y_up = "y-up"
    z_up = "z-up"
    source = "source"


class Up(StrEnum):
    """The axes of `recon.grid.orientation`, and `auto`, which guesses one."""

    auto = "auto"
    x = "x"
    y = "y"
    z = "z"
    minus_x = "-x"
    minus_y = "-y"
    minus_z = "-z"


class MeshAnimation(StrEnum):
    """The animations of `recon.exporters.options`."""

    auto = "auto"
    morph = "morph"


class Model(StrEnum):
    """The models of `generation.pipelines`, and `auto`, which chooses one."""

    auto = "auto"
    lift = "lift"
    mini = "mini"
    sv4d2 = "sv4d2"
    sv4d2_8views = "sv4d2-8views"
    sv4d = "sv4d"
    fourdvd = "4dvd"

    @property
    def key(self) -> str:
        """The name in the libraries."""
        return self.value.replace("-", "_")


class OrbitModel(StrEnum):
    """The published orbit models, which generate the reference views."""

    sv3d_u = "sv3d_u"
    sv3d_p = "sv3d_p"


class Precision(StrEnum):
    """Floating-point formats of the networks."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class TrainingSize(StrEnum):
    """The image sizes of packed training data."""

    low = "low"
    high = "high"


class Direction(StrEnum):
    """The direction in which azimuths increase, seen from above."""

    ccw = "ccw"
    cw = "cw"


RENAMED = {
    "radius": "distance",
    "elevations": "elevation",
    "faces": "max-faces",
    "max-triangles": "max-faces",
    "max-size": "max-file-size",
    "licence": "license",
    "accept-licence": "accept-license",
    "batch": "batch-size",
    "glb-animation": "mesh-animation",
}
"""Option names of older versions and their current names, in all commands."""


def renamed(names: dict[str, str] = RENAMED) -> dict[str, Any]:
    """Return the context settings with which a command accepts option names of older versions."""
    return {"token_normalize_func": lambda name: names.get(name, name)}


@contextmanager
def usage(option: str | None = None) -> Iterator[None]:
    """Let settings that a library refuses in the block be wrong usage, with exit code 2.

    The block must not read files: those that are not valid have an exit code of their own.

    Args:
        option: name of the option at fault, if it is known; else the error may name an argument.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        if error.argument is not None:
            message = message.removeprefix(f"{error.argument}: ")
            option = option or option_of(error.argument)
        raise typer.BadParameter(message, param_hint=option) from error


def option_of(argument: str) -> str:
    """Return the option for an argument of the libraries: "--fov" for `fov_deg`."""
    return f"--{argument.removesuffix('_deg').replace('_', '-')}"


def check_inputs(*paths: Path | str | None) -> None:
    """Check, before anything slow is imported, that input files and folders exist.

    Raises:
        InputError: one does not.
    """
    for path in paths:
        if path is not None and not Path(path).exists():
            raise InputError.missing(path)


def refuse_unused(given: Mapping[str, bool], reason: str) -> None:
    """Let an option that would have no effect be wrong usage.

    Args:
        given: whether each option was given, by name.
        reason: why it has no use here.
    """
    if option := next((name for name, is_given in given.items() if is_given), None):
        raise typer.BadParameter(reason, param_hint=option)


def one_of(choices: type[StrEnum]) -> str:
    """List choices for a sentence: "auto, cpu or cuda"."""
    *others, last = choices
    return f"{', '.join(others)} or {last}"


@dataclass(frozen=True)
class Degrees:
    """Angles in degrees, parsed from comma-separated numbers."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return ",".join(f"{value:g}" for value in self.values)


def parse_degrees(text: str | Degrees) -> Degrees:
    """Parse a text like "0,22.5,45"; typer passes a default of this type unchanged."""
    if isinstance(text, Degrees):
        return text
    try:
        return Degrees(tuple(float(number) for number in text.split(",")))
    except ValueError as error:
        raise typer.BadParameter(
            f"expected comma-separated numbers such as 0,22.5,45, found {text!r}"
        ) from error


SceneArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SCENE",
        help="Scene folder, as written by `fourdvd reconstruct`, or the config.yml of a nerfstudio "
        "run of the method fourdvd.",
    ),
]
FovOption = Annotated[
    float,
    typer.Option(
        "--fov",
        metavar="DEG",
        help="Horizontal field of view of the cameras in degrees.",
        rich_help_panel=CAMERAS,
    ),
]
DistanceOption = Annotated[
    float,
    typer.Option(
        "--distance",
        metavar="UNITS",
        help="Distance of the cameras from the object in world units.",
        rich_help_panel=CAMERAS,
    ),
]
UpOption = Annotated[
    Up,
    typer.Option(
        "--up",
        metavar="AXIS",
        help=f"Axis that points up in the world of a grid of another program: {one_of(Up)}; auto "
        "guesses it from the cameras.",
        rich_help_panel=CAMERAS,
    ),
]
SkipMissingOption = Annotated[
    bool,
    typer.Option(
        "--skip-missing",
        help="Leave out images of a grid that have no file or no pose.",
        rich_help_panel=INPUT,
    ),
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        "--device",
        metavar="NAME",
        help=f"{one_of(Device)}; auto uses CUDA where it is available, else the CPU.",
        rich_help_panel=MACHINE,
    ),
]
SourceFpsOption = Annotated[
    float | None,
    typer.Option(
        "--source-fps",
        metavar="HZ",
        help="Frame rate of the input in frames per second, such as of a folder of images.",
        show_default="the input's own times; 10 for a folder",
        rich_help_panel=INPUT,
    ),
]
MosaicOption = Annotated[
    str | None,
    typer.Option(
        "--mosaic",
        metavar="ROWSxCOLUMNS",
        help="Each video shows several views, row by row from the upper left, such as 2x4.",
        show_default="it shows one view",
        rich_help_panel=INPUT,
    ),
]
RecenterOption = Annotated[
    bool,
    typer.Option(
        "--recenter",
        help="Crop around the object in each frame, for objects that move across the image; their "
        "exports can have root motion.",
        rich_help_panel=INPUT,
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        help="Random seed; on a CPU the same seed gives the same result.",
        rich_help_panel=MODEL,
    ),
]
FitSeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        help="Random seed; on a CPU the same seed gives the same result.",
        rich_help_panel=FIT,
    ),
]
ModelOption = Annotated[
    Model,
    typer.Option(
        "--model",
        metavar="NAME",
        help=f"{one_of(Model)}; auto is 4dvd or sv4d2 where a CUDA device and their weights are "
        "found, else lift. The weights of all but lift and mini are fetched by `fourdvd models "
        "fetch`.",
        rich_help_panel=MODEL,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="DIR",
        help="Folder of network weights.",
        show_default="FOURDVD_WEIGHTS, then the Hugging Face cache",
        rich_help_panel=MODEL,
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="N",
        min=1,
        max=1000,
        help="Denoising steps per window of a diffusion model.",
        show_default="the model's",
        rich_help_panel=MODEL,
    ),
]
LowMemoryOption = Annotated[
    bool,
    typer.Option(
        "--low-memory",
        help="Reduce GPU memory at the cost of time; the result is the same.",
        rich_help_panel=MACHINE,
    ),
]
QualityOption = Annotated[
    Quality,
    typer.Option(
        "--quality",
        metavar="NAME",
        help=f"{one_of(Quality)}: standard takes about a minute on two CPU cores for 21 frames "
        "of 256 x 256 pixels, longer for more; draft has a third of its iterations, high 2.4 times "
        "as many and twice the Gaussians.",
        rich_help_panel=FIT,
    ),
]
MotionOption = Annotated[
    Motion | None,
    typer.Option(
        "--motion",
        metavar="NAME",
        help=f"Motion model: {one_of(Motion)}.",
        show_default="bones",
        rich_help_panel=FIT,
    ),
]
ShDegreeOption = Annotated[
    int,
    typer.Option(
        "--sh-degree",
        metavar="N",
        min=0,
        max=3,
        help="Degree of spherical harmonics; above 0, colors depend on the view, for shiny "
        "surfaces.",
        rich_help_panel=FIT,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Number of parallel processes on this machine.",
        show_default="one per core",
        rich_help_panel=MACHINE,
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run on a Ray cluster; `local` starts one on this machine.",
        rich_help_panel=MACHINE,
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an existing result once the new one is complete.",
        rich_help_panel=OUTPUT,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings and errors.")]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show log messages and the tracebacks of known errors."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
]
