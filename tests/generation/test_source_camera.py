"""What a clip's source camera draws lies over the video that the clip was cut from."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from generation.clip.preparing import load_clip
from recon.deformation import Deformation
from recon.film.compositing import render_rgba
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid import Camera, orbit_camera
from recon.rasterizers.interface import EPS_2D
from recon.rendering import render_gaussians
from recon.scene import Scene
from tests.recon.exporters.conftest import Swing

SIZE = 160  # of the square frames


class Cutouts(Deformation):
    """Other Gaussians at every time: a perfect scene of square frames, seen from the input view."""

    name = "cutouts"

    def __init__(self, frames: list[Gaussians]):
        super().__init__()
        self.frames = frames

    def forward(self, gaussians: Gaussians, time: float) -> Gaussians:
        return self.frames[round(time * (len(self.frames) - 1))]

    def configuration(self) -> dict[str, Any]:
        return {}

    def regularization(self, gaussians: Gaussians, time: float) -> Tensor:
        return torch.zeros(())


def write_film(folder, height: int, width: int, T: int = 3) -> np.ndarray:
    """A toy with a limb that turns and crosses the film of a camera at rest; return its alpha."""
    rng = np.random.default_rng(0)
    body = rng.normal(size=(600, 3))
    body *= 0.28 / np.linalg.norm(body, axis=1, keepdims=True)
    limb = rng.uniform(-0.04, 0.04, size=(200, 3)) + np.linspace(0.2, 0.55, 200)[:, None] * [
        1,
        0,
        1,
    ]
    points = torch.tensor(np.concatenate([body, limb]), dtype=torch.float32)
    toy = gaussians_from_points(points, points + 0.5, 0.03, opacity=0.95)
    camera = orbit_camera(0, 5, 3.6, 50.0, height, width)
    folder.mkdir()
    alphas = []
    for t in range(T):
        moved = Swing()(toy, t / (T - 1))
        travel = torch.tensor([1.2 * t / (T - 1) - 0.9, 0.0, 0.5 * t / (T - 1) - 0.5])
        moved = moved._replace(means=moved.means + travel)
        found = render_gaussians(moved, [camera])
        alphas.append(found.alpha[0].numpy())
        rgba = np.concatenate([found.rgb[0].clamp(0, 1).numpy(), alphas[-1][..., None]], axis=-1)
        Image.fromarray(np.rint(255 * rgba).astype(np.uint8)).save(folder / f"{t}.png")
    return np.stack(alphas)


def cut_out(image: np.ndarray, camera: Camera, scale: float) -> Gaussians:
    """Place a Gaussian behind every opaque pixel, at depths that vary across the image.

    Their opacity is such that half of a plane of them has an alpha of one half at its edge, when
    it is rendered smaller by `scale`.
    """
    rows, columns = np.nonzero(image[..., 3] > 127)
    depth = 1.7 + 0.6 * columns / image.shape[1]
    x = (columns + 0.5 - camera.cx) / camera.fl_x * depth
    y = (rows + 0.5 - camera.cy) / camera.fl_y * depth
    in_camera = np.stack([x, -y, -depth], axis=1)
    points = in_camera @ camera.T_world_camera[:3, :3].T + camera.position
    colors = torch.from_numpy(image[rows, columns, :3].astype(np.float32) / 255)
    radius_px = 0.4
    opacity = 2 * np.log(2) * scale**2 / (2 * np.pi * ((scale * radius_px) ** 2 + EPS_2D))
    made = gaussians_from_points(torch.from_numpy(points).float(), colors, 1.0, opacity=opacity)
    scales = torch.from_numpy(radius_px * depth / camera.fl_x).log().float()
    return made._replace(scales=scales[:, None].expand(-1, 3))


@pytest.mark.parametrize(
    ("height", "width", "around_object", "recenter"),
    [(240, 331, True, False), (240, 331, False, True), (300, 225, False, False)],
)
def test_silhouettes_lie_over_those_of_the_video(tmp_path, height, width, around_object, recenter):
    expected = write_film(tmp_path / "film", height, width) > 0.5
    clip = load_clip(tmp_path / "film", recenter=recenter).square(SIZE, 0.7, around_object)
    camera = orbit_camera(0, 10, 2.0, 33.8, SIZE, SIZE)
    frames = [cut_out(image, camera, clip.crop.side / SIZE) for image in clip.images]
    source = clip.source_camera(camera)
    assert source is not None
    assert source.source_frames == tuple(range(3))
    moves = np.ptp(source.principal_points, axis=0).max()
    assert moves > 20 if recenter else moves == 0
    scene = Scene(frames[0], Cutouts(frames), clip.frame_times, (camera,), source_camera=source)
    for time, truth in zip(scene.times, expected, strict=True):
        found = render_rgba(scene, source.at(float(time)), float(time))[..., 3] > 127
        assert found.shape == truth.shape
        assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_pixels_of_a_square_are_pixels_of_the_video(tmp_path):
    write_film(tmp_path / "film", 90, 161)
    clip = load_clip(tmp_path / "film", recenter=True).square(SIZE, 0.7)
    camera = orbit_camera(30, 20, 2.0, 40.0, SIZE, SIZE)
    points = np.random.default_rng(1).normal(size=(20, 3)) / 5
    in_square, _ = camera.project(points)
    for frame, (row, column) in enumerate(clip.crop.centers):
        corner = np.array([column, row]) - clip.crop.side // 2
        found, _ = clip.crop.source_camera(frame, camera, 90, 161).project(points)
        np.testing.assert_allclose(found, corner + in_square * clip.crop.side / SIZE)
