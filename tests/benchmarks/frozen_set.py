"""Download and render the frozen test set, whose list is `frozen_set.toml`.

    python -m tests.benchmarks.frozen_set --files DIR --output DIR [NAME ...]

DIR/NAME/… of `--files` has the files of each object; missing ones are downloaded there, all are
compared with their sha256. Each object becomes the grid NAME in the output folder, rendered by the
batches of `fourdvd data render`; run it again to resume. What is printed says only whether an
image is empty: nobody looks at these objects before a table is final.
"""

from __future__ import annotations

import argparse
import tomllib
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin

import numpy as np

from generation.curation.assets.files import FORMATS, Asset
from generation.curation.render.batch import AssetBatch
from generation.curation.render.settings import Renderer, RenderSettings
from generation.weights.verify import file_sha256
from recon.errors import InputError
from recon.grid import read_grid
from recon.metrics.image import SILHOUETTE
from recon.output import output_file

LIST = Path(__file__).with_name("frozen_set.toml")
PERMALINK, RAW = "https://github.com/", "https://raw.githubusercontent.com/"
TIMEOUT_S = 60.0  # of a download
RENDER_TIMEOUT_S = 4 * 3600.0  # of an object on a busy machine


class FrozenObject(NamedTuple):
    """An object of the list.

    Attributes:
        name: its name.
        permalink: page of its main file at a commit.
        author: name to credit.
        license: SPDX identifier.
        source: page of the author; None where that is the repository.
        action: name of the animation; None if the file has one.
        files: sha256 by path relative to the folder of the permalink, the main file first.
    """

    name: str
    permalink: str
    author: str
    license: str
    source: str | None
    action: str | None
    files: Mapping[str, str]

    def address(self, file: str) -> str:
        """Address from which one of the files is downloaded."""
        page = self.permalink.removeprefix(PERMALINK).replace("/blob/", "/", 1)
        return urljoin(RAW + page, quote(file))

    def asset(self, folder: Path) -> Asset:
        """The main file in a folder as an asset for rendering."""
        main = folder / self.name / next(iter(self.files))
        source = self.source or self.permalink
        path = main.resolve()
        return Asset(path, FORMATS[path.suffix], self.name, source, self.license, self.author)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.frozen_set")
    parser.add_argument("names", metavar="NAME", nargs="*", help="objects (default: all)")
    parser.add_argument("--files", metavar="DIR", type=Path, required=True)
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder of the grids")
    options = parser.parse_args(arguments)
    objects, settings = read_list()
    if unknown := sorted(set(options.names) - {each.name for each in objects}):
        parser.error(f"unknown object {unknown[0]}, expected {', '.join(o.name for o in objects)}")
    for each in objects:
        if options.names and each.name not in options.names:
            continue
        obtain(each, options.files)
        said = "files are there"
        if options.output is not None:
            said = render(each, options.files, settings, options.output)
        print(f"{each.name}: {said}", flush=True)


def read_list(path: Path = LIST) -> tuple[list[FrozenObject], RenderSettings]:
    """Read the objects of a list and the settings with which all of them are rendered."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    render: dict[str, Any] = values["render"]
    settings = RenderSettings(**{**render, "renderer": Renderer(render["renderer"])})
    optional = {"source": None, "action": None}
    objects = values["objects"].items()
    return [FrozenObject(name, **{**optional, **each}) for name, each in objects], settings


def obtain(
    wanted: FrozenObject, folder: Path, fetch: Callable[[str], bytes] | None = None
) -> list[Path]:
    """Download the missing files of an object and verify all of them.

    Args:
        wanted: the object.
        folder: its files are in a folder of its name in this one.
        fetch: returns the content of an address; None: by HTTP.

    Raises:
        InputError: a file has another content.
        OSError: a file cannot be downloaded.
    """
    paths = []
    for file, sha256 in wanted.files.items():
        path = folder / wanted.name / file
        if not path.is_file():
            content = (fetch or _download)(wanted.address(file))
            with output_file(path) as partial:
                partial.write_bytes(content)
        if (found := file_sha256(path)) != sha256:
            raise InputError(f"expected the sha256 {sha256}, found {found}; delete the file", path)
        paths.append(path)
    return paths


def render(wanted: FrozenObject, files: Path, settings: RenderSettings, output: Path) -> str:
    """Render an object to a grid, unless it is there, and return what can be said unseen.

    Raises:
        FourdvdError: the object cannot be rendered.
        InputError: an image is empty.
    """
    batch = AssetBatch(
        output, replace(settings, action=wanted.action), timeout_s=RENDER_TIMEOUT_S, workers=1
    )
    batch.run([wanted.asset(files)]).require_finished()
    grid = read_grid(output / wanted.name)
    shares = [float(np.mean(image[..., 3] > 255 * SILHOUETTE)) for image in grid.images]
    if min(shares) == 0:
        raise InputError("an image is empty", output / wanted.name)
    return f"{grid.V} views, {grid.T} frames, no image is empty"


def _download(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response:
        return response.read()


if __name__ == "__main__":
    main()
