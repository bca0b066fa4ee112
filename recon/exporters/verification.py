"""Verify exports: read the files back, render them and compare with the scene.

A file with a wrong activation or orientation is still valid, so images are compared: each format
is decoded by its own reader, rotated back to the world, and rendered from the scene's cameras. Only
`ply` is lossless; the other formats quantize or drop parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recon.errors import InputError, VerificationError
from recon.exporters import MESHES
from recon.exporters.conventions import (
    exported_motion,
    frame_seconds,
    move_gaussians,
    rotate_gaussians,
    rotation_to,
)
from recon.exporters.fourdgs_file import gaussians_from_fourdgs
from recon.exporters.gaussforge_files import (
    gaussians_from_compressed_ply,
    gaussians_from_sog,
    gaussians_from_spz,
)
from recon.exporters.glb_mesh import exact_motion, mesh_from_glb, rest_time_of, rotated_mesh
from recon.exporters.glb_splats import gaussians_from_glb
from recon.exporters.html import scene_from_html
from recon.exporters.manifest import read_manifest
from recon.exporters.options import ExportOptions
from recon.exporters.ply import gaussians_from_ply
from recon.exporters.ply_zip import gaussians_from_zip
from recon.exporters.splat import gaussians_from_splat
from recon.exporters.splat4d import gaussians_from_splat4d
from recon.exporters.usd import gaussians_from_usd, mesh_from_usd
from recon.gaussians import Gaussians
from recon.grid.cameras import Camera
from recon.mesh.rendering import render_mesh
from recon.mesh.skeleton import rigid_inverse
from recon.metrics.image import psnr
from recon.progress import OnStep, Progress, ignore_progress
from recon.rendering import render_gaussians
from recon.scene import Scene
from recon.selection import evenly_spaced

PLY_PSNR_MIN = 45.0  # dB; PLY is lossless, so anything below is an error
VIEWS, FRAMES = 4, 3  # numbers of compared cameras and times, evenly spaced
MOTION_STEPS = 4  # duration of the comparison of motions in images

DECODERS: dict[str, Callable[[bytes], Gaussians]] = {
    "ply": gaussians_from_ply,
    "splat": gaussians_from_splat,
    "glb-splats": gaussians_from_glb,
    "spz": gaussians_from_spz,
    "sog": gaussians_from_sog,
    "compressed-ply": gaussians_from_compressed_ply,
}  # of a file per frame
SEQUENCES: dict[str, Callable[[bytes, int], Gaussians]] = {
    "zip": gaussians_from_zip,
    "usd": gaussians_from_usd,
    "4dgs": gaussians_from_fourdgs,
    "splat4d": gaussians_from_splat4d,
}  # of one file with all frames


class Verification(NamedTuple):
    """The exported files of one format compared with the scene.

    Attributes:
        psnr: mean PSNR of renderings over the images, dB.
        worst_psnr: lowest PSNR of an image, dB.
        images: number of images compared.
        bytes: size of all files.
        mean_vertex_error: mean distance of the vertices of a mesh from where the scene moves them,
            over the frames and the times halfway between them, relative to the diagonal of the
            object's bounding box; None: no mesh.
        max_vertex_error: the largest of these distances.
    """

    psnr: float
    worst_psnr: float
    images: int
    bytes: int
    mean_vertex_error: float | None = None
    max_vertex_error: float | None = None


def verify_export(
    scene: Scene,
    folder: str | Path,
    formats: Sequence[str] | None = None,
    on_step: OnStep = ignore_progress,
) -> dict[str, Verification]:
    """Compare exported files with the scene.

    Args:
        scene: the exported scene.
        folder: export folder with `export.json`.
        formats: formats to verify; None: all in `export.json`.
        on_step: called before each image of a format and each comparison of a motion.

    Returns:
        The result of each format.

    Raises:
        InputError: The folder has no `export.json`, a format is not in it, or a file is not valid.
        VerificationError: A file is missing or changed, or a PLY does not show the scene.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)["formats"]
    results = {}
    for name in manifest if formats is None else formats:
        if name not in manifest:
            raise InputError(
                f"expected one of the exported formats {', '.join(manifest)}, found {name!r}",
                folder,
            )
        results[name] = _verify_format(scene, folder, name, manifest[name], on_step)
    if "ply" in results and results["ply"].worst_psnr < PLY_PSNR_MIN:
        raise VerificationError(
            f"{folder}: expected renderings of the PLY files with {PLY_PSNR_MIN:g} dB PSNR or more "
            f"against the scene, found {results['ply'].worst_psnr:.1f} dB; export again"
        )
    return results


def _verify_format(
    scene: Scene, folder: Path, name: str, entry: dict[str, Any], on_step: OnStep
) -> Verification:
    files = [_checked_bytes(folder, file) for file in entry["files"]]
    cameras = [scene.cameras[index] for index in evenly_spaced(len(scene.cameras), VIEWS)]
    frames = evenly_spaced(len(entry["times"]), FRAMES)
    psnrs, images = [], len(frames) * len(cameras)
    steps = images + (MOTION_STEPS if name in MESHES else 0)
    on_step(Progress("comparing with the scene", 0, steps))
    render = _renderer(scene, name, entry, files)
    for frame in frames:
        with torch.no_grad():
            moved = scene.at(entry["times"][frame])
        for camera in cameras:
            expected = _render_gaussians(moved, camera, scene.background)
            on_step(Progress("comparing with the scene", len(psnrs), steps))
            psnrs.append(psnr(render(frame, camera), expected))
    result = Verification(
        float(np.mean(psnrs)), float(np.min(psnrs)), len(psnrs), sum(len(data) for data in files)
    )
    if name not in MESHES:
        return result
    on_step(Progress("comparing the motion of the mesh", images, steps))
    mean, largest = _vertex_errors(scene, name, files[-1], entry)
    return result._replace(mean_vertex_error=mean, max_vertex_error=largest)


def _vertex_errors(
    scene: Scene, name: str, data: bytes, entry: dict[str, Any]
) -> tuple[float, float]:
    """Measure the distances of the mesh's vertices from the motion of the scene: mean, maximum."""
    frames = np.asarray(entry["times"])
    times = np.sort(np.concatenate([frames, (frames[1:] + frames[:-1]) / 2]))
    seconds = np.interp(times, frames, frame_seconds(scene, frames))
    options = ExportOptions(**entry["options"])
    if name == "glb":
        found, rest_time = mesh_from_glb(data, seconds).positions, rest_time_of(data)
        motion = exported_motion(scene, times, options, name)
        found = found if motion is None else motion.undone(found)
    else:
        found, rest_time = mesh_from_usd(data, scene.fps * seconds)
    found = found @ rotation_to(options.axes_of(name), scene.R_world_source).numpy()
    expected = exact_motion(scene, times, options, rest_time)
    if found.shape != expected.shape:
        raise VerificationError(
            f"expected a mesh of {expected.shape[1]} vertices, found {found.shape[1]}; export again"
        )
    size = float(np.linalg.norm(np.ptp(expected[0], axis=0)))
    errors = np.linalg.norm(found - expected, axis=-1) / size
    return float(errors.mean()), float(errors.max())


def _renderer(
    scene: Scene, name: str, entry: dict[str, Any], files: list[bytes]
) -> Callable[[int, Camera], np.ndarray]:
    """Return a function that renders a frame of the exported files from a camera."""
    back = rotation_to(entry["options"]["axes"], scene.R_world_source).T
    times, options = np.asarray(entry["times"]), ExportOptions(**entry["options"])
    motion = None if name == "usd" else exported_motion(scene, times, options, name)
    if name == "glb":
        mesh = mesh_from_glb(files[0])
        if motion is not None:
            mesh = mesh._replace(positions=motion.undone(mesh.positions))
        mesh = rotated_mesh(mesh, back.numpy())
        return lambda frame, camera: render_mesh(mesh, frame, camera, scene.background)
    if name == "html":
        packed = scene_from_html(files[0])
        return lambda frame, camera: _render_gaussians(
            packed.at(entry["times"][frame]), camera, scene.background
        )

    def render(frame: int, camera: Camera) -> np.ndarray:
        if name in SEQUENCES:
            read = SEQUENCES[name](files[0], frame)
        else:
            read = DECODERS[name](files[frame])
        if motion is not None:
            read = move_gaussians(read, rigid_inverse(motion.poses[frame]))
        gaussians = rotate_gaussians(read, back)
        return _render_gaussians(gaussians, camera, scene.background)

    return render


def _render_gaussians(
    gaussians: Gaussians, camera: Camera, background: Sequence[float]
) -> np.ndarray:
    with torch.no_grad():
        image = render_gaussians(gaussians, [camera], background).rgb[0]
    return image.clamp(0, 1).cpu().numpy()


def _checked_bytes(folder: Path, file: dict[str, Any]) -> bytes:
    path = folder / file["path"]
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise VerificationError(f"{path} is missing; export again") from error
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        raise VerificationError(f"{path} is not the file that was exported; export again")
    return data
