"""The published numbers, and orbits through azimuths that a user wants."""

import itertools
import random

import pytest

from generation.presets import (
    ORBIT_AZIMUTHS_DEG,
    ORBIT_CONFIGS,
    ORBIT_SCALE,
    ORBIT_VIEWS,
    UNGUIDED,
    Recipe,
    even_azimuths,
    orbit_through,
    pick_from_orbit,
    recipes,
)


def random_azimuths(count: int, seed: int) -> tuple[float, ...]:
    """Whole degrees, so that they are apart."""
    return tuple(map(float, sorted(random.Random(seed).sample(range(1, 360), count))))


WANTED = [
    (),
    (180.0,),
    (0.5, 359.5),
    (1.0, 2.0, 3.0),
    recipes["sv4d"].azimuths_deg,
    recipes["sv4d2"].azimuths_deg,
    recipes["sv4d2_8views"].azimuths_deg,
    *(even_azimuths(views) for views in (1, 3, 8, 19, 20)),
    *(random_azimuths(count, seed) for seed, count in enumerate((2, 5, 13, 20))),
]


def test_the_orbit_of_sv3d_is_even_and_ends_at_the_input_view():
    assert len(ORBIT_AZIMUTHS_DEG) == ORBIT_VIEWS == 21
    assert ORBIT_AZIMUTHS_DEG[-1] == 360.0
    gaps = [b - a for a, b in itertools.pairwise((0.0, *ORBIT_AZIMUTHS_DEG))]
    assert gaps == pytest.approx([360 / 21] * 21)


@pytest.mark.parametrize("wanted", WANTED)
def test_an_orbit_has_what_is_wanted_and_ends_at_the_input_view(wanted: tuple[float, ...]):
    orbit = orbit_through(wanted)
    assert len(orbit) == ORBIT_VIEWS
    assert orbit[-1] == 360.0
    assert all(0 < a < b for a, b in itertools.pairwise(orbit))
    picked = [orbit[index] for index in pick_from_orbit(wanted, orbit)]
    assert picked == pytest.approx(list(wanted))
    assert len(set(picked)) == len(wanted)


@pytest.mark.parametrize("wanted", WANTED)
def test_what_is_added_to_an_orbit_lies_in_its_widest_gaps(wanted: tuple[float, ...]):
    def widest(azimuths: tuple[float, ...]) -> float:
        return max(b - a for a, b in itertools.pairwise((0.0, *azimuths)))

    orbit = orbit_through(wanted)
    assert widest(orbit) <= widest((*sorted(wanted), 360.0))
    if len(wanted) <= 8:
        assert widest(orbit) < 46


@pytest.mark.parametrize("wanted", [(), recipes["sv4d"].azimuths_deg, even_azimuths(20)])
def test_the_published_orbit_is_kept_where_it_has_all_that_is_wanted(wanted: tuple[float, ...]):
    assert orbit_through(wanted) == ORBIT_AZIMUTHS_DEG


def test_the_published_azimuths_are_the_published_indices_of_the_rolled_orbit():
    """Rolled by one, so that index 0 is the input image and k is k · 360/21 degrees."""
    azimuths = recipes["sv4d"].azimuths_deg
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
    ("name", "times", "views", "steps", "ratio", "elevation"),
    [
        ("sv4d", 5, 8, 20, 0.917, 10),
        ("sv4d2", 12, 4, 50, 0.9, 0),
        ("sv4d2_8views", 5, 8, 50, 0.9, 0),
    ],
)
def test_recipes_have_the_numbers_of_the_published_scripts(
    name: str, times: int, views: int, steps: int, ratio: float, elevation: float
):
    recipe = recipes[name]
    assert (recipe.model, recipe.times, len(recipe.azimuths_deg)) == (name, times, views)
    assert (recipe.steps, recipe.ratio, recipe.elevation_deg) == (steps, ratio, elevation)
    config = recipe.config
    assert config.use_camera_emb == config.separate_motion_merge_factor == (name != "sv4d")
    assert config.use_3d_attention == (name == "sv4d2")
    assert recipe.from_orbit == (name == "sv4d")


@pytest.mark.parametrize(
    ("name", "first", "last", "highest"),
    [("sv4d", 1.0, 1.5, 1.5 + 0.5 * 6 / 7), ("sv4d2", 1.0, 2.0, 2.0),
     ("sv4d2_8views", 1.5, 2.0, 2.0 + 0.5 * 6 / 7)],
)  # fmt: skip
def test_guidance_is_that_of_the_published_scripts(
    name: str, first: float, last: float, highest: float
):
    recipe: Recipe = recipes[name]
    scale = recipe.scale(recipe.times, len(recipe.azimuths_deg))
    assert scale.shape == (recipe.times * len(recipe.azimuths_deg),)
    ends = [float(scale[0]), float(scale[-1]), float(scale.max())]
    assert ends == pytest.approx([first, last, highest])


@pytest.mark.parametrize("recipe", recipes.values(), ids=recipes)
def test_azimuths_ascend_and_are_not_the_input_views(recipe: Recipe):
    assert all(0 < a < b < 360 for a, b in itertools.pairwise(recipe.azimuths_deg))


@pytest.mark.parametrize("usual", [ORBIT_AZIMUTHS_DEG, recipes["mini"].orbit_deg])
@pytest.mark.parametrize("wanted", [each for each in WANTED if len(each) < 16])
def test_an_orbit_is_as_long_as_the_usual_one(wanted: tuple[float, ...], usual: tuple[float, ...]):
    orbit = orbit_through(wanted, usual)
    assert len(orbit) == len(usual)
    assert orbit[-1] == 360.0
    assert all(0 < a < b for a, b in itertools.pairwise(orbit))
    picked = [orbit[index] for index in pick_from_orbit(wanted, orbit)]
    assert picked == pytest.approx(list(wanted))


@pytest.mark.parametrize("wanted", [(), (22.5,), (90.0, 180.0, 270.0), even_azimuths(15)])
def test_another_usual_orbit_is_kept_where_it_has_all_that_is_wanted(wanted: tuple[float, ...]):
    usual = recipes["mini"].orbit_deg
    assert orbit_through(wanted, usual) == usual


def test_mini_makes_the_cascades_views_without_guidance_from_latents_of_its_own():
    recipe = recipes["mini"]
    assert recipe.azimuths_deg == recipes["4dvd"].azimuths_deg
    assert recipe.orbit_deg == (*recipe.azimuths_deg, 360.0)
    assert (recipe.scale(5, 16) == 1).all()
    assert [name for name, each in recipes.items() if not each.guided] == ["mini"]
    assert recipe.orbit_scale == UNGUIDED == (1.0, 1.0)
    config = recipe.config
    assert config.in_channels == 2 * config.out_channels == 2 * config.motion_context_dim
    assert (recipe.size, recipe.coarse_size) == (128, 64)
    assert [name for name, each in recipes.items() if each.fades] == ["mini"]
    assert [name for name, each in recipes.items() if not each.needs_download] == ["mini"]


def test_the_orbits_networks_differ_in_what_they_know_of_cameras():
    widths = {name: config.adm_in_channels for name, config in ORBIT_CONFIGS.items()}
    assert widths == {"sv3d_u": 256, "sv3d_p": 256 + 512 + 512}
    assert ORBIT_SCALE == (1.0, 2.5)


def test_the_cascade_is_sampled_as_the_paper_says_and_else_like_sv4d():
    recipe, base = recipes["4dvd"], recipes["sv4d"]
    assert (recipe.times, recipe.steps, recipe.coarse_size) == (5, 10, 256)
    assert len(recipe.azimuths_deg) + recipe.makes_input_view == 16
    assert recipe.passes(21) == base.passes(21)
    assert (recipe.model, recipe.config, recipe.ratio) == ("sv4d", base.config, base.ratio)
    assert recipe.scale(5, 8).equal(base.scale(5, 8))
