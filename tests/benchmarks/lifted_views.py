"""Compare the images of lifted surfaces with the truth, from true or from predicted layers.

    python -m tests.benchmarks.lifted_views GRID=LAYERS ... [--size 256] [--keep DIR]

Each GRID is a rendered one. LAYERS are the surface layers of its view 0, of any size, such as
`fourdvd data render --views 1 --layers` makes of the same animation and light: then the result is
the limit of the form. Images of view 0 are the input; views 1 … of all frames are compared over
white. `measured` takes the layers of a network in the same way.

Edges is the mean difference of neighboring pixels over that of the truth. Flicker is the mean
second difference in time over that of the truth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from generation.curation.render.maps import read_layers
from generation.lift.drawing import draw
from generation.lift.surface import surface_of
from generation.surface_layers import SurfaceLayers
from recon.grid import Grid, read_grid
from recon.grid.grid import composite
from recon.media import write_png
from recon.metrics.image import psnr, silhouette_iou, ssim
from tests.benchmarks import harness
from tests.benchmarks.novel_views import resized

HEADER = (
    "grid", "layers", "PSNR", "SSIM", "IoU", "edges", "flicker", "surface s", "images s",
    "triangles",
)  # fmt: skip
SHEET_VIEWS, SHEET_FRAMES = 8, 3


class Measured(NamedTuple):
    """Means over the images of all views but view 0; seconds of all frames.

    Attributes:
        psnr: dB.
        ssim: at most 1.
        iou: of the silhouettes.
        edges: mean difference of neighboring pixels over that of the truth.
        flicker: mean second difference in time over that of the truth.
        surface_s: CPU time to build the surfaces.
        images_s: CPU time to draw all views.
        triangles: mean number.
    """

    psnr: float
    ssim: float
    iou: float
    edges: float
    flicker: float
    surface_s: float
    images_s: float
    triangles: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lifted_views")
    parser.add_argument("pairs", metavar="GRID=LAYERS", nargs="+")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--keep", metavar="DIR", type=Path, help="write contact sheets here")
    harness.add_options(parser, "lifted-views")
    options = parser.parse_args(arguments)
    table, found = [], []
    for pair in options.pairs:
        path, layers_folder = map(Path, pair.split("=", 1))
        truth = resized(read_grid(path), options.size)
        layers = [read_layers(layers_folder, 0, frame) for frame in range(truth.T)]
        images, result = measured(truth, layers)
        side = f"{layers[0].mask.shape[0]}²"
        found.append(result)
        table.append(row(path.name, side, result))
        print(*table[-1], flush=True)
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            write_png(options.keep / f"{path.name}-{side[:-1]}.png", contact_sheet(images, truth))
    table.append(row("mean", "", Measured(*np.mean(found, axis=0))))
    body = f"{harness.table(HEADER, table)}\n\n{options.size}². {harness.describe_machine('cpu')}"
    harness.publish(options.section, body, options.page)


def measured(truth: Grid, layers: Sequence[SurfaceLayers]) -> tuple[np.ndarray, Measured]:
    """Lift view 0 of a grid.

    Args:
        truth: the grid.
        layers: layers of view 0 of each frame.

    Returns:
        The images of all views, [V, T, H, W, 4], and how good they are.
    """
    cameras = [truth.camera_of(truth.index(view, 0)) for view in range(truth.V)]
    images, triangles, seconds = [], [], np.zeros(2)
    for frame, each in enumerate(layers):
        began = time.process_time()
        surface = surface_of(each, truth.image(0, frame), cameras[0])
        built = time.process_time()
        images.append(draw(surface, cameras))
        seconds += built - began, time.process_time() - built
        triangles.append(len(surface.triangles))
    made = np.stack(images, axis=1)
    surfaces, drawings = seconds.tolist()
    result = Measured(*quality(made, truth), surfaces, drawings, float(np.mean(triangles)))
    return made, result


def quality(images: np.ndarray, truth: Grid) -> tuple[float, float, float, float, float]:
    """Return PSNR, SSIM, IoU, edges and flicker of images [V, T, H, W, 4]."""
    scores, edges, changes = [], np.zeros(2), np.zeros(2)
    for view in range(1, truth.V):
        true = np.stack([truth.image(view, frame) for frame in range(truth.T)])
        made, real = (composite(x).astype(np.float32) / 255 for x in (images[view], true))
        for frame in range(truth.T):
            pair = made[frame], real[frame]
            alphas = images[view, frame, ..., 3] / 255, true[frame, ..., 3] / 255
            scores.append((psnr(*pair), ssim(*pair), silhouette_iou(*alphas)))
        edges += [np.abs(np.diff(x, axis=2)).mean() for x in (made, real)]
        changes += [np.abs(np.diff(x, 2, axis=0)).mean() for x in (made, real)]
    means = np.mean(scores, axis=0)
    return (*means.tolist(), float(edges[0] / edges[1]), float(changes[0] / changes[1]))


def contact_sheet(images: np.ndarray, truth: Grid) -> np.ndarray:
    """Show some views and frames, each row of made images above the true one."""
    views = np.linspace(0, truth.V, SHEET_VIEWS, endpoint=False).astype(int)
    frames = np.linspace(0, truth.T - 1, SHEET_FRAMES).astype(int)
    rows = []
    for frame in frames:
        rows.append([composite(images[view, frame]) for view in views])
        rows.append([composite(truth.image(view, frame)) for view in views])
    return np.concatenate([np.concatenate(row, 1) for row in rows]).astype(np.uint8)


def row(grid: str, layers: str, found: Measured) -> list[str]:
    """Format one row of the table."""
    return [
        grid, layers, f"{found.psnr:.2f}", f"{found.ssim:.4f}", f"{found.iou:.4f}",
        f"{found.edges:.3f}", f"{found.flicker:.2f}", f"{found.surface_s:.1f}",
        f"{found.images_s:.1f}", f"{found.triangles:.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
