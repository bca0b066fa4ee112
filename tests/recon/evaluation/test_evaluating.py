"""Evaluations agree with images compared one by one, and say which image is which."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from recon.deformation.interface import StaticDeformation
from recon.errors import GridError, InputError, SceneError
from recon.evaluation import evaluate, evaluate_grid, evaluate_scene
from recon.evaluation.object_size import scale_advice
from recon.film.camera_file import read_camera_file
from recon.gaussians import gaussians_from_points
from recon.grid import Grid, grid_from_views, orbit_camera
from recon.grid.orientation import rotated, rotation_from_up
from recon.grid.source_camera import SourceCamera
from recon.grid.writing import write_posed_images
from recon.media import write_png, write_video
from recon.metrics.image import psnr
from recon.metrics.interface import VideoScore
from recon.rendering import render_gaussians
from recon.scene import Scene
from recon.similarity import Similarity


@pytest.fixture(scope="module")
def scene() -> Scene:
    generator = torch.Generator().manual_seed(0)
    points = 0.2 * torch.randn(30, 3, generator=generator)
    gaussians = gaussians_from_points(points, torch.rand(30, 3, generator=generator), 0.06, 0.9)
    return Scene(gaussians, StaticDeformation(), np.zeros(1), ())


@pytest.fixture(scope="module")
def grid(scene) -> Grid:
    """What the scene itself looks like, as 8-bit images with straight alpha."""
    cameras = [orbit_camera(azimuth, 10, 3.2, 33.8, 20, 24) for azimuth in (0, 100, 200)]
    black = render_gaussians(scene.gaussians, cameras, (0, 0, 0), backend="reference")
    alpha = black.alpha[..., None]
    images = torch.cat([(black.rgb / alpha.clamp_min(1e-6)).clamp(0, 1), alpha], dim=-1)
    quantised = (255 * images).round().to(torch.uint8).numpy()
    return grid_from_views(cameras, np.stack([quantised, quantised], axis=1))


def noisy(grid: Grid) -> Grid:
    rng = np.random.default_rng(0)
    images = grid.images.copy()
    images[..., :3] = rng.integers(0, 255, images[..., :3].shape)
    return dataclasses.replace(grid, images=images)


def test_a_scene_agrees_with_its_own_images_up_to_quantization(scene, grid):
    evaluation = evaluate_scene(scene, grid, backend="reference", batch=2)
    assert len(evaluation.images) == len(grid) and evaluation.missing == 0
    assert evaluation.worst_psnr > 48
    assert evaluation.ssim > 0.999
    assert evaluation.iou > 0.97
    assert evaluation.images == evaluate_scene(scene, grid, backend="reference").images


def test_a_scene_is_compared_with_files_in_the_world_of_its_source(scene, grid, tmp_path):
    """The scene was turned upright from a world of another axis, in which the files still are."""
    to_world = rotation_from_up("x")
    turned = dataclasses.replace(
        grid, cameras=tuple(rotated(camera, to_world.T) for camera in grid.cameras)
    )
    write_posed_images(turned, tmp_path)
    path = tmp_path / "transforms.json"
    values = json.loads(path.read_text())
    del values["version"]
    path.write_text(json.dumps(values))
    scene = dataclasses.replace(scene, cameras=grid.cameras, R_world_source=to_world)
    scene.save(tmp_path / "scene")
    assert evaluate(tmp_path / "scene", tmp_path, "cpu").worst_psnr > 45
    found = read_camera_file(path, 20, 24, to_world).cameras[0]
    np.testing.assert_allclose(found.T_world_camera, grid.cameras[0].T_world_camera, atol=1e-9)


@pytest.mark.parametrize(("distance", "scale"), [(3.2, "1.6"), (2.2, "1.62"), (2.0, "1.62")])
def test_the_distances_give_the_scale_only_if_they_explain_it(distance, scale):
    own, true = (
        [orbit_camera(90.0 * k, 0.0, each, 33.8, 8, 8) for k in range(4)]
        for each in (2.0, distance)
    )
    (advice,) = scale_advice(1 / 1.62, 1.0, own, true)
    assert advice.startswith(f"--scale {scale} ")


def test_the_squares_that_were_cut_out_of_the_video_count_for_the_scale():
    own, true = (
        [orbit_camera(90.0 * k, 0.0, each, 33.8, 256, 256) for k in range(4)] for each in (2.0, 3.2)
    )
    focal = own[0].fl_x * 281 / 256  # the square has 281 pixels where the video has 256
    camera = dataclasses.replace(own[0], fl_x=focal, fl_y=focal)
    source = SourceCamera(camera, np.zeros(1), np.full((1, 2), 128.0), (0,))
    (advice,) = scale_advice(0.62, 1.0, own, true, source)
    assert advice == "--scale 1.76 makes the sizes agree"


def test_an_object_of_another_size_is_said_with_the_scale_that_fits(scene, grid, tmp_path):
    write_posed_images(grid, tmp_path)
    small = dataclasses.replace(scene, cameras=grid.cameras).mapped(Similarity(0.625, np.zeros(3)))
    small.save(tmp_path / "scene")
    found = evaluate(tmp_path / "scene", tmp_path, "cpu")
    assert found.relative_size == pytest.approx(0.625, rel=0.2)  # small objects are blurred
    advice = found.warnings[-1]
    assert "distance 2 and" in advice and "--distance 3.2 --fov 33.8" in advice
    stated = float(advice.split("--scale ")[1].split()[0])
    assert stated == 1.6  # the ratio of the distances, not of the blurred silhouettes
    again = evaluate(tmp_path / "scene", tmp_path, "cpu", scale=1.6)
    assert again.worst_psnr > 45 and again.warnings == ()
    assert again.relative_size == pytest.approx(1, abs=0.01)
    twice = evaluate(tmp_path / "scene", tmp_path, "cpu", scale=3.2).warnings[-1]
    assert float(twice.split("--scale ")[1].split()[0]) == pytest.approx(1.6, rel=0.2)


def test_a_shifted_scene_has_a_lower_psnr(scene, grid):
    moved = dataclasses.replace(
        scene, gaussians=scene.gaussians._replace(means=scene.gaussians.means + 0.05)
    )
    evaluation = evaluate_scene(moved, grid, backend="reference")
    assert evaluation.psnr < 30
    assert evaluation.iou < 0.95


def test_equal_grids_agree_fully(tiny_grid):
    evaluation = evaluate_grid(tiny_grid, tiny_grid)
    assert (evaluation.psnr, evaluation.ssim, evaluation.iou) == (100, 1, 1)
    assert evaluation.psnr_foreground == evaluation.worst_psnr == 100


def test_the_json_has_the_documented_keys_and_means(tiny_grid):
    values = json.loads(json.dumps(evaluate_grid(noisy(tiny_grid), tiny_grid).to_json()))
    assert {"psnr", "ssim", "iou", "psnr_foreground", "worst_psnr", "images"} <= values.keys()
    assert {"view", "frame", "psnr", "ssim", "iou"} <= values["images"][0].keys()
    for key in ("psnr", "ssim", "iou", "psnr_foreground"):
        assert values[key] == pytest.approx(np.mean([image[key] for image in values["images"]]))
    assert values["worst_psnr"] == min(image["psnr"] for image in values["images"])


def test_images_are_compared_over_white_and_the_foreground_in_its_bounding_box(tiny_grid):
    found = evaluate_grid(noisy(tiny_grid), tiny_grid).images[5]
    image, truth = (g.over(indices=[5])[0] / 255 for g in (noisy(tiny_grid), tiny_grid))
    assert found.values["psnr"] == pytest.approx(psnr(image, truth), abs=0.05)
    rows, columns = np.nonzero(tiny_grid.images[5, ..., 3])
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert found.psnr_foreground == pytest.approx(psnr(image[box], truth[box]), abs=0.05)
    assert psnr(image[box], truth[box]) < (found.values["psnr"] or 0)


def test_metrics_have_the_view_and_frame_numbers_of_the_json(tiny_grid):
    named = dataclasses.replace(tiny_grid, view_numbers=(3, 5, 7, 9), frame_numbers=(0, 10, 20))
    found = evaluate_grid(tiny_grid, named).images[4]
    assert (found.view, found.frame) == (5, 10)


def test_cameras_are_matched_by_pose_whatever_their_order(tiny_grid):
    order = [2, 0, 3, 1]
    images = tiny_grid.images.reshape(4, 3, *tiny_grid.images.shape[1:])[order]
    shuffled = grid_from_views([tiny_grid.cameras[v] for v in order], images, tiny_grid.fps)
    assert evaluate_grid(shuffled, tiny_grid).worst_psnr == 100


def test_images_without_counterpart_are_counted(tiny_grid):
    evaluation = evaluate_grid(tiny_grid.subset(np.arange(6)), tiny_grid)
    assert (len(evaluation.images), evaluation.missing) == (6, 6)


def test_grids_without_common_cameras_and_times_are_refused(tiny_grid):
    images = tiny_grid.images.reshape(4, 3, *tiny_grid.images.shape[1:])
    others = [orbit_camera(90 * v + 45, 10, 3.2, 33.8, 24, 24) for v in range(4)]
    with pytest.raises(GridError, match="cameras"):
        evaluate_grid(grid_from_views(others, images), tiny_grid)
    small = grid_from_views([c.resized(12, 12) for c in others], images[:, :, ::2, ::2])
    with pytest.raises(GridError, match="12×12"):
        evaluate_grid(small, tiny_grid)


def test_a_ground_truth_without_an_object_has_no_foreground_psnr(tiny_grid):
    empty = dataclasses.replace(tiny_grid, images=np.zeros_like(tiny_grid.images))
    evaluation = evaluate_grid(empty, empty)
    assert evaluation.psnr_foreground is None
    assert json.loads(json.dumps(evaluation.to_json()))["iou"] == 1


def test_cameras_are_matched_wherever_the_world_is(tiny_grid):
    far = Similarity(1.0, np.array([500.0, 0.0, 0.0]))
    near = [orbit_camera(az + 0.9, 10.0, 3.2, 33.8, 24, 24) for az in (0, 90, 180, 270)]
    other = dataclasses.replace(tiny_grid, cameras=tuple(near))
    for world in (Similarity(1.0, np.zeros(3)), far):
        with pytest.raises(GridError, match="no image"):  # 5 cm away of 3.2 are too far
            evaluate_grid(world.grid(other), world.grid(tiny_grid))


def clips_of(grid: Grid, folder, T=None, fps=None) -> list:
    """One lossless GIF-like clip per view: here folders of PNG, or videos if a rate is given."""
    paths = []
    for v in range(grid.V):
        images = grid.over(indices=grid.of_view(v))
        images = np.repeat(images, (T or grid.T) // grid.T, axis=0)
        if fps is None:
            path = folder / f"eval_{v}"
            path.mkdir(parents=True)
            for number, image in enumerate(images):
                write_png(path / f"{number}.png", image)
        else:
            path = folder / f"view_{v}.mp4"
            folder.mkdir(exist_ok=True)
            write_video(path, images, fps)
        paths.append(path)
    return paths


def test_a_folder_of_image_folders_is_a_clip_per_view(tiny_grid, tiny_grid_folder, tmp_path):
    clips_of(tiny_grid, tmp_path / "pred")
    found = evaluate(tmp_path / "pred", tiny_grid_folder)
    assert len(found.images) == 12 and found.psnr > 40 and found.notes == ()


def test_an_unfinished_scene_inside_a_folder_is_named(tiny_grid_folder, tmp_path):
    (tmp_path / "out" / "fit" / "train").mkdir(parents=True)
    (tmp_path / "out" / "fit" / "train" / "checkpoint.safetensors").touch()
    (tmp_path / "out" / "notes.json").touch()
    with pytest.raises(SceneError, match=r"fit: .*unfinished"):
        evaluate(tmp_path / "out", tiny_grid_folder)


def test_a_grid_is_evaluated_whatever_else_is_in_its_folder(tiny_grid_folder):
    (tiny_grid_folder / "scene" / "train").mkdir(parents=True)
    (tiny_grid_folder / "scene" / "train" / "log.jsonl").touch()
    assert evaluate(tiny_grid_folder, tiny_grid_folder).missing == 0


def test_videos_of_another_rate_are_matched_by_time_and_said(tiny_grid, tiny_grid_folder, tmp_path):
    paths = clips_of(tiny_grid, tmp_path / "videos", T=6, fps=10)
    found = evaluate(paths, tiny_grid_folder)
    assert len(found.notes) == 1 and "6 frames" in found.notes[0] and "by time" in found.notes[0]
    same = evaluate(clips_of(tiny_grid, tmp_path / "same", fps=5), tiny_grid_folder)
    assert found.psnr == pytest.approx(same.psnr, abs=1) and same.notes == ()


def test_clips_that_last_longer_are_refused(tiny_grid, tiny_grid_folder, tmp_path):
    paths = clips_of(tiny_grid, tmp_path / "videos", T=6, fps=5)
    with pytest.raises(InputError, match=r"3 frames.*found 6"):
        evaluate(paths, tiny_grid_folder)
    images = clips_of(tiny_grid, tmp_path / "images", T=6)
    with pytest.raises(InputError, match=r"3 frames.*found 6"):
        evaluate(images, tiny_grid_folder)


def test_images_of_another_size_are_resized_where_a_filter_is_named(tiny_grid):
    large = np.repeat(np.repeat(tiny_grid.images, 2, axis=1), 2, axis=2)
    cameras = tuple(camera.resized(48, 48) for camera in tiny_grid.cameras)
    double = dataclasses.replace(tiny_grid, images=large, cameras=cameras)
    found = evaluate_grid(double, tiny_grid, resize="box")
    assert found.worst_psnr > 45 and "48×48" in found.notes[0] and "box" in found.notes[0]
    with pytest.raises(GridError, match="resize: expected images"):
        evaluate_grid(double, tiny_grid)
    with pytest.raises(InputError, match="nearest"):
        evaluate_grid(double, tiny_grid, resize="nearest")


def test_images_that_are_not_numbers_are_refused(scene, grid):
    broken = scene.gaussians._replace(sh0=scene.gaussians.sh0 * float("nan"))
    with pytest.raises(InputError, match=r"view 0, frame 0.*not numbers"):
        evaluate_scene(dataclasses.replace(scene, gaussians=broken), grid, backend="reference")


def test_empty_images_are_said(tiny_grid):
    empty = dataclasses.replace(tiny_grid, images=np.zeros_like(tiny_grid.images))
    assert "12 images are empty" in evaluate_grid(empty, tiny_grid).warnings[0]


def test_progress_counts_the_images(tiny_grid):
    steps = []
    evaluate_grid(tiny_grid, tiny_grid, on_step=steps.append)
    assert [(each.step, each.steps) for each in steps] == [(n, 12) for n in range(1, 13)]


def test_only_the_chosen_metrics_are_in_the_json(tiny_grid):
    found = evaluate_grid(noisy(tiny_grid), tiny_grid, metrics=["sharpness", "iou"]).to_json()
    assert found.keys() == {
        "sharpness",
        "iou",
        "missing",
        "images",
        "settings",
        "notes",
        "warnings",
    }
    assert found["images"][0].keys() == {"view", "frame", "sharpness", "iou"}
    assert found["settings"].keys() == {"sharpness", "iou"}


class LengthOfVideo:
    """A metric of videos that counts their images."""

    name = "fvd-f"
    settings: Mapping[str, str] = {}

    def begin(self):
        self.views = []

    def add(self, pair):
        self.views.append(pair.view)

    def score(self):
        return VideoScore(float(len(self.views)), {"view 0": float(self.views.count(0))})


def test_metrics_of_videos_get_all_images_and_stand_in_the_json(tiny_grid):
    evaluation = evaluate_grid(tiny_grid, tiny_grid, metrics=["psnr", LengthOfVideo()])
    values = evaluation.to_json()
    assert (values["fvd-f"], values["videos"]) == (12, {"fvd-f": {"view 0": 3}})
