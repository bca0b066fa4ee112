import sys

import torch

from generation.models.chunks import CACHED_TOKENS, Chunk


def test_what_was_set_goes_before_what_the_device_would_like():
    for device in ("cpu", "meta"):
        assert Chunk(7).size(torch.empty(2, device=device)) == 7


def test_a_cpu_takes_what_stays_in_its_cache_and_an_accelerator_everything():
    assert Chunk().size(torch.empty(2)) == CACHED_TOKENS
    assert Chunk().size(torch.empty(2, device="meta")) == sys.maxsize
