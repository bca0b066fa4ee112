"""Options of the commands that render grids."""

from __future__ import annotations

from typing import Annotated

import typer

from fourdvd_cli.help import CAMERAS, IMAGES

ViewsOption = Annotated[
    int,
    typer.Option(
        "--views",
        metavar="N",
        min=1,
        max=256,
        help="Number of views, evenly spaced around the object.",
        rich_help_panel=CAMERAS,
    ),
]
FramesOption = Annotated[
    int,
    typer.Option(
        "--frames",
        metavar="N",
        min=1,
        max=1000,
        help="Number of frames, evenly spaced over the animation.",
        rich_help_panel=CAMERAS,
    ),
]
SizeOption = Annotated[
    int,
    typer.Option(
        "--size",
        metavar="PIXELS",
        min=4,
        max=4096,
        help="Side of the images in pixels.",
        rich_help_panel=CAMERAS,
    ),
]
ElevationOption = Annotated[
    float,
    typer.Option(
        "--elevation",
        metavar="DEG",
        min=-89,
        max=89,
        help="Elevation of all cameras above the horizon in degrees.",
        rich_help_panel=CAMERAS,
    ),
]
YawOption = Annotated[
    float,
    typer.Option(
        "--yaw",
        metavar="DEG",
        help="Rotation of the object about the vertical axis in degrees, counter-clockwise seen "
        "from above.",
        rich_help_panel=CAMERAS,
    ),
]
SamplesOption = Annotated[
    int,
    typer.Option(
        "--samples",
        metavar="N",
        min=1,
        max=65536,
        help="Samples per pixel; more give less noise.",
        rich_help_panel=IMAGES,
    ),
]
AmbientOption = Annotated[
    float,
    typer.Option(
        "--ambient",
        metavar="STRENGTH",
        min=0,
        help="Strength of the ambient light.",
        rich_help_panel=IMAGES,
    ),
]
SunOption = Annotated[
    float,
    typer.Option(
        "--sun",
        metavar="STRENGTH",
        min=0,
        help="Strength of the sun light.",
        rich_help_panel=IMAGES,
    ),
]
DepthOption = Annotated[
    bool, typer.Option("--depth", help="Write depth maps as well.", rich_help_panel=IMAGES)
]
NormalsOption = Annotated[
    bool, typer.Option("--normals", help="Write normal maps as well.", rich_help_panel=IMAGES)
]
LayersOption = Annotated[
    bool,
    typer.Option(
        "--layers",
        help="Write the surfaces along each pixel's ray as well: front, back, and both sides of a "
        "gap between them.",
        rich_help_panel=IMAGES,
    ),
]
TracksOption = Annotated[
    int,
    typer.Option(
        "--tracks",
        metavar="N",
        min=0,
        help="Number of vertices to track through time.",
        rich_help_panel=IMAGES,
    ),
]
