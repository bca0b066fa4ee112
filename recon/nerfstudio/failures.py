"""End nerfstudio's commands with a sentence and an exit code where it would print a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recon.errors import FourdvdError


@contextmanager
def sentences() -> Iterator[None]:
    """Turn an error of this project into a sentence on stderr and its exit code.

    Raises:
        SystemExit: the block raised a `FourdvdError`.
    """
    try:
        yield
    except FourdvdError as error:
        hint = f"\n{error.hint}" if error.hint else ""
        sys.stderr.write(f"{error}{hint}\n")
        raise SystemExit(error.exit_code) from error
