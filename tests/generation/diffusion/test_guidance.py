import pytest
import torch

from generation.diffusion.guidance import (
    linear_scale,
    orbit_scale,
    space_time_scale,
    triangle,
)


@pytest.mark.parametrize("count", [3, 8, 21])
def test_a_triangle_is_symmetric_rises_evenly_and_has_its_peak_in_the_middle(count: int):
    found = triangle(count)
    torch.testing.assert_close(found, found.flip(0))
    assert float(found[0]) == 0
    rise = found[: (count + 1) // 2].diff()
    torch.testing.assert_close(rise, torch.full_like(rise, 2 / (count - 1)))
    assert float(found.max()) == pytest.approx(1 if count % 2 else 1 - 1 / (count - 1))


def test_an_even_number_of_views_never_reaches_the_peak():
    assert float(triangle(8).max()) == pytest.approx(0.857, abs=1e-3)


def test_an_orbit_is_guided_most_half_way_around():
    scale = orbit_scale(21, 1.0, 2.5)
    assert [float(scale[k]) for k in (0, 10, 20)] == pytest.approx([1.0, 2.5, 1.0])
    assert float(scale[5]) == pytest.approx(1.75)


def test_the_linear_scale_rises_along_the_flat_list_of_frames():
    scale = linear_scale(48, 1.0, 2.0)
    torch.testing.assert_close(scale, 1 + torch.arange(48) / 47)


@pytest.mark.parametrize(("times", "views"), [(5, 8), (12, 4), (5, 3)])
def test_space_and_time_have_half_a_share_each_the_time_outermost(times: int, views: int):
    scale = space_time_scale(times, views, 1.5, 2.5).view(times, views)
    for t in range(times):
        for v in range(views):
            tri = 1 - abs(2 * v / (views - 1) - 1)
            share = 0.5 * t / (times - 1) + 0.5 * tri
            assert float(scale[t, v]) == pytest.approx(1.5 + share)
