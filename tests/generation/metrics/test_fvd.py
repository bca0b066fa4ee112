"""FVD compares the videos it says: frames of a view, views of a frame, wrapped diagonals."""

import csv
import dataclasses
import io

import numpy as np
import pytest
import torch

from generation.metrics.frechet import set_distance
from generation.metrics.fvd import Formula, Fvd, VideoImages, videos_of
from recon.errors import InputError
from recon.evaluation import evaluate_grid
from recon.evaluation.table import Method, Runs, evaluate_table
from recon.grid import Grid, grid_from_views, orbit_camera
from recon.grid.writing import write_posed_images
from recon.metrics.interface import ImagePair, Metric
from tests.conftest import make_tiny_grid

GRID = [(view, frame) for view in range(3) for frame in range(5)]


def test_the_frames_of_each_view_and_the_views_of_each_frame_are_videos():
    assert dict(videos_of("fvd-f", GRID))["view 1"] == [(1, frame) for frame in range(5)]
    assert dict(videos_of("fvd-v", GRID))["frame 4"] == [(view, 4) for view in range(3)]


def test_diagonals_wrap_around_and_cover_the_grid_once():
    diagonals = dict(videos_of("fvd-diag", GRID))
    assert diagonals["diagonal 1"] == [(1, 0), (2, 1), (0, 2), (1, 3), (2, 4)]
    assert sorted(key for keys in diagonals.values() for key in keys) == GRID
    with pytest.raises(InputError, match="found 14 images"):
        list(videos_of("fvd-diag", GRID[1:]))


def test_a_free_view_video_has_one_image_at_each_time():
    path = [(2, 0), (0, 1), (1, 2)]
    assert dict(videos_of("fvd", sorted(path))) == {"video": path}
    with pytest.raises(InputError, match="15 images of 5 times"):
        list(videos_of("fvd", GRID))


class MeanColor(torch.nn.Module):
    """Three features of a video: its mean color."""

    def forward(self, videos):
        assert videos.shape[-2:] == (224, 224)
        return videos.mean(dim=(2, 3, 4))


def metrics(formula: Formula = "pair") -> list[Metric]:
    images = VideoImages()
    return [Fvd(name, MeanColor(), images, formula) for name in ("fvd-f", "fvd-v", "fvd-diag")]


class RandomFeatures(torch.nn.Module):
    """Five features of a video with random weights."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(5, 3, 7, 7), requires_grad=False)

    def forward(self, videos):
        return torch.einsum("bcthw,dchw->bd", videos[..., ::32, ::32], self.weights)


def noisy(grid: Grid, seed: int = 0) -> Grid:
    images = grid.images.copy()
    images[..., :3] = np.random.default_rng(seed).integers(0, 255, images[..., :3].shape)
    return dataclasses.replace(grid, images=images)


def test_equal_grids_have_0_and_others_more():
    grid = make_tiny_grid(3, 2)
    found = evaluate_grid(grid, grid, metrics=metrics())
    assert [found.mean(name) for name in ("fvd-f", "fvd-v", "fvd-diag")] == [0, 0, 0]
    found = evaluate_grid(noisy(grid), grid, metrics=metrics())
    assert len(found.videos["fvd-f"].videos) == 3 and len(found.videos["fvd-v"].videos) == 2
    mean = np.mean(list(found.videos["fvd-v"].videos.values()))
    assert found.mean("fvd-v") == pytest.approx(mean) and mean > 0
    assert found.settings["fvd-v"]["images_per_video"] == [3, 3]


def test_a_metric_forgets_the_grid_before():
    small, large = make_tiny_grid(3, 2), make_tiny_grid(4, 3)
    kept = metrics()
    first = evaluate_grid(noisy(small), small, metrics=kept).to_json()
    evaluate_grid(noisy(large), large, metrics=kept)
    assert evaluate_grid(noisy(small), small, metrics=kept).to_json() == first


def test_the_distance_of_sets_takes_all_videos():
    grid = make_tiny_grid(3, 2)
    found = evaluate_grid(noisy(grid), grid, metrics=metrics("set")).videos["fvd-f"]
    assert found.features is not None and found.features[0].shape == (3, 3)
    assert found.value == pytest.approx(set_distance(*found.features)) and not found.videos


def test_a_table_pools_the_videos_of_all_objects_for_a_distance_of_sets(tmp_path):
    torch.manual_seed(0)
    network = RandomFeatures()
    truths = {name: make_tiny_grid(3, 2) for name in "ab"}
    for seed, (name, truth) in enumerate(truths.items()):
        for folder, grid in (("truth", truth), ("runs", noisy(truth, seed))):
            (tmp_path / folder / name).mkdir(parents=True)
            write_posed_images(grid, tmp_path / folder / name)
    objects = {name: f"truth/{name}" for name in truths}
    names = ("psnr", "fvd-f", "fvd-v")
    method = Method("noisy", "runs/{object}", None)
    runs = Runs(names, objects, (method,), None, None, tmp_path)
    images = VideoImages()
    used = ["psnr", *(Fvd(name, network, images, "set") for name in names[1:])]
    table = evaluate_table(runs, used)
    features = [found.videos["fvd-f"].features for found in table.evaluations["noisy"].values()]
    rated, true = (np.concatenate(side) for side in zip(*filter(None, features), strict=True))
    mean = table.mean("noisy", "fvd-f")
    assert rated.shape == (6, 5) and mean is not None
    assert mean == (pytest.approx(set_distance(rated, true)), None, 2, 6)
    row = table.to_markdown().splitlines()[2]
    assert "(6 videos) |" in row and row.endswith("(4 videos) |") and row.count("±") == 1
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["object"] for row in rows] == ["a", "b", "all"]
    assert [row["fvd-f"] for row in rows] == ["", "", repr(mean.value)] and rows[2]["psnr"] == ""
    assert table.to_json()["methods"][0]["means"]["fvd-v"]["videos"] == 4


def test_a_table_of_one_video_has_no_distance_of_sets(tmp_path):
    grid = make_tiny_grid(1, 2)
    (tmp_path / "a").mkdir()
    write_posed_images(grid, tmp_path / "a")
    runs = Runs(("fvd-f",), {"a": "a"}, (Method("m", "a", None),), None, None, tmp_path)
    with pytest.raises(InputError, match=r"m, fvd-f: .*found 1"):
        evaluate_table(runs, [Fvd("fvd-f", MeanColor(), VideoImages(), "set")])


def test_a_free_view_grid_has_an_fvd():
    cameras = [orbit_camera(90 * t, 10, 3, 40, 16, 16) for t in range(3)]
    full = grid_from_views(cameras, make_tiny_grid(3, 3, 16, 16).images.reshape(3, 3, 16, 16, 4))
    path = full.subset(np.flatnonzero(full.view == full.frame))
    metric = Fvd("fvd", MeanColor(), VideoImages())
    found = evaluate_grid(noisy(path), path, metrics=[metric])
    assert list(found.videos["fvd"].videos) == ["video"] and (found.mean("fvd") or 0) > 0


def test_images_are_not_clipped_by_the_filter():
    rgb, alpha = np.zeros((8, 8, 3)), np.ones((8, 8))
    rgb[:4] = 1
    images = VideoImages()
    images.add(ImagePair(0, 0, rgb, alpha, rgb, alpha))
    video = images.video([(0, 0)])
    assert video.shape == (2, 3, 1, 224, 224) and video.dtype == np.float32
    assert video.max() > 1 and video.min() < -1
