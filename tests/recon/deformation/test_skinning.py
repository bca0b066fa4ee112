"""The kernels against plain PyTorch, and that against loops of independent code."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from recon.deformation import skinning
from recon.deformation.skinning import (
    GAP_SOFTNESS,
    blend_bones,
    blend_bones_reference,
    bone_motions,
    bone_motions_reference,
    neighbor_gap,
    neighbor_gap_reference,
)
from recon.native.library import built

GAUSSIANS, BONES, NEIGHBORS = 300, 13, 4
needs_kernels = pytest.mark.skipif(not built(), reason="the CPU kernels were not compiled")


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bones() -> tuple[Tensor, Tensor, Tensor]:
    """Centers, translations and quaternions of any length and sign."""
    return random_tensor(BONES, 3), random_tensor(BONES, 3, seed=1), random_tensor(BONES, 4, seed=2)


def neighbors() -> Tensor:
    return torch.stack(
        [(torch.arange(BONES) + step) % BONES for step in range(1, 1 + NEIGHBORS)], dim=1
    )


def results_and_gradients(function: Callable, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Outputs of a function, and gradients of a fixed random mixture of them by its inputs."""
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    results = function(*leaves)
    results = results if isinstance(results, tuple) else (results,)
    mixed = [(x * random_tensor(*x.shape, seed=9).to(x)).sum() for x in results]
    torch.stack(mixed).sum().backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    return [*(x.detach() for x in results), *gradients]


def motion_inputs() -> tuple[Tensor, ...]:
    return bones()


def gap_inputs() -> tuple[Tensor, ...]:
    return (*bones(), neighbors())


def blending_inputs() -> tuple[Tensor, ...]:
    return (
        3 * random_tensor(GAUSSIANS, BONES, seed=3), bone_motions_reference(*bones()),
        random_tensor(GAUSSIANS, 3, seed=4), random_tensor(GAUSSIANS, 4, seed=5),
    )  # fmt: skip


@needs_kernels
@pytest.mark.parametrize(
    ("function", "reference", "inputs"),
    [
        (bone_motions, bone_motions_reference, motion_inputs),
        (neighbor_gap, neighbor_gap_reference, gap_inputs),
        (blend_bones, blend_bones_reference, blending_inputs),
    ],
)
def test_kernels_agree_with_pytorch_in_values_and_gradients(function, reference, inputs):
    constants = 1 if function is not blend_bones else 0  # centers get no gradient from a kernel
    found = results_and_gradients(function, inputs())
    exact = tuple(x.double() if x.is_floating_point() else x for x in inputs())
    expected = results_and_gradients(
        lambda *given: reference(*(x.detach() for x in given[:constants]), *given[constants:]),
        exact,
    )
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=2e-4)


@needs_kernels
def test_fits_use_the_kernels(monkeypatch):
    def fail(*_):
        raise AssertionError("plain PyTorch was called")

    for name in ("bone_motions", "neighbor_gap", "blend_bones"):
        monkeypatch.setattr(skinning, f"{name}_reference", fail)
    blend_bones(random_tensor(8, BONES), bone_motions(*bones()), random_tensor(8, 3),
                random_tensor(8, 4))  # fmt: skip
    neighbor_gap(*bones(), neighbors())


def test_a_motion_rotates_about_the_center_of_its_bone():
    centers, translations, quats = bones()
    motions = bone_motions_reference(centers, translations, quats).numpy()
    point = np.array([0.3, -1.2, 0.7])
    for k, turn in enumerate(Rotation.from_quat(quats.numpy(), scalar_first=True)):
        expected = turn.apply(point - centers[k].numpy()) + (centers + translations)[k].numpy()
        moved = motions[k, :9].reshape(3, 3) @ point + motions[k, 9:12]
        np.testing.assert_allclose(moved, expected, atol=1e-5)
        unit = Rotation.from_quat(motions[k, 12:], scalar_first=True)
        np.testing.assert_allclose(unit.as_matrix(), turn.as_matrix(), atol=1e-5)
        assert motions[k, 12:] @ motions[0, 12:] >= 0


def test_the_gap_is_the_mean_distance_from_predicted_neighbors():
    centers, translations, quats = (x.numpy().astype(np.float64) for x in bones())
    turns = Rotation.from_quat(quats, scalar_first=True)
    gaps = []
    for k, row in enumerate(neighbors().tolist()):
        for n in row:
            predicted = turns[k].apply(centers[n] - centers[k]) + centers[k] + translations[k]
            gap = np.linalg.norm(predicted - centers[n] - translations[n])
            gaps.append(np.sqrt(gap**2 + GAP_SOFTNESS))
    found = neighbor_gap(*bones(), neighbors())
    assert float(found) == pytest.approx(np.mean(gaps), rel=1e-5)


def test_bones_that_move_together_have_no_gaps():
    centers, _, _ = bones()
    turn = Rotation.from_rotvec([0.4, -0.9, 0.3])
    quats = torch.tensor(turn.as_quat(scalar_first=True)).float().expand(BONES, 4)
    translations = torch.from_numpy(turn.apply(centers.numpy())).float() + 0.2 - centers
    assert float(neighbor_gap(centers, translations, quats, neighbors())) < 2e-4
