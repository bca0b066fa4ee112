"""Compare generated grids with the truth, next to two methods without a network and ablations.

    python -m tests.benchmarks.novel_views GRID ... [--metrics NAMES] [--weights DIR]
        [--methods NAME ...] [--branches NAME=FILE ...] [--frames N] [--output DIR]

Each GRID is a rendered one with cameras all around, such as `fourdvd data render` and
`tests.benchmarks.frozen_set` make. Its view 0 is the input, uncropped, so that the cameras match
the truth; views 1 … 15 of all 21 frames are compared over white, by metrics with networks only at
N evenly spaced frames. Methods:

    lift        the feed-forward model
    cascade     mini
    copy        the input view in place of every view
    inflation   the silhouette of each frame inflated to a body as deep as it is wide, with the
                colors of its front on its back
    coarse      the first stage of mini, enlarged

and one for each further branch: a file of `fourdvd train fine --branch … --roles …` on the same
base.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

from generation.clip.cropping import Crop
from generation.clip.preparing import SquareClip
from generation.diffusion_pipeline import DiffusionPipeline
from generation.metrics import load_metrics
from generation.pipelines import open_pipeline
from generation.settings import GenerateSettings
from generation.weights.catalogue import BRANCH_FILE
from recon.evaluation import Evaluation, evaluate_grid
from recon.evaluation.table import Method, Runs, Table
from recon.grid import Camera, Grid, grid_from_views, read_grid
from recon.grid.cameras import viewing_angles_deg
from recon.metrics.catalog import BASIC, METRICS, parse_names
from recon.metrics.interface import ImageMetric, ImagePair, Metric
from recon.output import output_folder, write_json
from recon.selection import evenly_spaced
from tests.benchmarks import harness

METHODS = ("copy", "inflation", "lift", "coarse", "cascade")
FINER = 3  # points of the inflated body along a side of a pixel
RIM_LAYERS = 48  # of points between front and back, where they do not meet


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.novel_views")
    parser.add_argument("grids", metavar="GRID", type=Path, nargs="+")
    parser.add_argument("--weights", metavar="DIR", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--methods", metavar="NAME", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--branches", metavar="NAME=FILE", nargs="*", default=[])
    parser.add_argument("--metrics", default=",".join((*BASIC, "sharpness")))
    parser.add_argument("--frames", metavar="N", type=int, help="frames of metrics with networks")
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder for table.csv and .json")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the generated grids here")
    harness.add_options(parser, "novel-views")
    options = parser.parse_args(arguments)
    branches = dict(each.split("=", 1) for each in options.branches)
    metrics = parse_names(options.metrics)
    opened = load_metrics(metrics, options.weights)
    found: dict[str, dict[str, Evaluation]] = {}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        for path in options.grids:
            truth = resized(read_grid(path), options.size)
            used = [at_few_frames(metric, options.frames, truth.T) for metric in opened]
            for name, make in methods(truth, keep / path.name, options.weights, branches).items():
                if name not in (*options.methods, *branches):
                    continue
                began = time.process_time()
                images = make()
                seconds.setdefault(name, []).append(time.process_time() - began)
                evaluation = evaluate_novel_views(images, truth, used)
                found.setdefault(name, {})[path.name] = evaluation
                means = (f"{key} {evaluation.mean(key)}" for key in metrics)
                print(path.name, name, *means, flush=True)
    table = table_of(found, options.grids, metrics)
    if options.output is not None:
        with output_folder(options.output) as folder:
            (folder / "table.csv").write_text(table.to_csv(), encoding="utf-8")
            write_json(folder / "table.json", table.to_json())
    each = ", ".join(f"{name} {np.mean(spent):.0f}" for name, spent in seconds.items())
    few = f" Metrics with networks at {options.frames} frames." if options.frames else ""
    remarks = (
        f"{options.size}².{few} CPU seconds per grid: {each}. {harness.describe_machine('cpu')}"
    )
    harness.publish(options.section, f"{table.to_markdown()}\n{remarks}", options.page)


class FewFrames:
    """A metric of images that has values only at some frames, because it takes long.

    Args:
        metric: the metric.
        frames: indices of these frames.
    """

    def __init__(self, metric: ImageMetric, frames: Sequence[int]):
        self.name, self._metric, self._frames = metric.name, metric, frames

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self._metric.settings, "frames": list(self._frames)}

    def measure(self, pair: ImagePair) -> Mapping[str, float | None]:
        return self._metric.measure(pair) if pair.frame in self._frames else {self.name: None}


def at_few_frames(metric: Metric, frames: int | None, T: int) -> Metric:
    """Restrict a metric of images with networks to evenly spaced ones of T frames."""
    slow = METRICS[metric.name].weights or metric.name == "st-lpips"
    if frames is None or not slow or METRICS[metric.name].of_videos:
        return metric
    return FewFrames(cast(ImageMetric, metric), evenly_spaced(T, frames))


def evaluate_novel_views(images: np.ndarray, truth: Grid, metrics: Sequence[Metric]) -> Evaluation:
    """Evaluate RGBA images [V, T, H, W, 4] of the cameras of a grid on all views but view 0."""
    cameras = [truth.camera_of(truth.index(view, 0)) for view in range(truth.V)]
    made = grid_from_views(cameras, images, truth.fps, times=truth.times)
    return evaluate_grid(made, truth.subset(np.flatnonzero(truth.view > 0)), metrics=metrics)


def table_of(
    found: dict[str, dict[str, Evaluation]], grids: Sequence[Path], metrics: tuple[str, ...]
) -> Table:
    """Put evaluations by method and grid in the table of `fourdvd evaluate --table`."""
    objects = {path.name: str(path) for path in grids}
    runs = Runs(
        metrics, objects, tuple(Method(name, "", None) for name in found), None, None, Path()
    )
    return Table(runs, found)


def resized(grid: Grid, size: int) -> Grid:
    """Resize the images of a grid to size²."""
    images = [
        Image.fromarray(image).resize((size, size), Image.Resampling.BOX) for image in grid.images
    ]
    cameras = tuple(camera.resized(size, size) for camera in grid.cameras)
    return replace(grid, images=np.stack([np.asarray(image) for image in images]), cameras=cameras)


def methods(
    truth: Grid, folder: Path, weights: Path | None, branches: dict[str, str]
) -> dict[str, Callable[[], np.ndarray]]:
    """Functions by name that make RGBA images [V, T, H, W, 4] from view 0 of a grid."""
    found: dict[str, Callable[[], np.ndarray]] = {
        "copy": lambda: copied(truth),
        "inflation": lambda: inflated(truth),
        "lift": lambda: generated("lift", truth, folder / "lift", weights),
        "coarse": lambda: generated("mini", truth, folder / "coarse", weights, coarse_only=True),
        "cascade": lambda: generated("mini", truth, folder / "cascade", weights),
    }
    for name, file in branches.items():

        def ablation(name: str = name, file: str = file) -> np.ndarray:
            return generated("mini", truth, folder / name, weights, branch=Path(file))

        found[name] = ablation
    return found


def view_of(grid: Grid, view: int) -> np.ndarray:
    """All frames of a view, [T, H, W, 4]."""
    return np.stack([grid.image(view, frame) for frame in range(grid.T)])


def copied(truth: Grid) -> np.ndarray:
    """Repeat the input view for every view."""
    return np.stack([view_of(truth, 0)] * truth.V)


def inflated(truth: Grid) -> np.ndarray:
    """Draw the inflated silhouettes of the input from all cameras."""
    cameras = [truth.camera_of(truth.index(view, 0)) for view in range(truth.V)]
    frames = [truth.image(0, frame) for frame in range(truth.T)]
    bodies = [inflated_body(image, cameras[0]) for image in frames]
    return np.stack([[drawn(*body, camera) for body in bodies] for camera in cameras])


def inflated_body(image: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """World points and colors of the front and back of the body behind an image.

    Its half depth at a pixel is that of the ball that touches the silhouette there from inside.
    """
    fine = np.repeat(np.repeat(image, FINER, 0), FINER, 1)
    inside = fine[..., 3] > 127
    depth = float(np.linalg.norm(camera.position))
    unit = depth / camera.fl_x / FINER  # world units of a fine pixel at the object
    margin = np.asarray(distance_transform_edt(inside))
    widest = max(float(margin.max()), 1.0)
    half = np.sqrt(np.clip(2 * widest * margin - margin**2, 0, None)) * unit
    rim = margin == 1
    layers = [(inside, 1.0), (inside, -1.0)]
    layers += [(rim, share) for share in np.linspace(-1, 1, RIM_LAYERS)]  # closes the body
    points, colors = [], []
    for where, share in layers:
        rows, columns = np.nonzero(where)
        z = depth + share * half[rows, columns]
        x = ((columns + 0.5) / FINER - camera.cx) / camera.fl_x
        y = ((rows + 0.5) / FINER - camera.cy) / camera.fl_y
        points.append(np.stack([x * z, -y * z, -z, np.ones_like(z)]))
        colors.append(fine[rows, columns, :3])
    world = camera.T_world_camera @ np.concatenate(points, axis=1)
    return world[:3].T, np.concatenate(colors)


def drawn(points: np.ndarray, colors: np.ndarray, camera: Camera) -> np.ndarray:
    """Draw points as an RGBA image, nearest on top; a point covers 2 × 2 pixels."""
    seen = camera.viewmat[:3, :3] @ points.T + camera.viewmat[:3, 3:]
    order = np.argsort(-seen[2])
    u = seen[0] / seen[2] * camera.fl_x + camera.cx
    v = seen[1] / seen[2] * camera.fl_y + camera.cy
    image = np.zeros((camera.height, camera.width, 4), np.uint8)
    for row_shift in (-0.5, 0.5):
        for column_shift in (-0.5, 0.5):
            rows = np.floor(v + row_shift / 2).astype(int)[order]
            columns = np.floor(u + column_shift / 2).astype(int)[order]
            held = (rows >= 0) & (rows < camera.height) & (columns >= 0) & (columns < camera.width)
            image[rows[held], columns[held], :3] = colors[order][held]
            image[rows[held], columns[held], 3] = 255
    return image


def generated(
    model: str,
    truth: Grid,
    folder: Path,
    weights: Path | None,
    *,
    branch: Path | None = None,
    coarse_only: bool = False,
) -> np.ndarray:
    """Generate all views from view 0 with a model."""
    cameras = [truth.camera_of(truth.index(view, 0)) for view in range(truth.V)]
    front, elevation = viewing_angles_deg(cameras[0])
    azimuths = tuple((viewing_angles_deg(camera)[0] - front) % 360 for camera in cameras[1:])
    settings = GenerateSettings(
        model,
        azimuths_deg=azimuths,
        elevation_deg=elevation,
        coarse_only=coarse_only,
        size=truth.width,
    )
    pipeline = open_pipeline(settings, weights)
    if branch is not None:
        assert isinstance(pipeline, DiffusionPipeline)
        pipeline = replace(pipeline, cascade={**pipeline.cascade, BRANCH_FILE: branch})
    made = pipeline.generate(whole_clip(view_of(truth, 0)), folder, overwrite=True)
    return np.stack([view_of(made.grid, view) for view in range(truth.V)])


def whole_clip(images: np.ndarray) -> SquareClip:
    """Wrap frames without cropping them, so that the cameras of the truth apply."""
    T, side = images.shape[:2]
    crop = Crop(((side / 2, side / 2),) * T, side, side / 2)
    return SquareClip(images, 10.0, True, tuple(range(T)), crop, ())


if __name__ == "__main__":
    main()
