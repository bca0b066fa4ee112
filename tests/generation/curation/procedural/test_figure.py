from dataclasses import replace

import numpy as np
import pytest

from generation.curation.procedural.figure import Figure, Paint, Part, Swing
from generation.curation.procedural.random_figure import random_figure
from generation.curation.procedural.solids import Solid, mesh_of

MIRROR = np.diag([-1.0, 1, 1])
PAINT = Paint((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
BODY = Part(Solid((0.3, 0.4, 0.5)), PAINT)
LIMB = Part(
    Solid((0.1, 0.12, 0.4), taper=(1.0, 0.5), bend=0.2),
    PAINT,
    0,
    joint=(0.3, 0.1, -0.2),
    rest=(2.8, -0.4, 0.3),
    offset=(0.05, 0.0, 0.3),
    swing=Swing((0.6, 0.8, 0.0), 0.7, 2.0, 0.1),
)


def vertices(figure: Figure, part: int, time: float) -> np.ndarray:
    which, pose = figure.parts[part], figure.poses(time)[part]
    return pose.joint + pose.rotation.apply(mesh_of(which.solid).points + which.offset)


def matched(points: np.ndarray, others: np.ndarray) -> float:
    """The farthest that any point is from its nearest other."""
    return float(np.linalg.norm(points[:, None] - others[None], axis=-1).min(1).max())


@pytest.mark.parametrize("time", [0.0, 0.3, 0.8])
def test_a_mirrored_part_is_the_mirror_image_at_all_times(time):
    figure = Figure((BODY, LIMB, LIMB.mirrored()))
    assert LIMB.mirrored().mirrored() == LIMB
    left, right = vertices(figure, 1, time), vertices(figure, 2, time)
    assert matched(left @ MIRROR, right) < 1e-9
    assert matched(left, right) > 0.1


def test_what_hangs_on_a_part_moves_with_it():
    hand = replace(LIMB, parent=1, joint=(0.0, 0.0, 0.7), swing=Swing())
    figure = Figure((BODY, LIMB, hand))
    distances = []
    for time in (0.0, 0.1, 0.2):
        poses = figure.poses(time)
        place = poses[1].rotation.inv().apply(poses[2].joint - poses[1].joint)
        np.testing.assert_allclose(place, hand.joint, atol=1e-12)
        distances.append(poses[2].joint)
    assert np.linalg.norm(distances[0] - distances[1]) > 0.01


def test_swings_come_back_after_their_cycles_and_hops_end_on_the_ground():
    figure = Figure((BODY, LIMB), hop=0.2, hops=2.0)
    np.testing.assert_allclose(vertices(figure, 1, 0.0), vertices(figure, 1, 1.0), atol=1e-12)
    assert figure.poses(0.25)[0].joint[2] == pytest.approx(0.2)
    assert figure.poses(0.5)[0].joint[2] == pytest.approx(0.0, abs=1e-12)


def test_a_seed_is_one_figure_and_seeds_differ():
    assert random_figure(7) == random_figure(7)
    figures = [random_figure(seed) for seed in range(50)]
    assert len(set(figures)) == 50
    assert len({len(figure.parts) for figure in figures}) > 8


@pytest.mark.parametrize("seed", range(40))
def test_parts_hang_on_earlier_ones_and_have_a_size_and_colours(seed):
    parts = random_figure(seed).parts
    for number, part in enumerate(parts):
        assert part.parent is None if number == 0 else part.parent in range(number)
        assert min(part.solid.radii) > 0.003
        assert min(*part.paint.colour, *part.paint.other) >= 0
        assert max(*part.paint.colour, *part.paint.other) <= 1
        assert np.linalg.norm(part.swing.axis) == pytest.approx(1)
