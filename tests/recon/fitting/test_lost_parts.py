"""Colored blobs, one of which jumps farther than its own size between two frames."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from recon.deformation.bones import BoneDeformation
from recon.deformation.keyframes import KeyframeDeformation
from recon.fitting import fit as fitting
from recon.fitting.config import FitConfig
from recon.fitting.densification import Relocation
from recon.fitting.fit import Fit
from recon.fitting.lost_parts import (
    FrameImages,
    Points,
    is_lost,
    lost_parts,
    moved_part,
    parts_of,
    proposals,
    superfluous,
    unexplained,
)
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid import Grid, grid_from_views, orbit_camera
from recon.rendering import render_gaussians

SIZE, VIEWS = 48, 8
CAMERAS = [orbit_camera(360 * v / VIEWS, 15.0, 3.2, 33.0, SIZE, SIZE) for v in range(VIEWS)]
CONFIG = FitConfig(
    iterations=400,
    initial_gaussians=400,
    max_gaussians=400,
    static_fraction=0.3,
    motion_fraction=0.4,
    motion_image_size=48,
    middle_image_size=48,
    densification=Relocation(every=50),
    threads=1,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ball(center: tuple[float, float, float], rgb: tuple[float, float, float]) -> Gaussians:
    points = 0.05 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    colors = torch.tensor(rgb).expand(60, 3)
    return gaussians_from_points(points + torch.tensor(center), colors, 0.03, opacity=0.9)


def scene(height: float) -> Gaussians:
    """A gray body, and a red ball beside it whose height changes."""
    body, red = ball((0.3, 0, 0), (0.5, 0.5, 0.5)), ball((-0.4, 0, height), (0.9, 0.1, 0.1))
    return Gaussians(*(torch.cat(pair) for pair in zip(body, red, strict=True)))


def images_of(true: Gaussians, shown: Gaussians) -> FrameImages:
    alphas = [render_gaussians(g, CAMERAS).alpha.numpy() for g in (true, shown)]
    return FrameImages(CAMERAS, *alphas)


def jumping_grid(heights: tuple[float, ...]) -> Grid:
    """[V, T] images of `scene` at the given heights."""
    frames = []
    for height in heights:
        rendering = render_gaussians(scene(height), CAMERAS, (0.0, 0.0, 0.0))
        alpha = rendering.alpha[..., None]
        straight = (rendering.rgb / alpha.clamp_min(1e-6)).clamp(0, 1)
        frames.append(torch.cat([straight, alpha], dim=-1))
    images = (255 * torch.stack(frames, dim=1)).round().to(torch.uint8).numpy()
    return grid_from_views(CAMERAS, images)


def test_what_lies_outside_of_the_silhouettes_is_superfluous_and_what_is_missing_unexplained():
    before, after = scene(-0.4), scene(0.4)
    images = images_of(after, before)
    outside = superfluous(images, before.means.double().numpy())
    missing = unexplained(images, after.means.double().numpy())
    assert outside[60:].mean() > 0.9 and not outside[:60].any()
    assert missing[60:].mean() > 0.9 and not missing[:60].any()


def test_a_part_is_lost_where_it_jumped_and_nothing_where_it_rests():
    before, after = scene(-0.4), scene(0.4)
    assert set(np.flatnonzero(lost_parts(images_of(after, before), before) >= 0)) <= set(
        range(60, 120)
    )
    assert is_lost(images_of(after, before), before)
    assert not is_lost(images_of(before, before), before)


def test_transparent_gaussians_are_not_lost():
    before, after = scene(-0.4), scene(0.4)
    faint = before._replace(opacities=torch.full((120,), -5.0))
    assert not is_lost(images_of(after, before), faint)


def test_points_that_are_close_together_form_a_part_and_few_points_none():
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.random((40, 3)), 5 + rng.random((40, 3)), [[20.0, 0, 0]] * 3])
    parts = parts_of(two)
    assert len(set(parts[:40])) == len(set(parts[40:80])) == 1
    assert parts[0] != parts[40]
    assert (parts[80:] == -1).all()
    assert (parts_of(two[:5]) == -1).all() and len(parts_of(np.zeros((0, 3)))) == 0


def test_a_part_is_moved_rigidly_onto_points_of_its_colors():
    rng = np.random.default_rng(0)
    cloud = rng.random((80, 3)) * [1.0, 0.5, 0.2]
    found = cloud @ np.array([[0.96, 0.28, 0], [-0.28, 0.96, 0], [0, 0, 1]]).T + [0.5, 2.0, 0]
    moved = moved_part(Points(cloud, cloud), Points(found, cloud), rng)
    assert np.abs(moved - found).mean() < 0.05
    before = np.linalg.norm(cloud[:, None] - cloud, axis=-1)
    assert np.abs(np.linalg.norm(moved[:, None] - moved, axis=-1) - before).max() < 1e-9


def test_one_proposal_is_where_the_part_went():
    before, after = scene(-0.4), scene(0.4)
    hull = Points(after.means.double().numpy(), after.sh0[:, 0].double().numpy() * 0.28 + 0.5)
    found = list(proposals(images_of(after, before), before, hull, np.random.default_rng(0)))
    targets = found[0]
    wanted = ~targets.isnan().any(dim=1)
    assert not wanted[:60].any() and wanted[60:].sum() > 30
    assert (targets[wanted] - after.means[wanted]).norm(dim=1).mean() < 0.1
    nothing = Points(np.zeros((0, 3)), np.zeros((0, 3)))
    images = images_of(after, before)
    assert not list(proposals(images, before, nothing, np.random.default_rng(0)))


def targets_of(gaussians: Gaussians, offset: Tensor) -> Tensor:
    targets = torch.full_like(gaussians.means, torch.nan)
    targets[60:] = gaussians.means[60:] + offset
    return targets


def test_bones_of_a_part_follow_it_and_the_others_stay():
    gaussians, offset = scene(0.0), torch.tensor([0.1, 0.0, 0.5])
    bones = BoneDeformation.for_fit(gaussians, (0.0, 1.0), 6)
    bones.attract(1, gaussians, targets_of(gaussians, offset))
    moved = bones(gaussians, 1.0).means - gaussians.means
    assert (moved[60:] - offset).norm(dim=1).max() < 0.05
    assert moved[:60].norm(dim=1).max() < 0.05
    assert (bones(gaussians, 0.0).means - gaussians.means).norm(dim=1).max() < 1e-5


def test_keyframes_take_each_gaussian_to_its_target():
    gaussians, offset = scene(0.0), torch.tensor([0.1, 0.0, 0.5])
    motion = KeyframeDeformation.for_fit(gaussians, (0.0, 1.0))
    motion.attract(1, gaussians, targets_of(gaussians, offset))
    moved = motion(gaussians, 1.0).means - gaussians.means
    torch.testing.assert_close(moved[60:], offset.expand(60, 3))
    assert not moved[:60].any()


def red_share(fit: Fit, heights: tuple[float, ...]) -> float:
    """Smallest mean alpha, over the frames, where the red ball is."""
    gaussians, deformation = fit.result()
    shares = []
    for time, height in zip(fit.times, heights, strict=True):
        shown = render_gaussians(deformation(gaussians, time), CAMERAS).alpha.detach()
        red = render_gaussians(ball((-0.4, 0, height), (0.9, 0.1, 0.1)), CAMERAS).alpha > 0.5
        shares.append(float(shown[red].mean()))
    return min(shares)


def test_a_ball_that_jumps_is_in_all_frames():
    heights = (-0.45, 0.0, 0.45)
    fit = Fit(jumping_grid(heights), CONFIG)
    while not fit.done:
        fit.step()
    assert red_share(fit, heights) > 0.85
    assert not fit.lost_steps


def test_a_part_that_no_place_explains_is_kept_in_the_frames_that_show_it(
    monkeypatch: pytest.MonkeyPatch,
):
    heights = (-0.45, 0.0, 0.45)
    monkeypatch.setattr(fitting, "proposals", lambda *_: iter(()))
    config = replace(CONFIG, static_fraction=0.5, motion_fraction=0.4)
    fit = Fit(jumping_grid(heights), config)
    while fit.phase != "refinement":
        fit.step()
    gaussians = fit.gaussians
    with torch.no_grad():
        shown = render_gaussians(fit.deformation(gaussians, fit.times[1]), CAMERAS).alpha
    red = render_gaussians(ball((-0.4, 0, 0.0), (0.9, 0.1, 0.1)), CAMERAS).alpha > 0.5
    assert float(shown[red].mean()) > 0.7
