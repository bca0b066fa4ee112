"""The options that several commands share, and the names they accept.

The names stand here once more, beside the tables of the libraries, because `--help` must not import
them; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where tensors live."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Quality(StrEnum):
    """How long a fit takes on two CPU cores: about 1, 5 or 15 minutes."""

    draft = "draft"
    standard = "standard"
    high = "high"


class Motion(StrEnum):
    """The models of `recon.deformation` that can be fitted."""

    bones = "bones"
    hexplane = "hexplane"
    keyframes = "keyframes"


class Format(StrEnum):
    """The formats of `recon.exporters`."""

    ply = "ply"
    glb = "glb"
    glb_splats = "glb-splats"
    splat = "splat"


class Axes(StrEnum):
    """The axes of `recon.exporters.axes`."""

    y_down = "y-down"
    y_up = "y-up"
    z_up = "z-up"


class Model(StrEnum):
    """The models of `generation.presets`."""

    mini = "mini"
    sv4d2 = "sv4d2"
    sv4d2_8views = "sv4d2-8views"
    sv4d = "sv4d"
    fourdvd = "4dvd"

    @property
    def key(self) -> str:
        """As the libraries call it."""
        return self.value.replace("-", "_")


class OrbitModel(StrEnum):
    """The models that make the views of the first frame for SV4D."""

    sv3d_u = "sv3d_u"
    sv3d_p = "sv3d_p"


class Precision(StrEnum):
    """The numbers that networks compute with."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class TrainingSize(StrEnum):
    """The sizes at which grids are packed for training."""

    low = "low"
    high = "high"


class Renderer(StrEnum):
    """What draws assets, as in `generation.curation.render_settings`."""

    cycles = "cycles"
    fast = "fast"


class Direction(StrEnum):
    """How azimuths count, seen from above."""

    ccw = "ccw"
    cw = "cw"


@dataclass(frozen=True)
class Degrees:
    """Angles that were written as numbers with commas between them."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return ",".join(f"{value:g}" for value in self.values)


def parse_degrees(text: str | Degrees) -> Degrees:
    """The angles in a text like "0,22.5,45"; typer hands its default over as it is."""
    if isinstance(text, Degrees):
        return text
    try:
        return Degrees(tuple(float(number) for number in text.split(",")))
    except ValueError as error:
        raise typer.BadParameter(f"expected numbers with commas, found {text!r}") from error


SceneArgument = Annotated[
    Path, typer.Argument(metavar="SCENE", help="Scene folder, as `fourdvd reconstruct` makes it.")
]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="auto takes CUDA where it can be used.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="The same seed gives the same result on a CPU.")
]
ModelOption = Annotated[
    Model, typer.Option("--model", help="Networks to use; all but mini need weights.")
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="DIR",
        help="Folder of weights; else FOURDVD_WEIGHTS and the Hugging Face cache.",
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option("--steps", min=1, max=1000, help="Of a sampling run.", show_default="the model's"),
]
LowMemoryOption = Annotated[
    bool, typer.Option("--low-memory", help="Slower, with less GPU memory; the same result.")
]
QualityOption = Annotated[
    Quality, typer.Option("--quality", help="About 1, 5 or 15 minutes on two CPU cores.")
]
MotionOption = Annotated[
    Motion | None,
    typer.Option("--motion", help="Motion model.", show_default="the best one for the device"),
]
ShDegreeOption = Annotated[
    int,
    typer.Option(
        "--sh-degree", min=0, max=3, help="Above 0, colours depend on the view: for shiny things."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="How many at once on this machine.",
        show_default="as many as it has cores",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Run on a Ray cluster; local starts one on this machine."
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there once the new result is complete.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what goes wrong.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more, with tracebacks of known failures.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
]
