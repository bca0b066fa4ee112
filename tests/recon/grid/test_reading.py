"""Grid folders of all supported kinds are read, and invalid ones are refused with a reason."""

import dataclasses
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from recon.errors import GridError
from recon.grid import has_split, pixels, read_grid, reading
from recon.grid.cameras import orbit_camera
from recon.grid.grid import Grid
from recon.grid.writing import write_posed_images

POSE = orbit_camera(20, 10, 3.2, 33.8, 8, 8).T_world_camera.tolist()


def edit(folder: Path, **changes) -> None:
    """Changes top-level keys of the JSON; None removes one."""
    path = folder / "transforms.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def edit_frames(folder: Path, change, only: int | None = None) -> None:
    """Changes the frames of the JSON, or one of them, by a function that gets each dict."""
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    for frame in frames if only is None else [frames[only]]:
        change(frame)
    edit(folder, frames=frames)


def drop(*keys: str):
    def change(frame: dict) -> None:
        for key in keys:
            frame.pop(key, None)

    return change


def refused(path: Path, message: str) -> None:
    with pytest.raises(GridError, match=message):
        read_grid(path)


def assert_same(grid: Grid, other: Grid) -> None:
    np.testing.assert_array_equal(grid.images[..., 3], other.images[..., 3])
    np.testing.assert_array_equal(grid.over((1, 0, 0)), other.over((1, 0, 0)))
    for key in ("times", "view", "frame"):
        np.testing.assert_array_equal(getattr(grid, key), getattr(other, key))
    for camera, twin in zip(grid.cameras, other.cameras, strict=True):
        np.testing.assert_array_equal(camera.T_world_camera, twin.T_world_camera)
        np.testing.assert_array_equal(camera.K, twin.K)
    assert (grid.fps, grid.alpha_known) == (other.fps, other.alpha_known)
    assert grid.view_numbers == other.view_numbers and grid.frame_numbers == other.frame_numbers


def test_a_written_grid_reads_back_equal(tiny_grid, tiny_grid_folder):
    assert_same(read_grid(tiny_grid_folder), tiny_grid)
    assert_same(read_grid(tiny_grid_folder / "transforms.json"), tiny_grid)


def test_numbers_of_views_and_frames_need_not_be_consecutive(tiny_grid, tmp_path):
    grid = dataclasses.replace(tiny_grid, view_numbers=(1, 4, 5, 9), frame_numbers=(0, 5, 10))
    write_posed_images(grid, tmp_path)
    assert_same(read_grid(tmp_path), grid)


def test_the_input_view_is_written_and_read_by_its_number(tiny_grid, tmp_path):
    assert not tiny_grid.is_input.any()
    grid = dataclasses.replace(tiny_grid, view_numbers=(1, 4, 5, 9), input_view=1)
    write_posed_images(grid, tmp_path)
    assert json.loads((tmp_path / "transforms.json").read_text())["input_view"] == 4
    found = read_grid(tmp_path)
    assert found.input_view == 1
    assert (found.is_input == (found.view == 1)).all()


def test_an_input_view_of_another_split_is_ignored(tiny_grid, tiny_grid_folder):
    edit(tiny_grid_folder, input_view=700)
    assert read_grid(tiny_grid_folder).input_view is None
    with pytest.raises(GridError, match="input view"):
        dataclasses.replace(tiny_grid, input_view=tiny_grid.V)


def test_cameras_may_differ_in_their_intrinsics(tiny_grid, tmp_path):
    cameras = tuple(
        dataclasses.replace(camera, fl_x=40.0 + v, fl_y=41.0 + v, cx=11.0 + v)
        for v, camera in enumerate(tiny_grid.cameras)
    )
    grid = dataclasses.replace(tiny_grid, cameras=cameras)
    write_posed_images(grid, tmp_path)
    assert_same(read_grid(tmp_path), grid)


def test_the_order_of_the_frames_does_not_matter(tiny_grid, tiny_grid_folder):
    frames = json.loads((tiny_grid_folder / "transforms.json").read_text())["frames"]
    np.random.default_rng(0).shuffle(frames)
    edit(tiny_grid_folder, frames=frames)
    assert_same(read_grid(tiny_grid_folder), tiny_grid)


def test_without_view_and_frame_images_are_grouped_by_camera_and_time(tiny_grid, tiny_grid_folder):
    edit_frames(tiny_grid_folder, drop("view", "frame"))
    assert_same(read_grid(tiny_grid_folder), tiny_grid)


def test_without_time_the_frame_number_gives_it(tiny_grid, tiny_grid_folder):
    edit_frames(tiny_grid_folder, drop("time"))
    assert_same(read_grid(tiny_grid_folder), tiny_grid)


def test_a_nerfstudio_folder_without_time_has_one_frame(tiny_grid, tiny_grid_folder):
    frames = json.loads((tiny_grid_folder / "transforms.json").read_text())["frames"][::3]
    edit(tiny_grid_folder, frames=frames, fps=None, camera_model="OPENCV", k1=0.0, applied_scale=1)
    edit_frames(tiny_grid_folder, drop("view", "frame", "time"))
    grid = read_grid(tiny_grid_folder)
    assert (grid.V, grid.T, len(grid), grid.times[0]) == (4, 1, 4, 0)
    np.testing.assert_array_equal(grid.images[..., 3], tiny_grid.images[::3, ..., 3])


def make_dnerf_folder(folder: Path) -> None:
    for split, count in (("train", 5), ("test", 2)):
        (folder / split).mkdir(parents=True)
        frames = []
        for i in range(count):
            Image.fromarray(np.full((8, 8, 4), 40 * i, np.uint8)).save(
                folder / split / f"r_{i:03d}.png"
            )
            pose = orbit_camera(37 * i, 10, 4, 33.8, 8, 8).T_world_camera.tolist()
            time = i / (count - 1)
            name = f"./{split}/r_{i:03d}"
            frames.append(
                {"file_path": name, "rotation": 0.3, "time": time, "transform_matrix": pose}
            )
        values = {"camera_angle_x": 0.69, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(values))


def test_a_dnerf_folder_has_one_camera_for_each_image(tmp_path):
    make_dnerf_folder(tmp_path)
    grid = read_grid(tmp_path)
    assert (grid.V, grid.T, len(grid), grid.is_full) == (5, 5, 5, False)
    assert grid.cameras[0].fl_x == pytest.approx(4 / np.tan(0.69 / 2))
    np.testing.assert_array_equal(grid.images[:, 0, 0, 3], 40 * grid.view)
    np.testing.assert_array_equal(grid.frame, np.arange(5))
    assert len(read_grid(tmp_path, "test")) == 2


def test_splits_are_found_beside_each_other(tmp_path):
    make_dnerf_folder(tmp_path)
    assert has_split(tmp_path, "train") and has_split(tmp_path, "test")
    assert has_split(tmp_path / "transforms_train.json", "test")
    assert not has_split(tmp_path, "val")
    with pytest.raises(GridError, match=r"transforms_val\.json"):
        read_grid(tmp_path, "val")


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_images_without_alpha_get_it_from_their_white_border(tiny_grid, tiny_grid_folder, mode):
    for path in tiny_grid_folder.rglob("t*.png"):
        with Image.open(path) as image:
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image)
        white.convert("RGB").convert(mode).save(path)
    grid = read_grid(tiny_grid_folder)
    assert not grid.alpha_known
    assert np.abs(grid.images[..., 3] / 255.0 - tiny_grid.images[..., 3] / 255.0).mean() < 0.02


def test_images_with_a_busy_border_stay_opaque(tiny_grid_folder):
    rng = np.random.default_rng(0)
    for path in tiny_grid_folder.rglob("t*.png"):
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)
    grid = read_grid(tiny_grid_folder)
    assert not grid.alpha_known
    assert (grid.images[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ("null", "expected a JSON object"),
        ("{}", "expected `frames` to be a list"),
        ('{"frames": {}}', "expected `frames` to be a list"),
        ('{"frames": []}', "`frames` is empty"),
        ('{"frames": [1]}', r"frames\[0\]: expected an object"),
        ('{"frames": [{}]}', "`file_path`"),
        ('{"frames": [{"file_path": 3}]}', "`file_path`"),
        ('{"frames": [{"file_path": "a.png"}]}', "`transform_matrix` is missing"),
        ('{"version": 99, "frames": [1]}', "expected version 1, found 99"),
        ('{"fps": "fast", "frames": [1]}', r"expected an object|`fps`"),
    ],
)
def test_json_of_another_shape_is_refused(tmp_path, text, message):
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "transforms.json").write_bytes(data)
    refused(tmp_path, message)


def test_missing_folders_and_files_are_named(tmp_path):
    refused(tmp_path / "nowhere", "nowhere.*no such file")
    refused(tmp_path, r"transforms\.json or transforms_train\.json; the folder is empty")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_model": "EQUIRECTANGULAR"}, "PINHOLE.*EQUIRECTANGULAR"),
        ({"camera_model": 7}, "PINHOLE.*7"),
        ({"k4": 0.1, "k6": -0.2}, "distortion k4, k6 .*FULL_OPENCV"),
        ({"is_fisheye": True, "p1": 0.1}, "distortion p1 .*fisheye"),
        ({"k1": "much"}, "`k1` must be a finite number"),
        ({"distortion_params": [0.1]}, "`distortion_params` as a list of k1"),
        ({"K": [[1, 2], [3, 4]]}, "`K` as a 3×3"),
        ({"K": [[9, 1, 4], [0, 9, 4], [0, 0, 1]]}, "without skew"),
        ({"K": [[9, 0, 4], [0, 9, 4], [1, 1, 1]]}, "last row of 0 0 1"),
        ({"train_filenames": "all"}, "`train_filenames` as a list"),
        ({"train_filenames": ["gone.png"]}, "`train_filenames` lists 1 images.*has 0"),
        ({"R_world_source": [[2, 0], [0, 2]]}, "`R_world_source`.*3×3 rotation"),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": None}, "`fl_x`, `camera_angle_x` or `K`"),
        ({"fl_x": float("nan")}, "`fl_x` must be a finite number"),
        ({"fl_x": "35mm"}, "`fl_x` must be a finite number"),
        ({"fl_x": -1}, "`fl_x` must be positive"),
        ({"camera_angle_x": 3.2}, "below π"),
        ({"w": 36}, "36×24 pixels.*24×24"),
        ({"h": True}, "`h` must be a finite number"),
        ({"fps": float("inf")}, "`fps` must be a finite number"),
        ({"fps": 0}, "fps must be a positive number"),
    ],
)
def test_unsupported_models_and_invalid_numbers_are_refused(tiny_grid_folder, changes, message):
    edit(tiny_grid_folder, **changes)
    refused(tiny_grid_folder, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transform_matrix": np.zeros((4, 4)).tolist()}, "singular"),
        ({"transform_matrix": np.full((4, 4), np.nan).tolist()}, "NaN"),
        ({"transform_matrix": np.diag([1.0, 1, -1, 1]).tolist()}, "mirrors"),
        ({"transform_matrix": [[1, 2], [3]]}, r"frames\[4\]"),
        ({"transform_matrix": "identity"}, r"frames\[4\]"),
        ({"transform_matrix": None}, r"frames\[4\]"),
        ({"transform_matrix": {"rows": 4}}, r"frames\[4\]"),
        ({"transform_matrix": POSE}, "view 1 has two different cameras"),
        ({"time": "soon"}, "`time` must be a finite number"),
        ({"time": float("nan")}, "`time` must be a finite number"),
        ({"time": None}, "`time` must be a finite number"),
        ({"time": 5}, r"`time` must be within \[0, 1\], found 5"),
        ({"time": -0.1}, r"within \[0, 1\]"),
        ({"time": 0.3}, "`frame` and `time` disagree"),
        ({"time": 0.0}, "`frame` and `time` disagree"),
        ({"time": 0.0, "frame": 0}, "view 1 has more than one image of frame 0"),
        ({"transform_matrix": [[1, 0, 0, 1e300], *np.eye(4)[1:].tolist()]}, "1e\\+300"),
        ({"mask_path": 7}, "`mask_path` to be a string"),
        ({"mask_path": "../mask.png"}, "leaves the folder"),
        ({"mask_path": "gone.png"}, "gone.png.*missing"),
        ({"transform_matrix": [[10**400] * 4] * 4}, r"frames\[4\]"),
        ({"frame": 10**400}, r"frames\[4\]"),
        ({"view": 1e9}, "`view` must be an integer"),
        ({"view": -1}, "`view` must be an integer"),
        ({"view": 1.5}, "`view` must be an integer"),
        ({"frame": "one"}, "`frame` must be a finite number"),
        ({"frame": [1]}, "`frame` must be a finite number"),
    ],
)
def test_entries_that_are_not_valid_are_refused(tiny_grid_folder, changes, message):
    edit_frames(tiny_grid_folder, lambda frame: frame.update(changes), only=4)
    refused(tiny_grid_folder, message)


@pytest.mark.parametrize("key", ["view", "frame", "time"])
def test_a_key_that_only_some_frames_have_is_refused(tiny_grid_folder, key):
    edit_frames(tiny_grid_folder, drop(key), only=4)
    refused(tiny_grid_folder, f"`{key}` is missing in 1 of 12 frames")


@pytest.mark.parametrize("escape", ["../outside.png", "images/../../outside.png", "{absolute}"])
def test_paths_that_leave_the_folder_are_refused(tiny_grid_folder, escape):
    outside = tiny_grid_folder.parent / "outside.png"
    outside.write_bytes((tiny_grid_folder / "images/v00/t000.png").read_bytes())
    path = escape.format(absolute=outside)
    edit_frames(tiny_grid_folder, lambda frame: frame.update(file_path=path), only=4)
    refused(tiny_grid_folder, "leaves the folder")


@pytest.mark.parametrize("name", ["t001.png", "t001"])
def test_links_that_leave_the_folder_are_refused(tiny_grid_folder, name):
    image = tiny_grid_folder / "images/v01/t001.png"
    image.rename(tiny_grid_folder.parent / "outside.png")
    image.symlink_to(tiny_grid_folder.parent / "outside.png")
    path = f"images/v01/{name}"
    edit_frames(tiny_grid_folder, lambda frame: frame.update(file_path=path), only=4)
    refused(tiny_grid_folder, "leaves the folder")


def test_links_inside_the_folder_and_to_the_folder_are_followed(tiny_grid, tiny_grid_folder):
    image = tiny_grid_folder / "images/v01/t001.png"
    image.rename(tiny_grid_folder / "elsewhere.png")
    image.symlink_to(tiny_grid_folder / "elsewhere.png")
    (tiny_grid_folder.parent / "link").symlink_to(tiny_grid_folder)
    assert_same(read_grid(tiny_grid_folder.parent / "link"), tiny_grid)


@pytest.mark.parametrize("path", ["a\0b.png", "x" * 5000, "images", "images/v00/gone.png"])
def test_paths_to_files_other_than_images_are_refused(tiny_grid_folder, path):
    edit_frames(tiny_grid_folder, lambda frame: frame.update(file_path=path), only=4)
    with pytest.raises(GridError):
        read_grid(tiny_grid_folder)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size that the data do not hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a PNG"),
        (b"<!DOCTYPE html><title>Not found</title>", "expected a PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n", "expected a PNG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "expected a PNG"),
        (png_of_size(24, 24), "truncated or damaged"),
        (png_of_size(9000, 9000), "8192 pixels.*9000×9000"),
        (png_of_size(60000, 60000), "too large|at most 8192"),
        (png_of_size(24, 48), "24×24 pixels.*found 24×48"),
    ],
)
def test_files_that_are_not_images_are_refused(tiny_grid_folder, data, message):
    (tiny_grid_folder / "images/v01/t001.png").write_bytes(data)
    refused(tiny_grid_folder, message)
    refused(tiny_grid_folder, r"t001\.png")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_images_are_refused(tiny_grid_folder, share):
    image = tiny_grid_folder / "images/v01/t001.png"
    image.write_bytes(image.read_bytes()[: int(share * image.stat().st_size)])
    refused(tiny_grid_folder, "t001.png")


def test_images_of_sixteen_bits_are_refused(tiny_grid_folder):
    Image.fromarray(np.zeros((24, 24), np.uint16)).save(tiny_grid_folder / "images/v01/t001.png")
    refused(tiny_grid_folder, "8 bits")


def test_grids_beyond_the_size_limit_are_refused_before_decoding(tiny_grid_folder, monkeypatch):
    monkeypatch.setattr(pixels, "MAX_GRID_BYTES", 12 * 24 * 24 * 4 - 1)
    monkeypatch.setattr(reading, "read_image", lambda path: pytest.fail("must not be decoded"))
    refused(tiny_grid_folder, "12 images of 24×24")


@pytest.mark.parametrize("name", ["fox", "robot"])
def test_points_of_the_object_project_into_its_silhouette(shared, name):
    folder = shared / "data/grids" / name
    grid = read_grid(folder, "test")
    points = np.load(folder / "tracks.npz")["points"]
    for index in range(0, len(grid), 7):
        camera, frame = grid.camera_of(index), grid.frame_numbers[grid.frame[index]]
        moved = np.c_[points[frame], np.ones(points.shape[1])] @ camera.viewmat.T
        pixels = moved[:, :3] @ camera.K.T
        columns, rows = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
        grown = ndimage.binary_dilation(grid.images[index, ..., 3] > 0, np.ones((3, 3)))
        assert grown[rows, columns].mean() > 0.995
