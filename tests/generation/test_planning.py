"""What will be made of a choice: azimuths, cameras, passes, files."""

import itertools

import numpy as np
import pytest

from generation.planning import Plan, plan
from generation.presets import ORBIT_AZIMUTHS_DEG, even_azimuths, recipes
from generation.settings import CASCADES, MAX_VIEWS, MODELS, GenerateSettings
from generation.weights.cascade_files import BRANCH_FILE, LORA_FILE
from generation.weights.trained_weights import BASE, REFERENCE_VIEWS
from recon.errors import InputError
from recon.grid.cameras import viewing_angles_deg


def planned(n: int = 21, **choices) -> tuple[Plan, GenerateSettings]:
    settings = GenerateSettings(**choices)
    return plan(settings, n), settings


@pytest.mark.parametrize("model", MODELS)
def test_without_choices_a_plan_is_the_models_own(model: str):
    todo, settings = planned(model=model)
    recipe = recipes[model]
    assert todo.recipe is recipe
    assert todo.azimuths_deg == pytest.approx(recipe.azimuths_deg)
    assert (todo.elevation_deg, todo.steps) == (recipe.elevation_deg, recipe.steps)
    assert list(todo.passes) == recipe.passes(21)
    assert todo.needs(settings)[-1] == recipe.model


def test_choices_go_before_the_models_own():
    todo, _ = planned(azimuths_deg=(10.0, 350.0), elevation_deg=-20.0, steps=7)
    assert (todo.azimuths_deg, todo.elevation_deg, todo.steps) == ((10.0, 350.0), -20.0, 7)
    assert planned(elevation_deg=0.0, model="sv4d")[0].elevation_deg == 0.0


@pytest.mark.parametrize("model", ["sv4d2", "sv4d2_8views"])
@pytest.mark.parametrize("views", [1, 3, 4, 8, 20])
def test_a_number_of_views_that_is_not_the_models_own_is_spread_evenly(model: str, views: int):
    todo, _ = planned(model=model, views=views)
    own = recipes[model].azimuths_deg
    assert todo.azimuths_deg == (own if len(own) == views else even_azimuths(views))


def test_steps_of_all_passes_count_the_orbit_too():
    assert planned(steps=7, model="sv4d2")[0].all_steps == 7 * 2
    assert planned(steps=7, model="sv4d")[0].all_steps == 7 * (1 + 6)


@pytest.mark.parametrize("orbit_model", ["sv3d_u", "sv3d_p"])
def test_sv4d_alone_needs_an_orbit_and_its_file(orbit_model: str):
    todo, settings = planned(model="sv4d", orbit_model=orbit_model)
    assert todo.needs(settings) == (orbit_model, "sv4d")
    assert todo.orbit_deg == ORBIT_AZIMUTHS_DEG
    todo, settings = planned(model="sv4d2", orbit_model=orbit_model)
    assert todo.needs(settings) == ("sv4d2",)
    assert todo.orbit_deg == ()


def test_the_fixed_orbit_gives_the_nearest_of_its_azimuths():
    todo, _ = planned(model="sv4d", azimuths_deg=(20.0, 170.0, 300.0))
    assert todo.azimuths_deg == pytest.approx([360 / 21 * k for k in (1, 10, 17)])
    assert todo.orbit_deg == ORBIT_AZIMUTHS_DEG


def test_the_free_orbit_gives_what_was_asked_for():
    todo, _ = planned(model="sv4d", orbit_model="sv3d_p", azimuths_deg=(20.0, 170.0, 300.0))
    assert todo.azimuths_deg == pytest.approx([20, 170, 300])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("clockwise", [False, True])
def test_cameras_begin_with_the_input_view_and_go_around_at_one_height(model: str, clockwise: bool):
    todo, settings = planned(model=model, clockwise=clockwise, elevation_deg=15.0, distance=3.0)
    cameras = todo.cameras(settings, 64)
    angles = [viewing_angles_deg(camera) for camera in cameras]
    assert angles[0] == pytest.approx((0, 15))
    azimuths = [azimuth for azimuth, _ in angles[1:]]
    sign = -1 if clockwise else 1
    assert azimuths == pytest.approx([sign * azimuth % 360 for azimuth in todo.azimuths_deg])
    assert all(elevation == pytest.approx(15) for _, elevation in angles)
    for camera in cameras:
        assert np.linalg.norm(camera.T_world_camera[:3, 3]) == pytest.approx(3.0)
        assert (camera.height, camera.width) == (64, 64)


def test_clockwise_cameras_are_the_mirror_images_of_the_others():
    mirror = np.diag([-1.0, 1, 1, 1])
    flip = np.diag([-1.0, 1, 1, 1])  # a camera's own right becomes left
    usual, mirrored = (
        todo.cameras(settings, 64)
        for todo, settings in (planned(clockwise=clockwise) for clockwise in (False, True))
    )
    for a, b in zip(usual, mirrored, strict=True):
        np.testing.assert_allclose(b.T_world_camera, mirror @ a.T_world_camera @ flip, atol=1e-12)


def test_a_field_of_view_is_the_cameras():
    todo, settings = planned(fov_deg=90.0, model="sv4d2")
    assert [camera.fl_x for camera in todo.cameras(settings, 64)] == pytest.approx([32.0] * 5)


@pytest.mark.parametrize("model", ["sv4d2", "sv4d2_8views"])
def test_more_frames_take_no_fewer_passes(model: str):
    counts = [len(planned(n, model=model)[0].passes) for n in range(5, 60)]
    assert counts[0] == 1
    assert all(b >= a for a, b in itertools.pairwise(counts))


@pytest.mark.parametrize("azimuths", [(1.0,), (355.0,), (10.0, 12.0)])
def test_an_orbit_without_a_view_of_its_own_for_each_azimuth_is_refused(azimuths):
    with pytest.raises(InputError, match="sv3d_p"):
        plan(GenerateSettings(model="sv4d", azimuths_deg=azimuths), 21)
    freely = GenerateSettings(model="sv4d", azimuths_deg=azimuths, orbit_model="sv3d_p")
    assert plan(freely, 21).azimuths_deg == azimuths


def test_the_cascade_makes_two_grids_through_an_orbit_that_has_its_views():
    todo, settings = planned(model="4dvd")
    assert todo.azimuths_deg == tuple(22.5 * k for k in range(1, 16))
    assert todo.network_azimuths_deg == (0.0, *todo.azimuths_deg)
    assert todo.needs(settings) == ("sv3d_p", "sv4d")
    assert todo.needs_trained == (LORA_FILE, BRANCH_FILE)
    assert todo.grids(576) == [256, 576]
    assert todo.grids(128) == [128, 128]
    assert todo.all_steps == 20 + 10 * 2 * len(todo.passes)


def test_the_coarse_stage_alone_takes_half_the_passes_and_no_branch():
    todo, _ = planned(model="4dvd", coarse_only=True, steps=4)
    assert todo.needs_trained == (LORA_FILE,)
    assert todo.grids(576) == [256]
    assert todo.all_steps == 4 * (1 + len(todo.passes))


@pytest.mark.parametrize("model", ["sv4d", "sv4d2", "sv4d2_8views"])
def test_published_models_make_one_grid_and_need_nothing_trained(model: str):
    todo, _ = planned(model=model)
    assert todo.needs_trained == ()
    assert todo.grids(576) == [576]
    assert todo.network_azimuths_deg == todo.azimuths_deg


def test_the_fixed_orbit_is_the_cascades_fallback_with_its_true_angles():
    todo, settings = planned(model="4dvd", orbit_model="sv3d_u")
    assert todo.needs(settings)[0] == "sv3d_u"
    assert len(set(todo.azimuths_deg)) == 15
    for azimuth, wanted in zip(todo.azimuths_deg, recipes["4dvd"].azimuths_deg, strict=True):
        assert any(azimuth == pytest.approx(other) for other in ORBIT_AZIMUTHS_DEG)
        assert abs(azimuth - wanted) <= 360 / 42 + 1e-9


def test_mini_makes_two_grids_through_an_orbit_of_its_own():
    todo, settings = planned()
    assert settings.model == "mini"
    assert todo.azimuths_deg == tuple(22.5 * k for k in range(1, 16))
    assert todo.orbit_deg == (*todo.azimuths_deg, 360.0)
    assert todo.network_azimuths_deg == (0.0, *todo.azimuths_deg)
    assert todo.needs(settings) == (REFERENCE_VIEWS, BASE)
    assert todo.needs_trained == (LORA_FILE, BRANCH_FILE)
    assert todo.grids(128) == [64, 128]
    assert todo.all_steps == 1 + 2 * len(todo.passes)


@pytest.mark.parametrize("azimuths", [(1.0,), (20.0, 170.0, 300.0), even_azimuths(15)])
def test_the_orbit_of_mini_has_what_is_asked_for(azimuths):
    todo, _ = planned(model="mini", azimuths_deg=azimuths)
    assert todo.azimuths_deg == pytest.approx(azimuths)
    assert len(todo.orbit_deg) == 16
    assert todo.orbit_deg[-1] == 360.0


@pytest.mark.parametrize(("model", "most"), [("mini", 15), ("sv4d", 20), ("4dvd", 20)])
def test_a_model_makes_as_many_views_as_its_orbit_has(model: str, most: int):
    assert len(planned(model=model, views=most)[0].azimuths_deg) == most
    if most < MAX_VIEWS:
        with pytest.raises(InputError, match=f"{model} makes at most {most} views, {most + 1}"):
            planned(model=model, views=most + 1)


@pytest.mark.parametrize("model", CASCADES)
def test_the_first_stage_of_either_cascade_may_be_the_last(model: str):
    todo, _ = planned(model=model, coarse_only=True)
    assert todo.needs_trained == (LORA_FILE,)
    assert todo.grids(576) == [recipes[model].coarse_size]
