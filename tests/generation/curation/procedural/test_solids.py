from collections import Counter

import numpy as np
import pytest

from generation.curation.procedural.solids import Mesh, Solid, mesh_of

SOLIDS = {
    "ball": Solid((0.5, 0.5, 0.5)),
    "box": Solid((0.2, 0.3, 0.4), (0.25, 0.25)),
    "cone": Solid((0.3, 0.3, 0.8), taper=(1.0, 0.05)),
    "banana": Solid((0.1, 0.1, 0.7), bend=0.4),
}


def volume(mesh: Mesh) -> float:
    """By the divergence theorem; positive if all triangles look outwards."""
    a, b, c = np.moveaxis(mesh.points[mesh.triangles], 1, 0)
    return float(np.einsum("mi,mi->", a, np.cross(b, c)) / 6)


@pytest.mark.parametrize("solid", SOLIDS.values(), ids=SOLIDS)
def test_the_surface_is_closed_and_looks_outwards(solid):
    mesh = mesh_of(solid)
    edges = Counter(
        (int(triangle[i]), int(triangle[(i + 1) % 3]))
        for triangle in mesh.triangles
        for i in range(3)
    )
    assert set(edges.values()) == {1}
    assert all((end, start) in edges for start, end in edges)
    assert volume(mesh) > 0
    assert len(mesh.points) - len(edges) // 2 + len(mesh.triangles) == 2  # Euler: one ball


def test_a_fine_ellipsoid_has_the_volume_of_one():
    mesh = mesh_of(Solid((0.3, 0.5, 0.7), segments=(64, 48)))
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.3 * 0.5 * 0.7, rel=0.01)
    on_it = ((mesh.points / [0.3, 0.5, 0.7]) ** 2).sum(1)
    np.testing.assert_allclose(on_it, 1, atol=1e-12)


def test_smaller_exponents_make_it_fuller_up_to_a_box():
    volumes = [
        volume(mesh_of(Solid((1, 1, 1), (exponent, exponent), segments=(64, 48))))
        for exponent in (1.2, 1.0, 0.5, 0.1)
    ]
    assert volumes == sorted(volumes)
    assert 7 < volumes[-1] < 8


def test_taper_and_bend_are_where_they_are_said_to_be():
    tapered = mesh_of(Solid((1, 1, 1), taper=(1.0, 0.2), segments=(32, 24))).points
    wide, narrow = (
        np.abs(tapered[side, 0]).max() for side in (tapered[:, 2] < 0, tapered[:, 2] > 0)
    )
    assert narrow < 0.85 * wide
    straight, bent = (mesh_of(Solid((0.1, 0.1, 1), bend=bend)).points for bend in (0.0, 0.3))
    moved = bent - straight
    np.testing.assert_allclose(moved[:, [0, 2]], 0, atol=1e-12)
    np.testing.assert_allclose(moved[:, 1], 0.3 * straight[:, 2] ** 2, atol=1e-12)
