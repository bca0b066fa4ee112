import base64
import re
from pathlib import Path

import numpy as np
import pytest

from recon.errors import InputError
from recon.exporters.folder import export
from recon.media import decode_image
from recon.player.packing import pack_scene
from recon.player.page import page, scene_of_page
from tests.recon.player.conftest import make_scene


def test_the_scene_of_a_page_is_read_back():
    packed = pack_scene(make_scene("bones"))
    assert scene_of_page(page(packed, "<title>", np.zeros((8, 8, 4), np.uint8))) == packed


def test_the_poster_is_transparent_around_the_object(tmp_path: Path):
    export(make_scene("bones"), tmp_path, ["html"])
    text = (tmp_path / "html" / "scene.html").read_text()
    found = re.search(r'src="data:image/webp;base64,([^"]+)"', text)
    assert found is not None
    image = decode_image(base64.b64decode(found[1]), "WEBP")
    assert image[0, 0, 3] == 0 < image[..., 3].max()


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
