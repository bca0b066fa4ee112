"""The preset table against the published sampling scripts, orbits, and plans."""

import itertools
import random

import numpy as np
import pytest

from generation.presets import (
    ORBIT_AZIMUTHS_DEG,
    ORBIT_VIEWS,
    Preset,
    SamplingPlan,
    even_azimuths,
    make_plan,
    orbit_through,
    pick_from_orbit,
    presets,
)
from generation.settings import MAX_VIEWS, GenerateSettings
from generation.weights.catalogue import BRANCH_FILE, LORA_FILE
from recon.errors import InputError
from recon.grid.cameras import viewing_angles_deg


def random_azimuths(count: int, seed: int) -> tuple[float, ...]:
    """Sample distinct azimuths in whole degrees."""
    return tuple(map(float, sorted(random.Random(seed).sample(range(1, 360), count))))


WANTED = [
    (),
    (180.0,),
    (0.5, 359.5),
    (1.0, 2.0, 3.0),
    presets["sv4d"].azimuths_deg,
    presets["sv4d2"].azimuths_deg,
    presets["sv4d2_8views"].azimuths_deg,
    *(even_azimuths(views) for views in (1, 3, 8, 19, 20)),
    *(random_azimuths(count, seed) for seed, count in enumerate((2, 5, 13, 20))),
]


def test_the_orbit_of_sv3d_is_even_and_ends_at_the_input_view():
    assert len(ORBIT_AZIMUTHS_DEG) == ORBIT_VIEWS == 21
    assert ORBIT_AZIMUTHS_DEG[-1] == 360.0
    gaps = [b - a for a, b in itertools.pairwise((0.0, *ORBIT_AZIMUTHS_DEG))]
    assert gaps == pytest.approx([360 / 21] * 21)


@pytest.mark.parametrize("wanted", WANTED)
def test_an_orbit_contains_the_azimuths_and_ends_at_the_input_view(wanted: tuple[float, ...]):
    orbit = orbit_through(wanted)
    assert len(orbit) == ORBIT_VIEWS
    assert orbit[-1] == 360.0
    assert all(0 < a < b for a, b in itertools.pairwise(orbit))
    picked = [orbit[index] for index in pick_from_orbit(wanted, orbit)]
    assert picked == pytest.approx(list(wanted))
    assert len(set(picked)) == len(wanted)


@pytest.mark.parametrize("wanted", WANTED)
def test_azimuths_are_added_to_an_orbit_in_its_widest_gaps(wanted: tuple[float, ...]):
    def widest(azimuths: tuple[float, ...]) -> float:
        return max(b - a for a, b in itertools.pairwise((0.0, *azimuths)))

    orbit = orbit_through(wanted)
    assert widest(orbit) <= widest((*sorted(wanted), 360.0))
    if len(wanted) <= 8:
        assert widest(orbit) < 46


@pytest.mark.parametrize("wanted", [(), presets["sv4d"].azimuths_deg, even_azimuths(20)])
def test_the_published_orbit_is_kept_if_it_contains_all_azimuths(wanted: tuple[float, ...]):
    assert orbit_through(wanted) == ORBIT_AZIMUTHS_DEG


def test_the_published_azimuths_are_the_published_indices_of_the_rolled_orbit():
    """SV3D's orbit rolled by one: index 0 is the input view and k is at k · 360/21 degrees."""
    azimuths = presets["sv4d"].azimuths_deg
    assert azimuths == pytest.approx(
        [34.29, 85.71, 120, 154.29, 205.71, 240, 274.29, 325.71], abs=0.005
    )
    rolled = (ORBIT_AZIMUTHS_DEG[-1], *ORBIT_AZIMUTHS_DEG[:-1])
    assert pick_from_orbit(azimuths, rolled) == (2, 5, 7, 9, 12, 14, 16, 19)
    unrolled = pick_from_orbit(azimuths, ORBIT_AZIMUTHS_DEG)
    assert tuple(index + 1 for index in unrolled) == (2, 5, 7, 9, 12, 14, 16, 19)


@pytest.mark.parametrize(("azimuth", "nearest"), [(1.0, 20), (359.0, 20), (17.0, 0), (350.0, 19)])
def test_the_nearest_view_may_be_across_the_input_view(azimuth: float, nearest: int):
    assert pick_from_orbit((azimuth,), ORBIT_AZIMUTHS_DEG) == (nearest,)


@pytest.mark.parametrize("views", range(1, 21))
def test_even_azimuths_share_the_circle_with_the_input_view(views: int):
    azimuths = (0.0, *even_azimuths(views), 360.0)
    gaps = [b - a for a, b in itertools.pairwise(azimuths)]
    assert gaps == pytest.approx([360 / (views + 1)] * (views + 1))


@pytest.mark.parametrize(
    ("name", "first", "last", "highest"),
    [("sv4d", 1.0, 1.5, 1.5 + 0.5 * 6 / 7), ("sv4d2", 1.0, 2.0, 2.0),
     ("sv4d2_8views", 1.5, 2.0, 2.0 + 0.5 * 6 / 7)],
)  # fmt: skip
def test_guidance_is_that_of_the_published_scripts(
    name: str, first: float, last: float, highest: float
):
    preset: Preset = presets[name]
    scale = preset.guidance(preset.window_frames, len(preset.azimuths_deg))
    assert scale.shape == (preset.window_frames * len(preset.azimuths_deg),)
    ends = [float(scale[0]), float(scale[-1]), float(scale.max())]
    assert ends == pytest.approx([first, last, highest])


@pytest.mark.parametrize("preset", presets.values(), ids=presets)
def test_azimuths_ascend_and_are_not_the_input_views(preset: Preset):
    assert all(0 < a < b < 360 for a, b in itertools.pairwise(preset.azimuths_deg))


@pytest.mark.parametrize("default", [ORBIT_AZIMUTHS_DEG, presets["mini"].orbit_azimuths_deg])
@pytest.mark.parametrize("wanted", [each for each in WANTED if len(each) < 16])
def test_an_orbit_is_as_long_as_the_default_one(
    wanted: tuple[float, ...], default: tuple[float, ...]
):
    orbit = orbit_through(wanted, default)
    assert len(orbit) == len(default)
    assert orbit[-1] == 360.0
    assert all(0 < a < b for a, b in itertools.pairwise(orbit))
    picked = [orbit[index] for index in pick_from_orbit(wanted, orbit)]
    assert picked == pytest.approx(list(wanted))


@pytest.mark.parametrize("wanted", [(), (22.5,), (90.0, 180.0, 270.0), even_azimuths(15)])
def test_another_default_orbit_is_kept_if_it_contains_all_azimuths(wanted: tuple[float, ...]):
    default = presets["mini"].orbit_azimuths_deg
    assert orbit_through(wanted, default) == default


def test_4dvd_is_sampled_as_in_the_paper_and_otherwise_like_sv4d():
    preset, base = presets["4dvd"], presets["sv4d"]
    assert (preset.window_frames, preset.steps, preset.coarse_size) == (5, 10, 256)
    assert len(preset.azimuths_deg) + preset.denoises_input_view == 16
    assert preset.windows(21) == base.windows(21)
    assert (preset.model, preset.ratio) == ("sv4d", base.ratio)
    assert preset.guidance(5, 8).equal(base.guidance(5, 8))


# -- plans


def planned(n: int = 21, model: str = "mini", **options) -> SamplingPlan:
    return make_plan(GenerateSettings(model=model, **options), n)


@pytest.mark.parametrize("model", presets)
def test_a_plan_without_options_is_the_preset(model: str):
    plan = planned(model=model)
    preset = presets[model]
    assert plan.preset is preset
    assert plan.azimuths_deg == pytest.approx(preset.azimuths_deg)
    assert (plan.elevation_deg, plan.steps) == (preset.elevation_deg, preset.steps)
    assert list(plan.windows) == preset.windows(21)
    assert plan.models[-1] == preset.model


def test_options_take_precedence_over_the_preset():
    plan = planned(azimuths_deg=(10.0, 350.0), elevation_deg=-20.0, steps=7)
    assert (plan.azimuths_deg, plan.elevation_deg, plan.steps) == ((10.0, 350.0), -20.0, 7)
    assert planned(elevation_deg=0.0, model="sv4d").elevation_deg == 0.0


@pytest.mark.parametrize("model", ["sv4d2", "sv4d2_8views"])
@pytest.mark.parametrize("views", [1, 3, 4, 8, 20])
def test_views_that_differ_from_the_preset_are_spaced_evenly(model: str, views: int):
    plan = planned(model=model, views=views)
    own = presets[model].azimuths_deg
    assert plan.azimuths_deg == (own if len(own) == views else even_azimuths(views))


def test_total_steps_include_the_orbit_model():
    assert planned(steps=7, model="sv4d2").total_steps == 7 * 2
    assert planned(steps=7, model="sv4d").total_steps == 7 * (1 + 6)


@pytest.mark.parametrize("orbit_model", ["sv3d_u", "sv3d_p"])
def test_only_sv4d_uses_an_orbit_model(orbit_model: str):
    plan = planned(model="sv4d", orbit_model=orbit_model)
    assert plan.models == (orbit_model, "sv4d")
    assert plan.orbit_azimuths_deg == ORBIT_AZIMUTHS_DEG
    plan = planned(model="sv4d2", orbit_model=orbit_model)
    assert plan.models == ("sv4d2",)
    assert plan.orbit_azimuths_deg == ()


def test_sv3d_u_makes_the_nearest_azimuths_of_its_fixed_orbit():
    plan = planned(model="sv4d", azimuths_deg=(20.0, 170.0, 300.0))
    assert plan.azimuths_deg == pytest.approx([360 / 21 * k for k in (1, 10, 17)])
    assert plan.orbit_azimuths_deg == ORBIT_AZIMUTHS_DEG


def test_sv3d_p_makes_the_requested_azimuths():
    plan = planned(model="sv4d", orbit_model="sv3d_p", azimuths_deg=(20.0, 170.0, 300.0))
    assert plan.azimuths_deg == pytest.approx([20, 170, 300])


@pytest.mark.parametrize("model", presets)
@pytest.mark.parametrize("clockwise", [False, True])
def test_cameras_start_at_the_input_view_and_share_one_elevation(model: str, clockwise: bool):
    plan = planned(model=model, clockwise=clockwise, elevation_deg=15.0, distance=3.0)
    cameras = plan.cameras(64)
    angles = [viewing_angles_deg(camera) for camera in cameras]
    assert angles[0] == pytest.approx((0, 15))
    azimuths = [azimuth for azimuth, _ in angles[1:]]
    sign = -1 if clockwise else 1
    assert azimuths == pytest.approx([sign * azimuth % 360 for azimuth in plan.azimuths_deg])
    assert all(elevation == pytest.approx(15) for _, elevation in angles)
    for camera in cameras:
        assert np.linalg.norm(camera.T_world_camera[:3, 3]) == pytest.approx(3.0)
        assert (camera.height, camera.width) == (64, 64)


def test_clockwise_cameras_are_the_mirror_images_of_the_others():
    mirror = np.diag([-1.0, 1, 1, 1])
    flip = np.diag([-1.0, 1, 1, 1])  # a camera's own right becomes left
    usual, mirrored = (planned(clockwise=clockwise).cameras(64) for clockwise in (False, True))
    for a, b in zip(usual, mirrored, strict=True):
        np.testing.assert_allclose(b.T_world_camera, mirror @ a.T_world_camera @ flip, atol=1e-12)


def test_the_field_of_view_is_that_of_the_cameras():
    plan = planned(fov_deg=90.0, model="sv4d2")
    assert [camera.fl_x for camera in plan.cameras(64)] == pytest.approx([32.0] * 5)


@pytest.mark.parametrize("model", ["sv4d2", "sv4d2_8views"])
def test_more_frames_take_no_fewer_windows(model: str):
    counts = [len(planned(n, model=model).windows) for n in range(5, 60)]
    assert counts[0] == 1
    assert all(b >= a for a, b in itertools.pairwise(counts))


@pytest.mark.parametrize("azimuths", [(1.0,), (355.0,), (10.0, 12.0)])
def test_an_orbit_without_a_separate_view_for_each_azimuth_is_refused(azimuths):
    with pytest.raises(InputError, match="sv3d_p"):
        make_plan(GenerateSettings(model="sv4d", azimuths_deg=azimuths), 21)
    freely = GenerateSettings(model="sv4d", azimuths_deg=azimuths, orbit_model="sv3d_p")
    assert make_plan(freely, 21).azimuths_deg == azimuths


def test_4dvd_has_two_stages_and_an_orbit_with_its_azimuths():
    plan = planned(model="4dvd")
    assert plan.azimuths_deg == tuple(22.5 * k for k in range(1, 16))
    assert plan.network_azimuths_deg == (0.0, *plan.azimuths_deg)
    assert plan.models == ("sv3d_p", "sv4d")
    assert plan.cascade_files == (LORA_FILE, BRANCH_FILE)
    assert plan.stage_sizes(576) == [256, 576]
    assert plan.stage_sizes(128) == [128, 128]
    assert plan.total_steps == 20 + 10 * 2 * len(plan.windows)


def test_the_coarse_stage_alone_takes_half_the_windows_and_no_branch():
    plan = planned(model="4dvd", coarse_only=True, steps=4)
    assert plan.cascade_files == (LORA_FILE,)
    assert plan.stage_sizes(576) == [256]
    assert plan.total_steps == 4 * (1 + len(plan.windows))


@pytest.mark.parametrize("model", ["sv4d", "sv4d2", "sv4d2_8views"])
def test_published_models_have_one_stage_and_no_cascade_files(model: str):
    plan = planned(model=model)
    assert plan.cascade_files == ()
    assert plan.stage_sizes(576) == [576]
    assert plan.network_azimuths_deg == plan.azimuths_deg


def test_4dvd_takes_the_true_azimuths_of_sv3d_u():
    plan = planned(model="4dvd", orbit_model="sv3d_u")
    assert plan.models[0] == "sv3d_u"
    assert len(set(plan.azimuths_deg)) == 15
    for azimuth, wanted in zip(plan.azimuths_deg, presets["4dvd"].azimuths_deg, strict=True):
        assert any(azimuth == pytest.approx(other) for other in ORBIT_AZIMUTHS_DEG)
        assert abs(azimuth - wanted) <= 360 / 42 + 1e-9


def test_mini_has_two_stages_and_its_own_orbit_model():
    plan = planned()
    assert plan.azimuths_deg == tuple(22.5 * k for k in range(1, 16))
    assert plan.orbit_azimuths_deg == (*plan.azimuths_deg, 360.0)
    assert plan.network_azimuths_deg == (0.0, *plan.azimuths_deg)
    assert plan.models == ("mini_sv3d", "mini")
    assert plan.cascade_files == (LORA_FILE, BRANCH_FILE)
    assert plan.stage_sizes(128) == [64, 128]
    assert plan.total_steps == 1 + 2 * len(plan.windows)


@pytest.mark.parametrize("azimuths", [(1.0,), (20.0, 170.0, 300.0), even_azimuths(15)])
def test_the_orbit_of_mini_contains_the_requested_azimuths(azimuths):
    plan = planned(model="mini", azimuths_deg=azimuths)
    assert plan.azimuths_deg == pytest.approx(azimuths)
    assert len(plan.orbit_azimuths_deg) == 16
    assert plan.orbit_azimuths_deg[-1] == 360.0


@pytest.mark.parametrize(("model", "most"), [("mini", 15), ("sv4d", 20), ("4dvd", 20)])
def test_the_orbit_limits_the_number_of_views(model: str, most: int):
    assert len(planned(model=model, views=most).azimuths_deg) == most
    if most < MAX_VIEWS:
        with pytest.raises(InputError, match=f"{most} views for {model}, found {most + 1}"):
            planned(model=model, views=most + 1)


@pytest.mark.parametrize("model", presets)
def test_clips_of_fewer_than_five_frames_are_refused(model: str):
    with pytest.raises(InputError, match=rf"at least 5 frames for {model}, found 4"):
        planned(4, model=model)
