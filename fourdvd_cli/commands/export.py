"""`fourdvd export`: export a scene to the file formats of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fourdvd_cli import console
from fourdvd_cli.help import MESH, OUTPUT
from fourdvd_cli.options import (
    Device,
    DeviceOption,
    ExportAxes,
    Format,
    JsonOption,
    MeshAnimation,
    OverwriteOption,
    QuietOption,
    SceneArgument,
    VerboseOption,
    check_inputs,
    one_of,
    usage,
)

if TYPE_CHECKING:
    from recon.exporters.options import ExportOptions

USUAL_PSNR, USUAL_PSNR_OF_MESHES = 45.0, 27.0  # dB or more; the examples' meshes: 28.7 to 29.8


def export(
    scene: SceneArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for the files, with one subfolder per format.",
            rich_help_panel=OUTPUT,
        ),
    ],
    formats: Annotated[
        list[Format],
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"{one_of(Format)}; may be repeated. docs/formats.md says which program reads "
            "which. glb and usd make a mesh first, which takes the most time.",
            rich_help_panel=OUTPUT,
        ),
    ],
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            min=1,
            help="Number of frames.",
            show_default="the fitted frames",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    axes: Annotated[
        ExportAxes | None,
        typer.Option(
            "--axes",
            metavar="NAME",
            help=f"Axes of the files: {one_of(ExportAxes)}, which is the world of the fitted grid.",
            show_default="what viewers expect: y-down for ply and splat, y-up for glb",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    pad_sh: Annotated[
        bool,
        typer.Option(
            "--pad-sh",
            help="Write ply and zip with the 62 properties of the original implementation "
            "(normals, harmonics of degree 3), which older importers and SIBR expect.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    root_motion: Annotated[
        bool | None,
        typer.Option(
            "--root-motion/--no-root-motion",
            help="Move the object as it moved in the input video, or keep it in its place.",
            show_default="with for glb and usd, if the scene knows it; else without",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Read the files back, compare their renderings and the motion of the mesh with "
            "the scene, and report the differences and sizes.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    max_faces: Annotated[
        int,
        typer.Option(
            "--max-faces",
            metavar="N",
            min=4,
            help="Maximum number of triangles of the mesh (glb, usd).",
            rich_help_panel=MESH,
        ),
    ] = 20_000,
    texture_size: Annotated[
        int,
        typer.Option(
            "--texture-size",
            metavar="PIXELS",
            min=16,
            max=8192,
            help="Side of the texture in pixels (glb, usd).",
            rich_help_panel=MESH,
        ),
    ] = 1024,
    mesh_animation: Annotated[
        MeshAnimation,
        typer.Option(
            "--mesh-animation",
            metavar="NAME",
            help=f"{one_of(MeshAnimation)}; auto is a skeleton where the motion is bones, else a "
            "morph target (glb) or the points (usd) of each frame.",
            rich_help_panel=MESH,
        ),
    ] = MeshAnimation.auto,
    device: DeviceOption = Device.auto,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Export a scene as a page that plays it, a PLY sequence, a GLB mesh, or splat files."""
    console.configure(quiet, verbose)
    from recon.exporters.options import PADDED, ExportOptions

    names = list(dict.fromkeys(name.value for name in formats))
    if pad_sh and not set(names) & set(PADDED):
        raise typer.BadParameter(
            f"needs --format {' or '.join(PADDED)}, found {', '.join(names)}", param_hint="--pad-sh"
        )
    if Format.usd in formats and axes is ExportAxes.y_down:
        raise typer.BadParameter("usd can be y-up or z-up only", param_hint="--axes")
    with usage():
        options = ExportOptions(
            frames=frames,
            axes=axes and axes.value,
            faces=max_faces,
            texture_size=texture_size,
            animation=mesh_animation.value,
            pad_sh=pad_sh,
            root_motion=root_motion,
        )
    check_inputs(scene)
    manifest = export_with_progress(
        scene,
        output,
        names,
        options,
        verify=verify,
        device=device.value,
        overwrite=overwrite,
        quiet=quiet,
    )
    if json:
        console.print_json(manifest)
    if verify:
        found = {name: manifest["formats"][name]["verification"] for name in names}
        for name, verification in found.items():
            _warn_if_unlike(name, verification)
        if not json:
            _print_verifications(found)


def _is_mesh(verification: dict[str, Any]) -> bool:
    return verification["mean_vertex_error"] is not None


def _usual_psnr(verification: dict[str, Any]) -> float:
    """Return the PSNR to the scene that files of a format have at least, dB."""
    return USUAL_PSNR_OF_MESHES if _is_mesh(verification) else USUAL_PSNR


def _warn_if_unlike(format: str, verification: dict[str, Any]) -> None:
    """Warn of files that show less of the scene than is usual."""
    psnr, usual = verification["psnr"], _usual_psnr(verification)
    if psnr >= usual:
        return
    what = f"the mesh of {format}" if _is_mesh(verification) else format
    console.warn(
        f"{what} has {psnr:.1f} dB to the scene, usual are {usual:.0f} or more; ply is lossless, "
        "and html looks like the scene, too"
    )


def _print_verifications(found: Mapping[str, dict[str, Any]]) -> None:
    """Print a table of verifications by format, with the errors of vertices if any has a mesh."""
    header = ("format", "size", "PSNR to the scene", "usual", "worst image", "images")
    rows = [
        (
            name,
            f"{v['bytes'] / 1e6:.2f} MB",
            f"{v['psnr']:.2f} dB",
            f"{_usual_psnr(v):.0f} dB or more",
            f"{v['worst_psnr']:.2f} dB",
            str(v["images"]),
        )
        for name, v in found.items()
    ]
    if any(_is_mesh(verification) for verification in found.values()):
        header = (*header, "vertices off, max")
        rows = [(*row, _vertex_errors(v)) for row, v in zip(rows, found.values(), strict=True)]
    console.print_table(header, rows)


def _vertex_errors(verification: dict[str, Any]) -> str:
    """Describe the errors of a mesh in percent of the object's size."""
    mean, largest = verification["mean_vertex_error"], verification["max_vertex_error"]
    return "–" if mean is None else f"{100 * mean:.3f} %, {100 * largest:.2f} %"


def export_with_progress(
    scene_folder: Path,
    output: Path,
    formats: Sequence[str],
    options: ExportOptions,
    *,
    verify: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Load a scene folder and run `recon.export`, showing its progress.

    Raises:
        FourdvdError: As in `recon.load_scene` and `recon.export`.
    """
    from recon.devices import resolve_device
    from recon.exporters.folder import export
    from recon.scene import load_scene

    scene = load_scene(scene_folder, resolve_device(device))
    names = ", ".join(formats)
    with console.steps(f"exporting {names}", quiet) as on_step:
        manifest = export(
            scene, output, formats, options, verify=verify, on_step=on_step, overwrite=overwrite
        )
    count = sum(len(manifest["formats"][name]["files"]) for name in formats)
    console.say(f"wrote {console.numbered(count, 'file')} to {output} ({names})")
    return manifest
