"""Access to the JSON of a glTF file that trusts nothing: each look checks type, range and presence.

What is wrong is an `AssetError` that names the place as the document would be read in a browser's
console, such as `meshes[0].primitives[2].indices`. Null stands for absent, as Blender reads it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from generation.curation.inspection.findings import AssetError, Reason

Item = TypeVar("Item")


class Entry:
    """An object of the document, and the place where it stands."""

    __slots__ = ("_fields", "place")

    def __init__(self, fields: Any, place: str):
        self.place = place
        if not isinstance(fields, dict):
            self._refuse(None, "an object", fields)
        self._fields: dict[str, Any] = fields

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer from 0 up; absent without a default is refused."""
        value = self._fields.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < 0:  # a bool is an int to isinstance
            self._refuse(key, "a whole number from 0 up", value)
        return value

    def index(self, key: str, table: Sequence[Any]) -> int | None:
        """A place in a table; None if absent."""
        return self._checked_index(key, self._fields.get(key), table)

    def item(self, key: str, table: Sequence[Item]) -> Item:
        """What stands in a table at the place; absent is refused."""
        index = self.index(key, table)
        if index is None:
            self._refuse(key, "an index", None)
        return table[index]

    def indices(self, key: str, table: Sequence[Any]) -> list[int]:
        """Places in a table; empty if absent."""
        found = [
            self._checked_index(f"{key}[{number}]", value, table)
            for number, value in enumerate(self._list(key))
        ]
        return [index for index in found if index is not None]

    def text(self, key: str) -> str | None:
        """A text; None if absent."""
        value = self._fields.get(key)
        if value is not None and not isinstance(value, str):
            self._refuse(key, "a text", value)
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty if absent."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            self._refuse(key, "texts", values)
        return values

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """So many finite numbers; empty if absent."""
        values = self._list(key)
        if not values:
            return ()
        if len(values) != count or not all(type(value) in (int, float) for value in values):
            self._refuse(key, f"{count} numbers", values)
        if not all(abs(value) <= sys.float_info.max for value in values):  # integers know no end
            raise AssetError(Reason.not_finite, f"{self._at(key)} is not finite")
        return tuple(values)

    def entry(self, key: str) -> Entry | None:
        """An object; None if absent."""
        value = self._fields.get(key)
        return None if value is None else Entry(value, self._at(key))

    def entries(self, key: str) -> list[Entry]:
        """A list of objects; empty if absent."""
        return [
            Entry(value, f"{self._at(key)}[{number}]")
            for number, value in enumerate(self._list(key))
        ]

    def extension(self, name: str) -> Entry | None:
        """What an extension adds to this object; None if nothing."""
        extensions = self.entry("extensions")
        return None if extensions is None else extensions.entry(name)

    def names(self) -> list[str]:
        """The keys of what is there."""
        return list(self._fields)

    def _list(self, key: str) -> list[Any]:
        value = self._fields.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self._refuse(key, "a list", value)
        return value

    def _checked_index(self, key: str, value: Any, table: Sequence[Any]) -> int | None:
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < len(table):
            self._refuse(key, f"an index below {len(table)}", value)
        return value

    def _at(self, key: str | None) -> str:
        return ".".join(part for part in (self.place, key) if part) or "the document"

    def _refuse(self, key: str | None, expected: str, found: Any) -> NoReturn:
        shown = repr(found)[:40] if isinstance(found, str | int | float) else type(found).__name__
        raise AssetError(
            Reason.malformed,
            f"{self._at(key)}: expected {expected}, found {'nothing' if found is None else shown}",
        )


def parse_document(data: bytes) -> Entry:
    """The document of a glTF 2.0 file.

    Raises:
        AssetError: not JSON in UTF-8, not an object, or of another version.
    """
    try:
        fields = json.loads(str(data, encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise AssetError(Reason.malformed, f"its JSON cannot be read: {error}") from error
    document = Entry(fields, "")
    asset = document.entry("asset")
    version = None if asset is None else asset.text("version")
    if version != "2.0":
        raise AssetError(Reason.unsupported, f"expected glTF version 2.0, found {version}")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no JSON")
