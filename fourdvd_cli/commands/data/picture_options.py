"""Options of the commands that render grids: what is drawn, and in which light."""

from __future__ import annotations

from typing import Annotated

import typer

ViewsOption = Annotated[int, typer.Option("--views", min=1, max=256)]
SizeOption = Annotated[
    int, typer.Option("--size", min=4, max=4096, help="Of an image's side in pixels.")
]
ElevationOption = Annotated[
    float, typer.Option("--elevation", metavar="DEG", min=-89, max=89, help="Of all cameras.")
]
SamplesOption = Annotated[
    int, typer.Option("--samples", min=1, max=65536, help="A pixel; more is less noise.")
]
AmbientOption = Annotated[
    float, typer.Option("--ambient", min=0, help="Strength of the light from all around.")
]
SunOption = Annotated[float, typer.Option("--sun", min=0, help="Strength of the sun.")]
DepthOption = Annotated[bool, typer.Option("--depth", help="Write depth maps, too.")]
NormalsOption = Annotated[bool, typer.Option("--normals", help="Write maps of the normals, too.")]
TracksOption = Annotated[
    int, typer.Option("--tracks", min=0, metavar="N", help="Follow so many vertices, too.")
]
