"""Renders a free-view video of a scene folder, with progress."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fourdvd_cli import console
from recon.devices import resolve_device
from recon.film.free_view import free_view_frames, plan_shot
from recon.film.writing import check_film, write_film
from recon.scene import load_scene


def film(
    scene_folder: Path,
    output: Path,
    path: str,
    *,
    fps: float | None = None,
    size: int | None = None,
    frames: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Films a scene.

    Args:
        scene_folder: as `reconstruct` makes it.
        output: as `recon.film.writing.write_film` takes it.
        path: of the camera; this and the next three as `recon.film.free_view.plan_shot`.
        fps: frames a second.
        size: pixels along the longer side.
        frames: how many.
        device: "auto", "cpu" or "cuda".
        overwrite: whether an older film may be replaced.
        quiet: show no progress.

    Raises:
        FourdvdError: the scene, the camera path, the device or the output cannot be used.
    """
    check_film(output, overwrite)
    scene = load_scene(scene_folder, resolve_device(device))
    shot = plan_shot(scene, path, fps, frames, size)

    def drawn() -> Iterator:
        with console.progress("rendering", quiet) as report:
            images = free_view_frames(scene, shot.cameras, shot.times)
            for done, image in enumerate(images, start=1):
                yield image
                report(done, len(shot.cameras))

    write_film(output, drawn(), shot.fps, overwrite)
    console.say(f"wrote {output}: {len(shot.cameras)} frames at {shot.fps:g} a second")
