import pytest
import torch

from generation.diffusion.schedule import RHO, SIGMA_MAX, SIGMA_MIN, karras_sigmas


@pytest.mark.parametrize("steps", [2, 20, 50])
def test_levels_fall_from_the_most_noise_to_the_least_and_end_at_none(steps: int):
    sigmas = karras_sigmas(steps)
    assert sigmas.shape == (steps + 1,)
    assert (sigmas.diff() < 0).all()
    assert float(sigmas[0]) == pytest.approx(SIGMA_MAX)
    assert float(sigmas[-2]) == pytest.approx(SIGMA_MIN)
    assert float(sigmas[-1]) == 0


@pytest.mark.parametrize("rho", [1.0, 3.0, RHO])
def test_levels_are_evenly_spaced_in_their_root(rho: float):
    spaces = karras_sigmas(9, 0.1, 80.0, rho)[:-1].double().pow(1 / rho).diff()
    torch.testing.assert_close(spaces, spaces.mean().expand(8), rtol=1e-5, atol=0)


def test_a_single_step_goes_from_the_most_noise_to_none():
    assert karras_sigmas(1).tolist() == pytest.approx([SIGMA_MAX, 0])
