"""The small tower makes one token of an image of any size."""

import pytest
import torch

from generation.models.token_tower import TokenTower, TokenTowerConfig
from recon.errors import InputError

SMALL = TokenTowerConfig(16, (32, 64), 12)


def test_images_of_any_size_give_tokens_of_one_width():
    tower = TokenTower(SMALL)
    for side in (8, 16, 40):
        assert tower(torch.rand(3, 3, side, side)).shape == (3, 12)


def test_a_larger_copy_of_an_image_has_about_its_token():
    tower, image = TokenTower(SMALL), torch.rand(1, 3, 16, 16)
    larger = image.repeat_interleave(4, 2).repeat_interleave(4, 3)
    similar = (tower(larger) - tower(image)).norm()
    assert similar < 0.5 * (tower(torch.rand(1, 3, 16, 16)) - tower(image)).norm()


@pytest.mark.parametrize("wrong", [{"widths": (20,)}, {"side": 10}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(InputError, match="tower widths"):
        TokenTowerConfig(**{"side": 16, "widths": (32, 32), **wrong})
