"""The accessors of a glTF file: typed arrays in its buffers, checked to lie within them.

Nothing is read until it is asked for. An accessor without a buffer view stands for zeros, and a
sparse one replaces a few of its elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from generation.curation.inspection.findings import AssetError, Limits, Reason
from generation.curation.inspection.gltf_document import Entry
from generation.curation.inspection.gltf_files import GltfFile

_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


class BufferView(NamedTuple):
    """A part of a buffer.

    Attributes:
        data: its bytes, uint8.
        stride: bytes from one element to the next; 0 if they follow each other closely.
    """

    data: np.ndarray
    stride: int


@dataclass(frozen=True, eq=False)
class Accessor:
    """An array [count, components] in a buffer view.

    Attributes:
        place: where the document describes it.
        count: number of elements.
        components: numbers in an element.
        dtype: of a component.
        data: the elements, not yet copied; None for zeros.
        replaced: places and values of a sparse accessor; None for others.
    """

    place: str
    count: int
    components: int
    dtype: np.dtype
    data: np.ndarray | None
    replaced: tuple[np.ndarray, np.ndarray] | None = None

    @cached_property
    def is_finite(self) -> bool:
        """Whether all numbers are."""
        parts = (self.data, None if self.replaced is None else self.replaced[1])
        return self.dtype.kind != "f" or all(
            part is None or bool(np.isfinite(part).all()) for part in parts
        )

    @cached_property
    def ascends(self) -> bool:
        """Whether the first component grows from each element to the next."""
        return bool((np.diff(self.read()[:, 0]) > 0).all())

    def read(self) -> np.ndarray:
        """All elements, [count, components]."""
        if self.data is None or self.replaced is not None:
            result = np.zeros((self.count, self.components), self.dtype)
            if self.data is not None:
                result[:] = self.data
            if self.replaced is not None:
                places, values = self.replaced
                result[places] = values
            return result
        return self.data

    def check_finite(self, what: str) -> None:
        """Raises AssetError if an element is not finite; a sentence begins with `what`."""
        if not self.is_finite:
            raise AssetError(
                Reason.not_finite, f"{what} ({self.place}) has numbers that are not finite"
            )


def read_buffer_views(file: GltfFile) -> list[BufferView]:
    """All parts of buffers.

    Raises:
        AssetError: one does not lie within its buffer.
    """
    return [_buffer_view(entry, file.buffers) for entry in file.document.entries("bufferViews")]


def read_accessors(file: GltfFile, views: list[BufferView], limits: Limits) -> list[Accessor]:
    """All accessors.

    Raises:
        AssetError: one does not lie within its buffer view, or all are too large together.
    """
    accessors = [_accessor(entry, views) for entry in file.document.entries("accessors")]
    size = sum(each.count * each.components * each.dtype.itemsize for each in accessors)
    if size > limits.file_bytes:
        raise AssetError(
            Reason.too_large,
            f"its accessors hold {size:,} bytes when read, more than {limits.file_bytes:,}",
        )
    return accessors


def _buffer_view(entry: Entry, buffers: list[np.ndarray]) -> BufferView:
    buffer = entry.item("buffer", buffers)
    start, length = entry.integer("byteOffset", 0), entry.integer("byteLength")
    if start + length > len(buffer):
        raise AssetError(
            Reason.malformed,
            f"{entry.place} ends at byte {start + length:,} of a buffer of {len(buffer):,}",
        )
    return BufferView(buffer[start : start + length], entry.integer("byteStride", 0))


def _accessor(entry: Entry, views: list[BufferView]) -> Accessor:
    code, kind = entry.integer("componentType"), entry.text("type")
    if code not in _DTYPES or kind not in _COMPONENTS:
        raise AssetError(Reason.malformed, f"{entry.place} is of no known type: {code}, {kind!r}")
    dtype, components, count = np.dtype(_DTYPES[code]), _COMPONENTS[kind], entry.integer("count")
    data = _elements(entry, views, count, components, dtype)
    replaced = None
    sparse = entry.entry("sparse")
    if sparse is not None:
        replaced = _replaced(sparse, views, count, components, dtype)
    return Accessor(entry.place, count, components, dtype, data, replaced)


def _replaced(
    sparse: Entry, views: list[BufferView], size: int, components: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of the elements that a sparse accessor of `size` elements replaces."""
    count = sparse.integer("count")
    where, what = sparse.entry("indices"), sparse.entry("values")
    code = -1 if where is None else where.integer("componentType")
    if where is None or what is None or code not in (5121, 5123, 5125):
        raise AssetError(Reason.malformed, f"{sparse.place} has no indices or values")
    places = _elements(where, views, count, 1, np.dtype(_DTYPES[code]))
    values = _elements(what, views, count, components, dtype)
    if places is None or values is None or (count and int(places.max()) >= size):
        raise AssetError(Reason.malformed, f"{sparse.place} replaces elements that are not there")
    return places[:, 0], values


def _elements(
    entry: Entry, views: list[BufferView], count: int, components: int, dtype: np.dtype
) -> np.ndarray | None:
    """A view of the elements, [count, components]; None if they are in no buffer view."""
    index = entry.index("bufferView", views)
    if index is None:
        return None
    view, start = views[index], entry.integer("byteOffset", 0)
    size = components * dtype.itemsize
    stride = view.stride or size
    end = start + stride * (count - 1) + size if count else start
    if stride < size or stride % dtype.itemsize or end > len(view.data):
        raise AssetError(
            Reason.malformed,
            f"{entry.place}: {count:,} elements of {size} bytes, {stride} apart from byte "
            f"{start:,}, do not lie within bufferViews[{index}] of {len(view.data):,} bytes",
        )
    data = view.data[start:]
    return np.ndarray((count, components), dtype, data, strides=(stride, dtype.itemsize))
