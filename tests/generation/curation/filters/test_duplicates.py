import numpy as np

from generation.curation.filters.duplicates import BITS, find_duplicates, render_hash
from generation.curation.filters.thresholds import Thresholds
from tests.generation.curation.filters.discs import altered, clips, steady, textured_disc

DISTANCE = Thresholds().duplicate_distance or 0


def bits(packed: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(packed, np.uint8))


def naive(hashes: list[bytes], distance: int) -> dict[int, int]:
    """Find duplicates by the definition, pair by pair."""
    kept: list[int] = []
    duplicates = {}
    for index, each in enumerate(hashes):
        near = [k for k in kept if (bits(hashes[k]) != bits(each)).sum() <= distance]
        if near:
            duplicates[index] = near[0]
        else:
            kept.append(index)
    return duplicates


def test_duplicates_agree_with_their_definition_across_blocks(monkeypatch):
    monkeypatch.setattr("generation.curation.filters.duplicates.BLOCK", 7)
    rng = np.random.default_rng(0)
    centers = rng.integers(0, 2, (12, 64), dtype=np.uint8)
    for distance in (0, 2, 5, 20, 64):
        chosen = centers[rng.integers(0, 12, 60)] ^ (rng.random((60, 64)) < 0.04)
        hashes = [np.packbits(each).tobytes() for each in chosen.astype(np.uint8)]
        assert find_duplicates(hashes, distance) == naive(hashes, distance)


def test_an_empty_list_has_no_duplicates():
    assert find_duplicates([], 3) == {}


def test_the_first_of_several_duplicates_is_kept():
    assert find_duplicates([b"aa", b"bb", b"aa", b"aa"], 0) == {2: 0, 3: 0}


def test_noisy_copies_are_duplicates_and_other_objects_or_motions_are_not():
    grid = textured_disc(steady(6, 3.0))

    def noisy(images: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 5, images[..., :3].shape)
        images[..., :3] = (images[..., :3] + noise).clip(0, 255)
        return images

    def recolored(images: np.ndarray) -> np.ndarray:
        images[..., 0] //= 2
        return images

    first = render_hash(clips(grid))
    assert 8 * len(first) == BITS

    def distance(other) -> int:
        return int((bits(first) != bits(render_hash(clips(other)))).sum())

    assert distance(altered(grid, noisy)) <= DISTANCE
    assert distance(altered(grid, recolored)) > DISTANCE
    assert distance(textured_disc(steady(6, 3.0), seed=1)) > DISTANCE
    assert distance(textured_disc(steady(6, -3.0))) > DISTANCE


def test_empty_views_have_a_hash():
    assert render_hash([None] * 4) == bytes(BITS // 8)
