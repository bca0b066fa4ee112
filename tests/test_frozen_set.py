"""The frozen test set: its list is complete, and only the listed content is accepted."""

import hashlib
import re

import pytest

from generation.curation.assets.files import FORMATS
from generation.curation.assets.licenses import LICENSES
from recon.errors import InputError
from tests.benchmarks.frozen_set import FrozenObject, obtain, read_list

PERMISSIVE = {each.name for each in LICENSES.values() if each.permissive} | {"MIT"}


def test_every_object_has_a_commit_a_permissive_license_and_hashes():
    objects, settings = read_list()
    assert 10 <= len(objects) == len({each.permalink for each in objects})
    assert (settings.views, settings.frames, settings.layers) == (16, 21, False)
    for each in objects:
        assert re.fullmatch(r"https://github\.com/[^/]+/[^/]+/blob/[0-9a-f]{40}/.+", each.permalink)
        assert each.license in PERMISSIVE and each.author
        assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in each.files.values())
        main = next(iter(each.files))
        assert each.permalink.endswith("/" + main) and "." + main.rpartition(".")[2] in FORMATS


def test_missing_files_are_downloaded_from_the_commit_and_verified(tmp_path):
    contents = {"scene.gltf": b"{}", "textures/a b.png": b"pixels"}
    sha256 = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    page = "https://github.com/owner/name/blob/0123/models/scene.gltf"
    wanted = FrozenObject("thing", page, "somebody", "CC0-1.0", None, None, sha256)
    asked = []

    def fetch(address: str) -> bytes:
        asked.append(address)
        return list(contents.values())[len(asked) - 1]

    paths = obtain(wanted, tmp_path, fetch)
    base = "https://raw.githubusercontent.com/owner/name/0123/models/"
    assert asked == [base + "scene.gltf", base + "textures/a%20b.png"]
    assert [path.read_bytes() for path in paths] == list(contents.values())
    assert obtain(wanted, tmp_path, fetch) == paths and len(asked) == 2
    assert wanted.asset(tmp_path).path == paths[0].resolve()
    paths[1].write_bytes(b"other pixels")
    with pytest.raises(InputError, match=r"a b\.png"):
        obtain(wanted, tmp_path, fetch)
