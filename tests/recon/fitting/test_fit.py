"""Short fits of a few colored Gaussians that move as one body."""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from recon.errors import GridError, InputError
from recon.fitting import fit as fitting
from recon.fitting import reconstruction
from recon.fitting.config import FitConfig, fit_config
from recon.fitting.densification import GrowAndPrune, Relocation
from recon.fitting.fit import Fit, Step
from recon.fitting.schedule import Schedule
from recon.fitting.visual_hull import visual_hull
from recon.gaussians import Gaussians, gaussians_from_points
from recon.grid import Grid, grid_from_views, orbit_camera
from recon.grid.initial_gaussians import InitialGaussians
from recon.native.library import built, kernels
from recon.rendering import render_gaussians
from recon.rotations import matrices_to_quats, multiply_quats
from recon.similarity import Similarity

SIZE, V, T = 32, 6, 3
CONFIG = FitConfig(
    iterations=100,
    initial_gaussians=150,
    max_gaussians=180,
    views_per_step=3,
    static_fraction=0.2,
    motion_fraction=0.4,
    motion_image_size=16,
    middle_image_size=24,
    densification=Relocation(every=10),
    threads=1,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use a coarse hull and one thread."""
    coarse = functools.partial(visual_hull, resolution=32)
    monkeypatch.setattr(fitting, "visual_hull", coarse)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    set_threads(1)
    yield
    torch.set_num_threads(before)
    set_threads(0)


def set_threads(threads: int) -> None:
    if built():
        kernels().set_threads(threads)


def body() -> Gaussians:
    """Five colored blobs."""
    points = torch.tensor(
        [[0.0, 0, 0], [0.35, 0, 0.1], [-0.3, 0.1, 0.2], [0, 0.3, -0.3], [0.1, -0.3, 0.35]]
    )
    return gaussians_from_points(points, torch.rand(5, 3, generator=seeded()), 0.13, opacity=0.95)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def at(gaussians: Gaussians, time: float) -> Gaussians:
    """The body turned about its vertical axis by 50 degrees, and shifted, over the clip."""
    turn = torch.tensor(Rotation.from_euler("z", 50 * time, degrees=True).as_matrix()).float()
    shift = torch.tensor([0.15, 0.0, 0.1]) * time
    return gaussians._replace(
        means=gaussians.means @ turn.T + shift,
        quats=multiply_quats(matrices_to_quats(turn), gaussians.quats),
    )


@functools.cache
def moving_grid(frames: int = T, alpha_known: bool = True) -> Grid:
    cameras = [orbit_camera(360 * v / V, 15 * (-1) ** v, 3.2, 33.8, SIZE, SIZE) for v in range(V)]
    images = np.zeros((V, frames, SIZE, SIZE, 4), np.uint8)
    for frame in range(frames):
        shown = at(body(), frame / max(frames - 1, 1))
        rgb, alpha, _ = render_gaussians(shown, cameras, (0.0, 0.0, 0.0), backend="reference")
        straight = rgb / alpha.clamp_min(1e-6)[..., None]
        rgba = torch.cat([straight.clamp(0, 1), alpha[..., None]], dim=-1)
        images[:, frame] = (255 * rgba).round().to(torch.uint8).numpy()
    return grid_from_views(cameras, images, alpha_known=alpha_known)


def run(fit: Fit) -> list[Step]:
    steps = []
    while not fit.done:
        steps.append(fit.step())
    return steps


def images_psnr(fit: Fit) -> float:
    """Return the mean PSNR of all images of the grid at full size, over white."""
    grid, errors = fit.grid, []
    truth = grid.over().astype(np.float64) / 255
    gaussians, deformation = fit.result()
    with torch.no_grad():
        for index in range(len(grid)):
            moved = deformation(gaussians, grid.time_of(index))
            found = render_gaussians(moved, [grid.camera_of(index)]).rgb[0]
            errors.append(np.mean((found.numpy() - truth[index]) ** 2))
    return -10 * math.log10(float(np.mean(errors)))


def fitted(config: FitConfig = CONFIG, grid: Grid | None = None) -> Fit:
    fit = Fit(grid or moving_grid(), config)
    run(fit)
    return fit


def same_bits(a: Fit, b: Fit) -> bool:
    pairs = [*zip(a.gaussians, b.gaussians, strict=True)]
    states = a.deformation.state_dict(), b.deformation.state_dict()
    return (
        states[0].keys() == states[1].keys()
        and all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)
        and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    )


def grid_with_gaussians(frame: int, count: int = 5) -> Grid:
    """The grid, with the Gaussians that its images show at a frame, repeated `count` / 5 times."""
    truth = at(body(), frame / (T - 1)).map(lambda tensor: tensor.repeat_interleave(count // 5, 0))
    arrays = (truth.means, truth.quats, truth.scales, truth.opacities, truth.sh0)
    start = InitialGaussians(frame, *(tensor.numpy() for tensor in arrays))
    return replace(moving_grid(), initial_gaussians=start)


def test_a_fit_starts_from_the_gaussians_of_its_first_frame(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fitting, "visual_hull", None)
    grid = grid_with_gaussians(T // 2)
    fit = Fit(grid, replace(CONFIG, sh_degree=1))
    truth = at(body(), (T // 2) / (T - 1))
    found = fit.result()[0].means.sort(0)[0]
    torch.testing.assert_close(found, truth.means.sort(0)[0], rtol=0, atol=1e-6)
    assert fit.gaussians.shN.shape == (5, 3, 3)
    assert fit.step().psnr > 30


def test_of_many_given_gaussians_some_are_enlarged():
    grid = grid_with_gaussians(T // 2, 4 * CONFIG.initial_gaussians)
    fit = Fit(grid, CONFIG)
    assert len(fit.gaussians.means) == CONFIG.initial_gaussians
    start = grid.initial_gaussians
    assert start is not None
    enlarged = fit.result()[0].scales.numpy() - start.scales.mean()
    assert np.allclose(enlarged, math.log(4) / 2, atol=1e-4)


def test_gaussians_of_another_frame_are_not_used():
    used = Fit(grid_with_gaussians(0), CONFIG)
    assert same_bits(used, Fit(moving_grid(), CONFIG))


@pytest.mark.parametrize("motion", ["bones", "keyframes", "hexplane"])
def test_a_short_fit_improves_the_psnr(motion: str):
    config = replace(CONFIG, motion=motion, iterations=160)
    fit = Fit(moving_grid(), config)
    before = images_psnr(fit)
    run(fit)
    assert fit.deformation.name == motion
    assert images_psnr(fit) > max(before + 6, 22)


def test_a_fit_with_motion_is_better_than_a_static_one():
    moving, static = (
        fitted(replace(CONFIG, motion=motion, iterations=160)) for motion in ("bones", "static")
    )
    assert images_psnr(moving) > images_psnr(static) + 2


@pytest.mark.parametrize(
    "policy", [Relocation(every=8), GrowAndPrune(every=8, gradient=1e-5, stop_after=0.9)]
)
def test_both_policies_improve_the_images_and_respect_the_cap(policy):
    fit = Fit(moving_grid(), replace(CONFIG, densification=policy))
    before = images_psnr(fit)
    steps = run(fit)
    assert images_psnr(fit) > before + 4
    assert max(step.gaussians for step in steps) <= CONFIG.max_gaussians
    assert max(step.gaussians for step in steps) > CONFIG.initial_gaussians
    assert len(fit.gaussians.means) == steps[-1].gaussians


@pytest.mark.parametrize(
    "motion",
    ["bones", "keyframes", "hexplane"],
)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(motion: str):
    config = replace(CONFIG, motion=motion, iterations=30)
    torch.manual_seed(98)
    first = fitted(config)
    torch.manual_seed(99)
    assert same_bits(first, fitted(config))
    assert not same_bits(first, fitted(replace(config, seed=1)))


@pytest.mark.skipif(not built(), reason="the CPU kernels were not compiled")
def test_any_number_of_threads_gives_the_same_bits():
    config = replace(CONFIG, iterations=60)
    first = fitted(config)
    for threads in (2, 3):
        set_threads(threads)
        assert same_bits(first, fitted(config))


def test_a_grid_of_one_frame_is_fitted_without_motion():
    fit = Fit(moving_grid(frames=1), CONFIG)
    before = images_psnr(fit)
    run(fit)
    assert fit.deformation.name == "static"
    assert images_psnr(fit) > before + 6


@pytest.mark.parametrize("motion", ["bones", "keyframes", "hexplane"])
def test_two_frames_are_enough_for_a_motion(motion: str):
    fit = Fit(moving_grid(frames=2), replace(CONFIG, motion=motion, iterations=50))
    before = images_psnr(fit)
    run(fit)
    assert fit.deformation.name == motion
    assert images_psnr(fit) > before + 2


@pytest.mark.parametrize("motion", ["bones", "keyframes", "hexplane"])
def test_a_sparse_grid_with_one_image_for_each_time_is_fitted(motion: str):
    """As D-NeRF's: the camera is another one at every time."""
    full = moving_grid(frames=6)
    sparse = full.subset(np.array([full.index(t % V, t) for t in range(6)]))
    fit = Fit(sparse, replace(CONFIG, motion=motion, iterations=50))
    before = images_psnr(fit)
    run(fit)
    assert images_psnr(fit) > before


def test_a_grid_with_estimated_alpha_is_fitted():
    grid = moving_grid(alpha_known=False)
    fit = Fit(grid, CONFIG)
    before = images_psnr(fit)
    run(fit)
    assert images_psnr(fit) > before + 5


def test_a_grid_of_one_view_is_fitted():
    grid = moving_grid()
    one = grid.subset(grid.of_view(0))
    fit = Fit(Grid((one.cameras[0],), one.times, one.images, one.view, one.frame), CONFIG)
    before = images_psnr(fit)
    run(fit)
    assert images_psnr(fit) > before


@pytest.mark.parametrize("degree", [1, 3])
def test_colors_that_depend_on_the_view_are_fitted(degree: int):
    fit = fitted(replace(CONFIG, sh_degree=degree, iterations=40))
    assert fit.gaussians.sh_degree == degree
    assert fit.gaussians.shN.abs().max() > 0


def test_steps_count_up_and_report_finite_numbers():
    steps = run(Fit(moving_grid(), replace(CONFIG, iterations=30)))
    assert [step.iteration for step in steps] == list(range(1, 31))
    assert all(math.isfinite(step.psnr) for step in steps)


def test_frames_join_outwards_from_the_middle_and_never_leave():
    fit = Fit(moving_grid(frames=7), replace(CONFIG, iterations=100))
    seen: list[list[int]] = []
    while not fit.done:
        frames = fit.schedule.frames(fit.iteration)
        if not seen or frames != seen[-1]:
            seen.append(frames)
        fit.step()
    assert seen[0] == [3]
    assert sorted(seen[-1]) == list(range(7))
    for before, after in itertools.pairwise(seen):
        assert after[: len(before)] == before
        assert max(after) - min(after) + 1 == len(after)


def test_image_sizes_do_not_shrink_during_refinement_and_end_at_full_size():
    fit = Fit(moving_grid(), CONFIG)
    sizes = [fit.schedule.image_size(i) for i in range(CONFIG.iterations)]
    grown = int((CONFIG.static_fraction + CONFIG.motion_fraction) * CONFIG.iterations)
    assert max(sizes) == sizes[-1] == SIZE
    assert sizes[grown:] == sorted(sizes[grown:])
    assert max(sizes[:grown]) <= CONFIG.motion_image_size


def test_iterations_cost_more_when_the_object_moves_and_when_images_are_larger():
    schedule = Schedule(fit_config("draft"), np.full(21, 16), 256)
    costs = [schedule.cost(i) for i in range(3000)]
    assert costs[0] == 1 and costs == sorted(costs)
    assert len(set(costs)) == 3  # static, motion, refinement
    still = Schedule(fit_config("draft", "static"), np.full(21, 16), 128)
    assert {still.cost(i) for i in range(3000)} == {1}


def test_the_time_left_weighs_iterations_by_their_cost(monkeypatch):
    eta = Mock(seconds=0.0, seconds_left=None)
    made = Mock(return_value=eta)
    monkeypatch.setattr(reconstruction, "Eta", made)
    reconstruction.fit(moving_grid(), config=replace(CONFIG, iterations=10))
    total = made.call_args.args[0]
    assert total > 10
    assert sum(call.args[0] for call in eta.tick.call_args_list) == pytest.approx(total)


def test_learning_rates_stay_positive_and_that_of_the_motion_falls_during_refinement():
    fit = Fit(moving_grid(), CONFIG)
    rates: list[dict[str, float]] = []
    while not fit.done:
        fit.step()
        rates.append(
            {str(group["name"]): group["lr"] for group in fit.optimizer.groups_with_gradients()}
        )
    assert all(rate > 0 for step in rates for rate in step.values())
    grown = int((CONFIG.static_fraction + CONFIG.motion_fraction) * CONFIG.iterations)
    assert rates[-1]["motion"] < rates[grown + 1]["motion"]
    assert rates[-1]["means"] < rates[0]["means"]


def test_a_new_motion_model_keeps_the_moments_of_the_gaussians():
    fit = Fit(moving_grid(), CONFIG)
    steps = 0.0
    while fit.deformation.name == "static":
        steps = float(fit.optimizer.state.get(fit.parameters["means"], {}).get("step", 0))
        fit.step()
    assert fit.optimizer.state[fit.parameters["means"]]["step"] == steps + 1


def test_silhouettes_that_contradict_each_other_are_refused():
    grid = moving_grid()
    images = grid.images.copy()
    contradicting = np.isin(grid.view, (0, 3))  # more than the tolerance
    images[contradicting] = 0
    images[contradicting, :2, :2] = 255
    with pytest.raises(GridError, match="silhouettes"):
        Fit(replace(grid, images=images), CONFIG)


def test_robust_weights_reduce_the_harm_of_a_contradicting_view():
    true = moving_grid()
    images = true.images.copy()
    wrong = np.flatnonzero(true.view == 2)
    images[wrong] = np.roll(images[wrong], SIZE // 6, axis=2)
    spoilt = replace(true, images=images)

    def psnr(robust: bool) -> float:
        fit = fitted(replace(CONFIG, iterations=300, robust_weights=robust), spoilt)
        fit.grid = true.subset(np.flatnonzero(true.view != 2))
        return images_psnr(fit)

    assert psnr(robust=True) > psnr(robust=False) + 0.5


def test_qualities_are_ordered_by_effort_and_unknown_ones_are_refused():
    draft, standard, high = (fit_config(quality) for quality in ("draft", "standard", "high"))
    assert draft.iterations < standard.iterations < high.iterations
    assert draft.max_gaussians <= standard.max_gaussians <= high.max_gaussians
    assert fit_config(motion="keyframes", seed=7).seed == 7
    assert fit_config(motion="keyframes").motion == "keyframes"
    with pytest.raises(InputError, match=r"'best'.*draft.*high.*standard"):
        fit_config("best")


WORLDS = [
    Similarity(200.0, np.array([6e3, -2e3, 900.0])),
    Similarity(1e-3, np.zeros(3)),
    Similarity(1.0, np.array([60.0, -60.0, 30.0])),
]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("from_gaussians", [False, True])
def test_a_fit_of_a_mapped_grid_is_the_mapped_fit(world: Similarity, from_gaussians: bool):
    grid = grid_with_gaussians(T // 2, 150) if from_gaussians else moving_grid()
    config = replace(CONFIG, iterations=60)
    fit, mapped = fitted(config, grid), fitted(config, world.grid(grid))
    gaussians, deformation = fit.result()
    found, found_deformation = mapped.result()
    for time in (0.0, 0.5, 1.0):
        expected = world.gaussians(deformation(gaussians, time))
        moved = found_deformation(found, time)
        # Rounding grows with every step, so some Gaussians differ more than others.
        distance = (moved.means - expected.means).norm(dim=-1) / world.scale
        assert float(distance.median()) < 0.01
    assert images_psnr(mapped) == pytest.approx(images_psnr(fit), abs=0.3)


def test_a_fit_of_a_mapped_grid_starts_from_the_same_state():
    for world in WORLDS:
        fit, mapped = Fit(moving_grid(), CONFIG), Fit(world.grid(moving_grid()), CONFIG)
        for found, expected in zip(mapped.gaussians, fit.gaussians, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_settings_follow_the_size_of_a_grid():
    config = FitConfig(iterations=1000, initial_gaussians=500, max_gaussians=800)
    assert config.for_grid(256, 21) == config.for_grid(256, 1) == config
    large = config.for_grid(512, 84)
    assert (large.initial_gaussians, large.max_gaussians, large.iterations) == (500, 1600, 2000)
