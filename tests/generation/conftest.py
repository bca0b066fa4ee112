"""Fixtures of all tests of generation."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one torch thread: tiny networks wait longer for threads than they compute.

    It serves fixtures of modules, too; results depend on the number of threads to the last bit.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
