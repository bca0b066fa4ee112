"""`fourdvd render`: render a scene as a free-view video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fourdvd_cli import console
from fourdvd_cli.help import CAMERAS, OUTPUT
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    SceneArgument,
    VerboseOption,
    check_inputs,
    usage,
)


def render(
    scene: SceneArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="VIDEO",
            help="Video to write: .mp4, .gif, or a name without suffix for a folder of PNG files.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: OverwriteOption = False,
    camera: Annotated[
        str,
        typer.Option(
            "--camera",
            metavar="NAME|FILE",
            help="Camera path: orbit, swing, fixed, fixed:VIEW (a view number), source (the camera "
            "of the input video, which sees the object where it was), or a file with a nerfstudio "
            "camera path or a transforms JSON.",
            rich_help_panel=CAMERAS,
        ),
    ] = "orbit",
    over: Annotated[
        Path | None,
        typer.Option(
            "--over",
            metavar="VIDEO",
            help="Draw the scene over the frames of this video, that of the scene; needs --camera "
            "source.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    transparent: Annotated[
        bool,
        typer.Option(
            "--transparent",
            help="Write PNG files with an alpha channel; needs a folder as output.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            min=16,
            max=8192,
            help="Longer side of the images in pixels.",
            show_default="that of the fitted views, or of the video for source",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            metavar="HZ",
            min=1,
            max=240,
            help="Frame rate in frames per second; of a GIF at most 50.",
            show_default="that of the camera file or the video, else 24",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            min=1,
            help="Number of frames.",
            show_default="whole loops of the motion; the video's for source",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Render a scene as a video in which camera and time move together."""
    console.configure(quiet, verbose)
    from recon.film.options import (
        check_camera_path,
        check_video_options,
        check_view,
        is_camera_file,
        view_number,
    )

    with usage("--camera"):
        check_camera_path(camera, frames)
    with usage():
        check_video_options(output, camera, fps, frames, over, transparent)
    check_inputs(scene, over, camera if is_camera_file(camera) else None)
    from recon.devices import resolve_device
    from recon.film.rendering import check_video_output, render_video
    from recon.scene import count_views, load_scene

    if (view := view_number(camera)) is not None:
        views = count_views(scene)
        with usage("--camera"):
            check_view(view, views)
    check_video_output(output, overwrite)
    loaded = load_scene(scene, resolve_device(device.value))
    with console.steps("rendering", quiet) as on_step:
        video = render_video(
            loaded,
            output,
            camera,
            fps=fps,
            frames=frames,
            size=size,
            on_step=on_step,
            overwrite=overwrite,
            over=over,
            transparent=transparent,
        )
    count = len(video.cameras)
    shown = console.numbered(count, "frame")
    console.say(f"wrote {output}: {shown} at {video.fps:g} per second")
    if json:
        first = video.cameras[0]
        shape = {"width": first.width, "height": first.height}
        console.print_json({"output": str(output), "frames": count, "fps": video.fps, **shape})
