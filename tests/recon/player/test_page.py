import re

import numpy as np
import pytest

from recon.errors import InputError
from recon.player.packing import pack_scene
from recon.player.page import page, scene_of_page
from tests.recon.player.conftest import make_scene


def test_the_scene_of_a_page_is_read_back():
    packed = pack_scene(make_scene("bones"))
    assert scene_of_page(page(packed, "<title>", np.zeros((8, 8, 3), np.uint8))) == packed


def test_a_title_is_escaped_and_no_placeholder_is_left():
    text = page(b"", "a <b> & c")
    assert "a &lt;b&gt; &amp; c" in text
    assert not re.search(r"{{\w+}}", text)


@pytest.mark.parametrize(
    "text", ["", '<script id="scene" type="text/plain"></script>',
             '<script id="scene" type="text/plain">H4sIAAAA</script>',
             '<script id="scene" type="text/plain">%</script>']
)  # fmt: skip
def test_a_page_without_a_scene_or_with_a_damaged_one_is_refused(text: str):
    with pytest.raises(InputError):
        scene_of_page(text)
