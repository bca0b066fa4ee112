"""Reading grids: folders of this project, of D-NeRF and of nerfstudio, or one of their JSONs.

    JSON ─▶ entries ─▶ files inside the folder ─▶ sizes ─▶ cameras and times in groups ─▶ pixels

Letters: V cameras, T times, M images. All cheap checks come before the first pixel is decoded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recon.errors import GridError
from recon.grid.cameras import Camera
from recon.grid.cut_out import warn_of_background
from recon.grid.grid import Grid
from recon.grid.grouping import group_frames, group_views
from recon.grid.image_files import ImageFiles
from recon.grid.initial_gaussians import InitialGaussians, read_initial_gaussians
from recon.grid.lens import Distortion
from recon.grid.orientation import rotated, rotation_of_grid
from recon.grid.pixels import ImageSource, common_size, read_pixels
from recon.grid.source_camera import SourceCamera
from recon.grid.transforms import PosedImage, Transforms, is_json, read_json, read_transforms
from recon.media import has_frames, image_size, read_image

RUN_GRID = "grid"  # name of the grid folder in that of `fourdvd run`

_log = logging.getLogger(__name__)


def read_grid(
    path: str | Path,
    split: str = "train",
    *,
    up: str | np.ndarray = "auto",
    skip_missing: bool = False,
) -> Grid:
    """Read posed images.

    Example:
        >>> grid = read_grid("examples/robot")
        >>> grid.V, grid.T

    Args:
        path: a folder with `transforms.json` or `transforms_{train,val,test}.json`, or such a file.
        split: "train", "val" or "test"; a plain `transforms.json` is "train", unless it lists the
            images of its splits. Ignored if `path` is a file without such lists.
        up: axis that points up in the world of the files: "x", "y", "z", "-x", "-y" or "-z", or
            "auto" for a guess from the cameras; the grid is rotated to +Z up. Or the rotation
            itself, [3, 3]. Grids that this project wrote have +Z up and are not rotated.
        skip_missing: leave out images without a file or without a pose.

    Returns:
        The grid, view-major. Images without `view` are grouped by camera, and those without `frame`
        by time; without `time` the grid has one frame, unless one camera has several images, whose
        order is then that of the number in their names. Alpha is multiplied by masks. If images
        have neither alpha nor mask, it is estimated from a background of uniform color; over any
        other background they stay opaque. Images of distorting lenses are undistorted; smaller
        images are padded to the size of the largest.

    Raises:
        GridError: a file is missing or not valid.
        InputError: `up` is unknown.
    """
    json_path = _find_json(Path(path), split)
    transforms = read_transforms(json_path, skip_missing)
    entries = _of_split(transforms, split, json_path)
    files = ImageFiles(json_path)
    entries, paths = _existing(entries, files, json_path, skip_missing)
    masks = [None if e.mask_path is None else files.find(e.mask_path) for e in entries]
    sizes = [image_size(path) for path in paths]
    size = common_size(sizes, len(sizes))
    own_cameras = [_camera(e, *own, json_path) for e, own in zip(entries, sizes, strict=True)]
    rotation = _rotation(transforms, own_cameras, up, json_path)
    earlier = transforms.R_world_source
    cameras = [rotated(camera.padded(*size), rotation) for camera in own_cameras]
    try:
        views = group_views(entries, cameras)
        frames = group_frames(entries, views.of_image)
        order = np.lexsort((frames.of_image, views.of_image))
        images, alpha_known = read_pixels(
            [_source(paths[i], masks[i], own_cameras[i], entries[i].distortion) for i in order],
            size,
        )
        if not transforms.is_ours:  # else whoever wrote it was warned
            warn_of_background(images)
        return Grid(
            cameras=tuple(cameras[i] for i in views.first),
            times=frames.times,
            images=images,
            view=views.of_image[order],
            frame=frames.of_image[order],
            fps=transforms.fps,
            alpha_known=alpha_known,
            view_numbers=views.numbers,
            frame_numbers=frames.numbers,
            input_view=_input_view(transforms.input_view, views.numbers),
            initial_gaussians=_initial_gaussians(transforms, frames.numbers, files),
            R_world_source=rotation if earlier is None else rotation @ earlier,
            source_camera=_rotated_source(transforms.source_camera, rotation),
        )
    except ValueError as error:
        raise GridError(str(error), json_path) from error


class Splits(NamedTuple):
    """The images to fit, and those that are held out.

    Attributes:
        train: grid of the images to fit.
        test: grid of the held-out images; None if there are none.
    """

    train: Grid
    test: Grid | None


def read_splits(path: str | Path, *, up: str = "auto", skip_missing: bool = False) -> Splits:
    """Read a grid and its held-out views, in one world.

    Args:
        path: see `read_grid`.
        up: see `read_grid`.
        skip_missing: see `read_grid`.

    Raises:
        GridError: see `read_grid`.
        InputError: see `read_grid`.
    """
    train = read_grid(path, up=up, skip_missing=skip_missing)
    if not has_split(path, "test"):
        return Splits(train, None)
    folder = path if _lists_split(Path(path), "test") else _folder(Path(path))
    test = read_grid(folder, "test", up=train.R_world_source, skip_missing=skip_missing)
    return Splits(train, test)


def has_split(path: str | Path, split: str) -> bool:
    """Return whether a grid folder, or the folder of a grid's JSON, has a split."""
    path = Path(path)
    return _lists_split(path, split) or any(
        (_folder(path) / name).is_file() for name in _json_names(split)
    )


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _lists_split(path: Path, split: str) -> bool:
    """Return whether a plain JSON lists the images of a split."""
    json_path = path / "transforms.json" if path.is_dir() else path
    values = read_json(json_path) if json_path.is_file() else None
    return isinstance(values, dict) and values.get(f"{split}_filenames") is not None


def _json_names(split: str) -> tuple[str, ...]:
    names = (f"transforms_{split}.json",)
    return ("transforms.json", *names) if split == "train" else names


def _find_json(path: Path, split: str) -> Path:
    if path.is_file():
        if not is_json(path):
            raise GridError(
                "expected a grid folder or its JSON, found another file; for a video use `fourdvd "
                "generate`, which makes a grid of it, or `fourdvd run`",
                path,
            )
        return path
    if not path.is_dir():
        raise GridError.missing(path)
    names = _json_names(split)
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None and _lists_split(path, split):
        return path / "transforms.json"
    if found is None:
        raise GridError(
            f"expected a grid folder, but it has no {' or '.join(names)}{_advice(path)}", path
        )
    return found


def _advice(folder: Path) -> str:
    """Say what to give, if a folder without the JSON of a grid is of another known kind."""
    if not any(folder.iterdir()):
        return "; the folder is empty"
    if (folder / RUN_GRID / "transforms.json").is_file():
        return f"; the grid of this run is {folder / RUN_GRID}"
    if has_frames(folder):
        return "; for the frames of a video use `fourdvd generate` or `fourdvd run`"
    return ""


def _of_split(transforms: Transforms, split: str, json_path: Path) -> tuple[PosedImage, ...]:
    """Return the images of a split that the JSON lists; all of them if it lists none."""
    if split not in transforms.splits:
        return transforms.entries
    names = {_plain(name) for name in transforms.splits[split]}
    entries = tuple(e for e in transforms.entries if _plain(e.file_path) in names)
    if len(entries) < len(names):
        raise GridError(
            f"`{split}_filenames` lists {len(names)} images, of which `frames` has {len(entries)}; "
            "both must have the same paths",
            json_path,
        )
    return entries


def _plain(file_path: str) -> str:
    return file_path.replace("\\", "/").removeprefix("./")


def _existing(
    entries: Sequence[PosedImage], files: ImageFiles, json_path: Path, skip_missing: bool
) -> tuple[list[PosedImage], list[Path]]:
    """Return the entries whose images exist, and the files of these."""
    found = [(entry, files.find(entry.file_path)) for entry in entries]
    present = [(entry, path) for entry, path in found if path.exists()]
    missing = [path for _, path in found if not path.exists()]
    if missing and (not skip_missing or not present):
        raise GridError(
            f"the image is missing, as are {len(missing) - 1} others of {len(entries)}; "
            "leave them out with --skip-missing"
            if len(missing) > 1
            else "the image is missing; leave it out with --skip-missing",
            missing[0],
        )
    if missing:
        _log.warning(
            "%s: left out %d of %d images, whose files are missing; the first one is %s",
            json_path, len(missing), len(entries), missing[0],
        )  # fmt: skip
    return [entry for entry, _ in present], [path for _, path in present]


def _camera(entry: PosedImage, height: int, width: int, json_path: Path) -> Camera:
    try:
        return entry.camera(height, width)
    except ValueError as error:
        raise GridError(f"{entry.file_path}: {error}", json_path) from error


def _rotation(
    transforms: Transforms, cameras: Sequence[Camera], up: str | np.ndarray, json_path: Path
) -> np.ndarray:
    """Return the rotation from the world of the cameras to one with +Z up, [3, 3]."""
    if not transforms.is_ours:
        return up if isinstance(up, np.ndarray) else rotation_of_grid(cameras, up)
    if isinstance(up, str) and up not in ("auto", "z"):
        raise GridError(f"a grid of fourdvd has +Z up, found the setting {up!r}", json_path)
    return np.eye(3)


def _input_view(number: int | None, numbers: tuple[int, ...]) -> int | None:
    """Return the index of the camera with a number; None if it is not in this split."""
    return numbers.index(number) if number in numbers else None


def _initial_gaussians(
    transforms: Transforms, numbers: tuple[int, ...], files: ImageFiles
) -> InitialGaussians | None:
    """Read the Gaussians that a fit starts from; None if their frame is not in this split."""
    if transforms.initial_gaussians is None:
        return None
    file_path, number = transforms.initial_gaussians
    if number not in numbers:
        return None
    return read_initial_gaussians(files.find(file_path), numbers.index(number))


def _rotated_source(source: SourceCamera | None, rotation: np.ndarray) -> SourceCamera | None:
    return None if source is None else source.with_camera(rotated(source.camera, rotation))


def _source(
    path: Path, mask: Path | None, camera: Camera, distortion: Distortion | None
) -> ImageSource:
    return ImageSource(
        size=(camera.height, camera.width),
        read=lambda: read_image(path)[None],
        read_masks=None if mask is None else lambda: _read_mask(mask)[None],
        camera=camera,
        distortion=distortion,
    )


def _read_mask(path: Path) -> np.ndarray:
    image_size(path)  # refuses masks that are missing or too large
    return read_image(path)
