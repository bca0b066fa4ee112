"""Files of JSON objects, one a line, to which one process appends while it works.

A crash can truncate the last line, which is ignored and removed before the next one is appended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from recon.errors import InputError, OutputError

Row = TypeVar("Row")


def read_lines(path: Path, parse: Callable[[bytes], Row]) -> Iterator[Row]:
    """Read the rows of a file; an absent file has none.

    Args:
        path: the file.
        parse: parses a line; raises ValueError for anything else, including invalid JSON.

    Raises:
        InputError: a line is not a row, unless it is a truncated last line; the message names it.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = parse(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise InputError(
                    f"line {number} is not a row of this file: {error}", path
                ) from error
            yield row


def append_line(path: Path, line: bytes, parse: Callable[[bytes], Any]) -> None:
    """Append a line and flush it to disk; missing parent folders are created.

    Args:
        path: the file.
        line: ends with a line feed, see `json_line`.
        parse: see `read_lines`; tells a truncated last line from one that only lacks its line feed.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _end_last_line(path, parse)
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def json_line(row: Mapping[str, Any], what: str) -> bytes:
    """Format a JSON object as a line.

    Args:
        row: the object; paths in it may have bytes that are not valid text.
        what: what it describes, for the message.

    Raises:
        OutputError: it contains something that JSON cannot represent.
    """
    try:
        text = json.dumps(row, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise OutputError(f"{what} cannot be written as JSON: {error}") from error
    return text.encode(errors="surrogatepass") + b"\n"


def _end_last_line(path: Path, parse: Callable[[bytes], Any]) -> None:
    """Remove a truncated last line, or append the line feed if only that is missing."""
    with path.open("r+b") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
        file.seek(0)
        content = file.read()
        start = content.rfind(b"\n") + 1
        try:
            parse(content[start:])
        except ValueError:
            file.truncate(start)
        else:
            file.write(b"\n")
