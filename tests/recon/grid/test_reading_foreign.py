"""Grids as other programs write them give the same grid, or say what is wrong with them."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recon.errors import GridError
from recon.grid import Grid, orbit_camera, read_grid
from recon.grid.cameras import Camera
from recon.grid.orientation import rotation_from_up
from recon.grid.reading import read_splits
from recon.grid.writing import write_posed_images


@pytest.fixture
def foreign(tiny_grid_folder: Path) -> Path:
    """The tiny grid as another program would write it: no view, frame or version."""
    values = read(tiny_grid_folder)
    del values["version"]
    for frame in values["frames"]:
        for key in ("view", "frame", "azimuth_deg", "elevation_deg"):
            del frame[key]
    write(tiny_grid_folder, values)
    return tiny_grid_folder


def read(folder: Path) -> dict:
    return json.loads((folder / "transforms.json").read_text())


def write(folder: Path, values: dict, encoding: str = "utf-8") -> None:
    (folder / "transforms.json").write_text(json.dumps(values), encoding=encoding)


def change(folder: Path, of_frame=lambda frame: None, **top) -> None:
    """Change each frame by a function, and top-level keys; None removes one."""
    values = read(folder)
    for frame in values["frames"]:
        of_frame(frame)
    values |= top
    write(folder, {key: value for key, value in values.items() if value is not None})


def assert_same(grid: Grid, other: Grid) -> None:
    np.testing.assert_array_equal(grid.images[..., 3], other.images[..., 3])
    np.testing.assert_array_equal(grid.over(), other.over())
    np.testing.assert_array_equal(grid.times, other.times)
    for camera, twin in zip(grid.cameras, other.cameras, strict=True):
        assert_same_camera(camera, twin)


def assert_same_camera(camera: Camera, twin: Camera) -> None:
    np.testing.assert_allclose(camera.T_world_camera, twin.T_world_camera, atol=1e-9)
    np.testing.assert_allclose(camera.K, twin.K)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_skipped(foreign, tiny_grid, encoding):
    write(foreign, read(foreign), encoding)
    assert_same(read_grid(foreign), tiny_grid)


def backslashes(frame, folder):
    frame["file_path"] = frame["file_path"].replace("/", "\\")


def absolute(frame, folder):
    frame["file_path"] = str(folder / frame["file_path"])


def absolute_elsewhere(frame, folder):
    frame["file_path"] = "/home/somebody/data set/" + frame["file_path"]


def absolute_on_windows(frame, folder):
    frame["file_path"] = "D:\\data\\" + frame["file_path"].replace("/", "\\")


def without_suffix(frame, folder):
    frame["file_path"] = frame["file_path"].removesuffix(".png")


def another_suffix(frame, folder):
    frame["file_path"] = frame["file_path"].replace(".png", ".JPG")


def another_case(frame, folder):
    frame["file_path"] = frame["file_path"].replace("/t", "/T")


@pytest.mark.parametrize(
    "spell",
    [backslashes, absolute, absolute_elsewhere, absolute_on_windows, without_suffix,
     another_suffix, another_case],
)  # fmt: skip
def test_paths_of_other_systems_find_the_images(foreign, tiny_grid, spell):
    change(foreign, lambda frame: spell(frame, foreign))
    assert_same(read_grid(foreign), tiny_grid)


def test_a_jpeg_without_suffix_in_the_json_is_found(foreign):
    image = foreign / "images/v00/t000.png"
    with Image.open(image) as opened:
        opened.convert("RGB").save(image.with_suffix(".jpeg"), quality=95)
    image.unlink()
    change(foreign, lambda frame: without_suffix(frame, foreign))
    assert len(read_grid(foreign)) == 12


@pytest.mark.parametrize(
    "scale",
    [lambda M: 0.0012 * M, lambda M: M @ np.diag([3, 3, 3, 1]), lambda M: M[:3]],
    ids=["homogeneous", "scaled", "3x4"],
)
def test_poses_in_other_spellings_give_the_same_cameras(foreign, tiny_grid, scale):
    def respell(frame):
        frame["transform_matrix"] = scale(np.array(frame["transform_matrix"])).tolist()

    change(foreign, respell)
    assert_same(read_grid(foreign), tiny_grid)


def intrinsic_matrix(grid: Grid) -> np.ndarray:
    return grid.cameras[0].K


@pytest.mark.parametrize(
    "keys",
    [
        lambda K: {"K": K.tolist()},
        lambda K: {"K": (2 * K).tolist()},
        lambda K: {"K": K.ravel().tolist()},
        lambda K: {"K": K.T.ravel().tolist()},
        lambda K: {"intrinsic_matrix": np.pad(K, (0, 1)).tolist()},
        lambda K: {"fx": K[0, 0], "fy": K[1, 1], "cx": 12, "cy": 12, "width": 24, "height": 24},
        lambda K: {"camera_angle_y": 2 * np.arctan(12 / K[0, 0])},
        lambda K: {"x_fov": 33.8},
    ],
    ids=["K", "2K", "9", "columns", "4x4", "fx", "angle_y", "degrees"],
)
@pytest.mark.parametrize("per_frame", [True, False])
def test_intrinsics_in_other_spellings_give_the_same_cameras(foreign, tiny_grid, keys, per_frame):
    given = keys(intrinsic_matrix(tiny_grid))
    names = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x")
    change(foreign, **dict.fromkeys(names))
    if per_frame:  # also replaces another focal length that all frames share
        change(foreign, lambda frame: frame.update(given), fl_x=99, fl_y=99)
        if "camera_angle_y" in given or "x_fov" in given:
            change(foreign, fl_x=None, fl_y=None)
    else:
        change(foreign, **given)
    assert_same(read_grid(foreign), tiny_grid)


@pytest.mark.parametrize("folder", ["images", "images_2"])
def test_cameras_of_the_full_size_fit_scaled_images(foreign, tiny_grid, folder):
    intrinsics = {key: 2 * read(foreign)[key] for key in ("fl_x", "fl_y", "cx", "cy")}
    change(foreign, w=49, h=48, **intrinsics)  # 49, which halving rounds
    (foreign / "images").rename(foreign / folder)
    camera = read_grid(foreign).cameras[1]
    assert (camera.width, camera.height) == (24, 24)
    np.testing.assert_allclose(camera.K, tiny_grid.cameras[1].K, rtol=0.03)


def test_images_that_were_cropped_or_turned_are_refused(foreign):
    change(foreign, w=24, h=36)
    with pytest.raises(GridError, match=r"24×36 pixels.*found 24×24.*cropped or turned"):
        read_grid(foreign)


def test_images_of_two_sizes_are_padded_to_one(foreign, tiny_grid):
    frames = read(foreign)["frames"]
    own = {"w": 32, "h": 20, "cx": 16, "cy": 10}
    for frame in frames[3:6]:  # view 1
        with Image.open(foreign / frame["file_path"]) as image:
            cut = Image.new("RGBA", (32, 20))
            cut.paste(image, (4, -2))
            cut.save(foreign / frame["file_path"])
        frame.update(own)
    change(foreign, frames=frames)
    grid = read_grid(foreign)
    assert (grid.V, grid.T, grid.height, grid.width) == (4, 3, 24, 32)
    for view in range(4):  # the object is where it was
        np.testing.assert_array_equal(
            grid.image(view, 1)[2:22, 4:28, 3], tiny_grid.image(view, 1)[2:22, :, 3]
        )
        np.testing.assert_allclose(grid.cameras[view].K[:2, 2], [16, 12])
    assert grid.images[grid.view == 1, :2].max() == 0


def room(folder: Path, mask_value=255, mask_mode="L", mask_scale=1) -> None:
    """Put the images in front of a room, and their alpha into masks."""
    rng = np.random.default_rng(0)
    for path in sorted(folder.glob("images/*/*.png")):
        image = np.array(Image.open(path))
        mask = (image[..., 3] > 127) * np.uint8(mask_value)
        image[image[..., 3] < 128] = [*rng.integers(0, 255, 3), 255]
        image[..., 3] = 255
        image[0] = image[-1] = rng.integers(0, 255, (24, 4))  # no uniform border
        Image.fromarray(image[..., :3]).save(path)
        target = folder / "masks" / path.relative_to(folder / "images")
        target.parent.mkdir(parents=True, exist_ok=True)
        size = (24 // mask_scale, 24 // mask_scale)
        picture = Image.fromarray(mask)
        if mask_mode == "P":
            picture = Image.fromarray(mask, "P")
            picture.putpalette([0, 0, 0, 128, 0, 0])
        if mask_mode == "RGBA":
            picture = Image.fromarray(np.dstack([0 * mask] * 3 + [mask]))
        picture.resize(size, Image.Resampling.NEAREST).save(target)


def add_masks(folder: Path) -> None:
    change(folder, lambda f: f.update(mask_path=f["file_path"].replace("images", "masks")))


@pytest.mark.parametrize(("value", "mode"), [(255, "L"), (1, "L"), (1, "P"), (255, "RGBA")])
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_masks_are_used_as_alpha(foreign, tiny_grid, value, mode, caplog):
    room(foreign, value, mode)
    add_masks(foreign)
    grid = read_grid(foreign)
    assert grid.alpha_known
    np.testing.assert_array_equal(grid.images[..., 3] > 0, tiny_grid.images[..., 3] > 127)
    assert "cut out" not in caplog.text


def test_masks_of_half_the_size_are_enlarged(foreign, tiny_grid):
    room(foreign, mask_scale=2)
    add_masks(foreign)
    differing = (read_grid(foreign).images[..., 3] > 127) != (tiny_grid.images[..., 3] > 127)
    assert differing.mean() < 0.04


def test_a_room_without_masks_is_warned_of(foreign, caplog):
    room(foreign)
    read_grid(foreign)
    assert "12 of 12 images" in caplog.text and "mask_path" in caplog.text


def test_a_mask_of_the_room_instead_of_the_object_is_warned_of(foreign, caplog):
    room(foreign)
    for path in foreign.glob("masks/*/*.png"):
        Image.fromarray(255 - np.array(Image.open(path))).save(path)
    add_masks(foreign)
    read_grid(foreign)
    assert "12 of 12 images" in caplog.text


def test_no_times_are_warned_of(foreign, caplog):
    frames = read(foreign)["frames"][::3]
    change(foreign, frames=frames)
    change(foreign, lambda frame: frame.pop("time"))
    assert read_grid(foreign).T == 1
    assert "all 4 images are taken as one moment" in caplog.text


@pytest.mark.parametrize(
    "pattern", ["images/v{view:02d}/t{frame:03d}.png", "images/{frame:d}_cam{view}.png"]
)
def test_without_times_the_numbers_in_the_names_are_frames(tiny_grid, tmp_path, pattern, caplog):
    write_posed_images(tiny_grid, tmp_path, pattern=pattern)
    change(tmp_path, lambda f: [f.pop(key) for key in ("time", "view", "frame")], version=None)
    assert_same(read_grid(tmp_path), tiny_grid)
    assert "number in their names" in caplog.text


def test_without_times_and_numbers_the_sentence_names_the_keys(tiny_grid, tmp_path):
    write_posed_images(tiny_grid, tmp_path)
    letters = iter("abcdefghijkl")
    for frame in (values := read(tmp_path))["frames"]:
        name = f"images/{next(letters)}.png"
        (tmp_path / frame["file_path"]).rename(tmp_path / name)
        frame["file_path"] = name
        for key in ("time", "view", "frame"):
            del frame[key]
    write(tmp_path, values)
    with pytest.raises(GridError, match="3 images have the same camera and no `time`"):
        read_grid(tmp_path)


def test_missing_images_are_counted_and_can_be_left_out(foreign, caplog):
    for name in ("v01/t001", "v03/t002"):
        (foreign / f"images/{name}.png").unlink()
    with pytest.raises(GridError, match=r"t001\.png: .*1 others of 12.*--skip-missing"):
        read_grid(foreign)
    grid = read_grid(foreign, skip_missing=True)
    assert len(grid) == 10 and not grid.is_full
    assert "left out 2 of 12 images" in caplog.text
    for path in foreign.rglob("t*.png"):
        path.unlink()
    with pytest.raises(GridError, match="missing"):
        read_grid(foreign, skip_missing=True)


def test_images_without_a_pose_can_be_left_out(foreign, caplog):
    frames = read(foreign)["frames"]
    frames[0]["transform_matrix"] = None
    del frames[5]["transform_matrix"]
    change(foreign, frames=frames)
    with pytest.raises(GridError, match=r"frames\[0\].*transform_matrix.*--skip-missing"):
        read_grid(foreign)
    assert len(read_splits(foreign, skip_missing=True).train) == 10
    assert "left out 2 of 12 images" in caplog.text
    change(foreign, lambda frame: frame.update(transform_matrix=None))
    with pytest.raises(GridError, match="transform_matrix"):
        read_grid(foreign, skip_missing=True)


def test_images_of_a_tilted_world_are_set_upright_whatever_the_tilt(foreign):
    """As COLMAP leaves it: no axis is up."""
    turn = rotation_from_up(np.array([0.0, -0.6, 0.8]))

    def tilt(frame):
        pose = np.array(frame["transform_matrix"])
        pose[:3] = turn.T @ pose[:3]
        frame["transform_matrix"] = pose.tolist()

    change(foreign, tilt)
    grid = read_grid(foreign)
    heights = [camera.position[2] for camera in grid.cameras]
    np.testing.assert_allclose(heights, heights[0], atol=1e-6)
    np.testing.assert_allclose(grid.R_world_source, turn, atol=1e-6)


def test_the_images_of_nerfstudios_splits_are_kept_apart(foreign):
    names = [frame["file_path"] for frame in read(foreign)["frames"]]
    change(foreign, train_filenames=["./" + name for name in names[:9]], test_filenames=names[9:])
    for path in (foreign, foreign / "transforms.json"):
        train, test = read_splits(path)
        assert test is not None
        assert (train.V, train.T, test.V, test.T) == (3, 3, 1, 3)
        assert_same_camera(test.cameras[0], read_grid(foreign, "test").cameras[0])


def test_unread_keys_that_change_cameras_are_warned_of(foreign, caplog):
    change(foreign, rolling_shutter=[0, 0, 0.03, 0])
    read_grid(foreign)
    assert "rolling_shutter" in caplog.text


def ball(camera: Camera, bend) -> np.ndarray:
    """A white ball off the center, drawn through a lens: `bend` is its inverse distortion."""
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    x, y = bend((columns - camera.cx) / camera.fl_x, (rows - camera.cy) / camera.fl_y)
    inside = np.hypot(x - 0.25, y - 0.15) < 0.12
    return np.dstack([np.full((*inside.shape, 3), 255), 255 * inside]).astype(np.uint8)


def inverted(distort):
    """Invert a distortion by fixed-point iteration."""

    def bend(x, y):
        ux, uy = x, y
        for _ in range(50):
            dx, dy = distort(ux, uy)
            ux, uy = ux + x - dx, uy + y - dy
        return ux, uy

    return bend


def radial(x, y):
    r2 = x * x + y * y
    scale = 1 + 0.3 * r2 - 0.1 * r2 * r2
    return (
        x * scale + 2 * 0.02 * x * y - 0.01 * (r2 + 2 * x * x),
        y * scale + 0.02 * (r2 + 2 * y * y) - 2 * 0.01 * x * y,
    )


def equidistant(x, y):
    r = np.maximum(np.hypot(x, y), 1e-9)
    theta = np.arctan(r)
    return x / r * theta * (1 + 0.05 * theta**2), y / r * theta * (1 + 0.05 * theta**2)


@pytest.mark.parametrize(
    ("distort", "keys"),
    [
        (radial, {"camera_model": "OPENCV", "k1": 0.3, "k2": -0.1, "p1": 0.02, "p2": -0.01}),
        (radial, {"distortion_params": [0.3, -0.1, 0, 0, 0.02, -0.01]}),
        (equidistant, {"camera_model": "OPENCV_FISHEYE", "k1": 0.05}),
        (equidistant, {"is_fisheye": True, "k1": 0.05}),
    ],
    ids=["opencv", "params", "fisheye", "is_fisheye"],
)
def test_distorted_images_become_those_of_a_pinhole_camera(tmp_path, distort, keys):
    pytest.importorskip("cv2")
    camera = dataclasses.replace(orbit_camera(0, 0, 3, 60, 80, 96), cx=47.0, cy=41.0)
    Image.fromarray(ball(camera, inverted(distort))).save(tmp_path / "0.png")
    frame = {"file_path": "0.png", "transform_matrix": camera.T_world_camera.tolist(), "time": 0}
    intrinsics = {"fl_x": camera.fl_x, "cx": 47, "cy": 41, "w": 96, "h": 80}
    write(tmp_path, intrinsics | keys | {"frames": [frame]})
    found, expected = read_grid(tmp_path).images[0], ball(camera, lambda x, y: (x, y))
    error = np.abs(found[..., 3] / 255.0 - expected[..., 3] / 255.0)
    assert (error > 0.5).sum() < 0.06 * (expected[..., 3] > 0).sum()
    rows, columns = np.nonzero(expected[..., 3])
    weights = found[..., 3] / found[..., 3].sum()
    center = (weights * np.mgrid[:80, :96]).sum((1, 2))
    np.testing.assert_allclose(center, [rows.mean(), columns.mean()], atol=0.15)
    assert (found[found[..., 3] > 0][:, :3] > 250).all()


def test_undistortion_without_opencv_names_the_extra(foreign, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    change(foreign, k1=0.1)
    with pytest.raises(GridError, match=r"\[undistort\]"):
        read_grid(foreign)


@pytest.fixture(autouse=True)
def _log_at_warning(caplog):
    caplog.set_level(logging.WARNING)
