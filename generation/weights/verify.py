"""Whether a file holds the weights of a published network; only its header is read.

The tensors that are read (`PublishedModel.read_prefixes`) must be there, all of them and no others,
in the right shape and a floating-point type. What lies beside them may differ, as published files
do: left-overs of the text tower, VAEs that nothing reads. Whatever belongs to no part of the
network, such as a LoRA, is refused, because leaving it out silently would change results.

What is not known here: whether the numbers themselves are right or finite.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from generation.weights.catalogue import PublishedModel, Shape, expected_shapes, published
from generation.weights.header import Entry, read_header
from recon.errors import WeightsError

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
KINDS = ("missing", "extra", "of another shape", "neither float16, bfloat16 nor float32")
SHOWN = 3  # keys of each kind in a message
ALIKE = 0.1  # a file is "more like" a model when fewer than this part of its tensors differ

_TOLERATED = ("conditioner.", "first_stage_model.")  # keys outside of what is read may lie here


class Verification(NamedTuple):
    """What was found in a file that passed.

    Attributes:
        path: of the file.
        size_bytes: of the file.
        tensors: how many it holds.
        dtypes: types of the tensors that are read, as the format writes them, sorted.
        missing_unread: how many expected tensors are missing that nothing reads.
        extra_unread: how many tensors are there besides that nothing reads.
    """

    path: Path
    size_bytes: int
    tensors: int
    dtypes: tuple[str, ...]
    missing_unread: int
    extra_unread: int


class Difference(NamedTuple):
    """How tensors differ from the expected ones; all empty where they do not.

    Attributes:
        missing: keys.
        extra: keys.
        misshapen: "key: expected 1280×256, found 1280×768".
        not_float: "key: I64".
    """

    missing: list[str]
    extra: list[str]
    misshapen: list[str]
    not_float: list[str]

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(map(len, self))

    def __str__(self) -> str:
        kinds = zip(KINDS, self, strict=True)
        return ", ".join(f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in kinds if keys)


def verify_weights(
    path: str | Path, model: PublishedModel, expected: Mapping[str, Shape] | None = None
) -> Verification:
    """Makes sure that a file holds the weights of a model.

    `sv4d2` and `sv4d2_8views` have the same tensors, so one passes for the other: they can only be
    told apart by the name of the file.

    Args:
        path: a safetensors file.
        model: whose weights they should be.
        expected: shapes by key; the published network's if None.

    Returns:
        What was found.

    Raises:
        WeightsError: it is not a whole safetensors file, or not this model's.
    """
    path = Path(path)
    try:
        entries = read_header(path)
        shapes = expected_shapes(model.name) if expected is None else expected
        difference = _difference_of_read_parts(entries, shapes, model)
        if difference.total:
            raise WeightsError(f"{path}: {_mismatch(entries, model, difference)}")
    except WeightsError as error:
        error.hint = error.hint or (
            f"move the file away, then run `fourdvd models fetch {model.label} --accept-licence`"
        )
        raise
    read = {key for key in entries if key.startswith(model.read_prefixes)}
    expected_read = {key for key in shapes if key.startswith(model.read_prefixes)}
    return Verification(
        path,
        path.stat().st_size,
        len(entries),
        tuple(sorted({entries[key].dtype for key in read})),
        len(shapes.keys() - entries.keys() - expected_read),
        len(entries.keys() - shapes.keys() - read),
    )


def compare_shapes(
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    not_float: Iterable[str] = (),
) -> Difference:
    """How the shapes of tensors differ from the expected ones.

    Args:
        found: shapes by key.
        expected: shapes by key.
        not_float: what is said about tensors that are no floats.
    """
    return Difference(
        sorted(expected.keys() - found.keys()),
        sorted(found.keys() - expected.keys()),
        [
            f"{key}: expected {_times(expected[key])}, found {_times(found[key])}"
            for key in sorted(expected.keys() & found.keys())
            if expected[key] != found[key]
        ],
        sorted(not_float),
    )


def _difference_of_read_parts(
    entries: Mapping[str, Entry], shapes: Mapping[str, Shape], model: PublishedModel
) -> Difference:
    """Differs in what is read, or holds something that belongs to no part of the network."""
    read = model.read_prefixes
    counted = {
        key: entry
        for key, entry in entries.items()
        if key.startswith(read) or not key.startswith(_TOLERATED)
    }
    return compare_shapes(
        {key: entry.shape for key, entry in counted.items()},
        {key: shape for key, shape in shapes.items() if key.startswith(read)},
        [f"{key}: {entry.dtype}" for key, entry in counted.items() if entry.dtype not in FLOATS],
    )


def _mismatch(entries: Mapping[str, Entry], model: PublishedModel, difference: Difference) -> str:
    """What is wrong, and whose weights these are where they fit another model better."""
    totals = {
        other: _difference_of_read_parts(entries, expected_shapes(other.name), other).total
        for other in published.values()
        if other != model
    }
    fewest = min(totals.values())
    names = " or ".join(other.label for other in totals if totals[other] == fewest)
    if fewest == 0:
        return f"these are the weights of {names}, not of {model.label}"
    alike = fewest < min(difference.total, ALIKE * len(entries))
    return (
        f"these are not the weights of {model.label}; tensors: {difference}"
        f"{f'; the file is more like that of {names}' if alike else ''}"
    )


def _some(keys: Collection[str]) -> str:
    shown = ", ".join(list(keys)[:SHOWN])
    return f"{shown}, …" if len(keys) > SHOWN else shown


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "a single number"
