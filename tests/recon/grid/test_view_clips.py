"""Per-view videos and folders become grids, if they and their cameras fit together."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recon.errors import GridError, InputError
from recon.grid import Camera, orbit_camera, view_clips, write_grid
from recon.grid.cameras import OPENGL_FROM_OPENCV, viewing_angles_deg
from recon.grid.mosaic import Mosaic, parse_mosaic
from recon.grid.orientation import rotated, rotation_from_up
from recon.grid.view_cameras import orbit_view_cameras, read_view_cameras
from recon.grid.view_clips import grid_from_clips, open_clips, read_clips
from recon.media import read_video_frames, write_gif, write_png, write_video

AZIMUTHS = [0.0, 90.0, 180.0]
RINGS = [orbit_camera(a, e, 3.2, 33.8, 40, 48) for e in (-10, 20, 45) for a in (0, 90, 180, 270)]


def disc(T: int, size: int, color) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    frames = np.full((T, size, size, 3), 255, np.uint8)
    for t in range(T):
        frames[t, np.hypot(rows - size / 2, columns - size / 2 - t) < size / 4] = color
    return frames


@pytest.fixture
def videos(tmp_path):
    paths = [tmp_path / f"{v}.mp4" for v in range(3)]
    for v, path in enumerate(paths):
        write_video(path, disc(3, 32, (200, 60 * v, 30)), fps=8)
    return paths


@pytest.fixture
def toy_folders(tmp_path, toy_image):
    """Return a function that writes the toy as one folder of images per camera."""

    def write(cameras, T=3, pattern="view_{}", size=None) -> list[Path]:
        for v, camera in enumerate(cameras):
            folder = tmp_path / pattern.format(v)
            folder.mkdir()
            for t in range(T):
                image = Image.fromarray(toy_image(camera, t / max(T - 1, 1)))
                image.save(folder / f"{t}.png")
        return [tmp_path / pattern.format(v) for v in range(len(cameras))]

    return write


def transforms(cameras, name="images/{}.png") -> dict:
    """The JSON of nerfstudio or D-NeRF for one image per camera."""
    first: Camera = cameras[0]
    frames = [
        {"file_path": name.format(v), "transform_matrix": camera.T_world_camera.tolist()}
        for v, camera in enumerate(cameras)
    ]
    return {"camera_angle_x": 2 * np.arctan(first.width / 2 / first.fl_x), "frames": frames}


def four_d_anyone(cameras, video="videos/dense/{:02d}.mp4") -> dict:
    """A `cameras.json` as 4DAnyone writes it: OpenCV axes in a world with +Y up."""
    entries = []
    for v, camera in enumerate(cameras):
        there = rotated(camera, rotation_from_up("y").T)
        entries.append(
            {
                "camera_id": v,
                "video": video.format(v),
                "image_width": camera.width,
                "image_height": camera.height,
                "K": camera.K.tolist(),
                "camera_to_world": (there.T_world_camera @ OPENGL_FROM_OPENCV).tolist(),
            }
        )
    return {"camera_model": "OPENCV", "cameras": entries}


def written(path: Path, values: dict) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_videos_and_angles_make_a_full_grid(videos):
    grid = grid_from_clips(videos, orbit_view_cameras(3, AZIMUTHS, [15.0]))
    assert (grid.V, grid.T, grid.height, grid.width, grid.fps) == (3, 3, 32, 32, 8)
    assert grid.is_full and not grid.alpha_known
    np.testing.assert_allclose(grid.times, [0, 0.5, 1])
    for camera, azimuth in zip(grid.cameras, AZIMUTHS, strict=True):
        assert viewing_angles_deg(camera) == pytest.approx((azimuth, 15), abs=1e-5)
        assert np.linalg.norm(camera.position) == pytest.approx(2)
        assert 2 * np.degrees(np.arctan(16 / camera.fl_x)) == pytest.approx(33.8)
    image = grid.image(1, 0)
    assert image[0, 0, 3] == 0 and image[16, 16, 3] == 255
    assert np.abs(image[16, 16, :3].astype(int) - [200, 60, 30]).max() < 12


def test_the_number_of_angles_must_match_the_views():
    with pytest.raises(GridError, match=r"3 azimuths.*found 2"):
        orbit_view_cameras(3, AZIMUTHS[:2])
    with pytest.raises(GridError, match=r"3 views.*found 2"):
        orbit_view_cameras(3, AZIMUTHS, [0.0, 1.0])
    with pytest.raises(GridError, match="at least one"):
        read_clips([])


@pytest.mark.parametrize(
    "numbers", [{"fov_deg": 0.0}, {"fov_deg": 180.0}, {"distance": -1.0}, {"distance": np.nan}]
)
def test_cameras_that_are_not_valid_are_refused(numbers):
    with pytest.raises(GridError, match="field of view"):
        orbit_view_cameras(3, AZIMUTHS, **numbers)


@pytest.mark.parametrize("azimuths", [None, [0, 90, 180, 270], [0, 90, 180, 270] * 3])
def test_elevations_of_rings_are_given_once_for_each_ring(toy_folders, toy_agreement, azimuths):
    grid = grid_from_clips(
        toy_folders(RINGS), orbit_view_cameras(12, azimuths, [-10, 20, 45], distance=3.2)
    )
    assert (grid.V, grid.T) == (12, 3)
    assert toy_agreement(grid) > 0.99


@pytest.mark.parametrize(("T", "size"), [(2, 32), (3, 34)])
def test_clips_of_other_length_or_size_are_refused(videos, T, size):
    write_video(videos[1], disc(T, size, (9, 9, 9)), fps=8)
    with pytest.raises(GridError, match=rf"1\.mp4: ({T} frames|{size}×{size} pixels), but"):
        read_clips(videos)


def test_clips_are_cut_to_the_shortest_one_when_told_so(toy_folders, toy_agreement):
    folders = toy_folders(RINGS[:2])
    (folders[1] / "2.png").unlink()
    cameras = orbit_view_cameras(2, [0, 90], [-10], distance=3.2)
    with pytest.raises(GridError, match=r"view_1: 2 frames.*has 3.*--shortest"):
        grid_from_clips(folders, cameras)
    assert grid_from_clips(folders, cameras, shortest=True).T == 2


def test_views_are_taken_in_the_order_of_their_numbers(toy_folders, toy_agreement, caplog):
    folders = sorted(toy_folders(RINGS))  # as a shell lists them: view_0, view_1, view_10
    grid = grid_from_clips(folders, orbit_view_cameras(12, None, [-10, 20, 45], distance=3.2))
    assert toy_agreement(grid) > 0.99
    assert "order of their numbers: view_0 … view_11" in caplog.text


@pytest.mark.parametrize("names", [("a/z.mp4", "b.mp4"), ("B.mp4", "a.mp4"), ("a/10", "b/9")])
def test_clips_without_numbers_or_of_several_folders_stay_in_their_order(tmp_path, names, caplog):
    colors = 40, 200
    for name, gray in zip(names, colors, strict=True):
        (tmp_path / name).mkdir(parents=True)
        write_png(tmp_path / name / "0.png", np.full((8, 8, 3), gray, np.uint8))
    opened = open_clips([tmp_path / name for name in names])
    assert [int(clip.read([0])[0, 0, 0, 0]) for clip in opened] == list(colors)
    assert not caplog.records


def test_views_given_in_another_order_stay_in_it(toy_folders, toy_agreement):
    folders = toy_folders(RINGS[:4])[::-1]
    cameras = orbit_view_cameras(4, [270, 180, 90, 0], [-10], distance=3.2)
    assert toy_agreement(grid_from_clips(folders, cameras)) > 0.99


def test_frames_of_uneven_times_keep_them(tmp_path):
    frames = [Image.fromarray(frame) for frame in disc(4, 32, (200, 30, 30))]
    frames[0].save(
        tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=[100, 100, 300, 100]
    )
    grid = grid_from_clips([tmp_path / "x.gif"], orbit_view_cameras(1))
    np.testing.assert_allclose(grid.times, [0, 0.2, 0.4, 1])
    assert grid.fps == 6


def test_as_many_frames_as_asked_for_are_selected_at_uneven_times(tmp_path):
    frames = [Image.fromarray(frame) for frame in disc(5, 32, (200, 30, 30))]
    durations = [100, 100, 100, 900, 100]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=durations)
    grid = grid_from_clips([tmp_path / "x.gif"], orbit_view_cameras(1), frames=4)
    np.testing.assert_allclose(grid.times, [0, 1 / 6, 1 / 4, 1])


def test_frames_are_selected_evenly_in_time(videos, tmp_path):
    for video in videos:
        write_video(video, disc(9, 32, (200, 30, 30)), fps=8)
    grid = grid_from_clips(videos, orbit_view_cameras(3), frames=3)
    assert (grid.T, grid.fps) == (3, 2)
    np.testing.assert_allclose(grid.times, [0, 0.5, 1])
    assert grid.image(0, 2)[16, 16 + 8 + 4, 3] == 255  # the disc has moved by 8 pixels
    with pytest.raises(GridError, match=r"1 to 9 frames.*found 10"):
        grid_from_clips(videos, orbit_view_cameras(3), frames=10)


def test_videos_of_different_rates_are_warned_of(videos, caplog):
    write_video(videos[1], disc(3, 32, (9, 9, 9)), fps=3)
    grid_from_clips(videos, orbit_view_cameras(3))
    assert "simultaneous" in caplog.text and "1.mp4" in caplog.text


@pytest.mark.parametrize("kind", ["nerfstudio", "d-nerf", "4danyone"])
def test_cameras_of_other_programs_are_read(toy_folders, toy_agreement, tmp_path, kind):
    """Three rings, in the order of the names and in another one."""
    folders = toy_folders(RINGS, pattern="{:02d}")
    values = {
        "nerfstudio": transforms(RINGS, "images/{:02d}.png")
        | {"fl_x": 2 * RINGS[0].fl_x, "w": 96, "h": 80},
        "d-nerf": transforms(RINGS, "./train/{:02d}"),
        "4danyone": four_d_anyone(RINGS),
    }[kind]
    cameras = read_view_cameras(written(tmp_path / "cameras.json", values))
    for order in (slice(None), slice(None, None, -1), slice(2, 7)):
        grid = grid_from_clips(folders[order], cameras)
        assert toy_agreement(grid) > 0.99
        np.testing.assert_array_equal(
            grid.R_world_source, rotation_from_up("y") if kind == "4danyone" else np.eye(3)
        )


def test_the_views_that_cameras_name_need_not_be_given(toy_image, toy_agreement, tmp_path):
    (tmp_path / "videos/dense").mkdir(parents=True)
    cameras = RINGS[:4]
    for v, camera in enumerate(cameras):
        frames = [toy_image(camera, t / 2) for t in range(3)]
        rgb = [np.where(frame[..., 3:] > 0, frame[..., :3], 255) for frame in frames]
        write_video(tmp_path / f"videos/dense/{v:02d}.mp4", rgb, 10)
    found = read_view_cameras(written(tmp_path / "cameras.json", four_d_anyone(cameras)))
    grid = grid_from_clips([], found)
    assert (grid.V, grid.T, grid.fps) == (4, 3, 10)
    assert toy_agreement(grid) > 0.85  # H.264 halves the resolution of colors


def test_cameras_of_a_grid_of_this_project_are_read(toy_folders, toy_agreement, tmp_path):
    made = grid_from_clips(
        toy_folders(RINGS[:4], pattern="v{:02d}"),
        orbit_view_cameras(4, None, [-10], distance=3.2),
    )
    write_grid(made, tmp_path / "grid")
    cameras = read_view_cameras(tmp_path / "grid/transforms.json")
    grid = grid_from_clips([tmp_path / "v02", tmp_path / "v01"], cameras)
    assert toy_agreement(grid) > 0.99


def test_cameras_without_the_names_of_views_are_taken_in_order(
    toy_folders, toy_agreement, tmp_path, caplog
):
    folders = toy_folders(RINGS[:4])
    path = written(tmp_path / "transforms.json", transforms(RINGS[:4], "images/cam_{}.png"))
    assert toy_agreement(grid_from_clips(folders, read_view_cameras(path))) > 0.99
    assert "taken in their order" in caplog.text
    with pytest.raises(GridError, match=r"each of 3 views, found 4"):
        grid_from_clips(folders[:3], read_view_cameras(path))
    with pytest.raises(GridError, match="name no videos"):
        grid_from_clips([], read_view_cameras(path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "expected `frames`"),
        ({"camera_path": []}, "expected `frames`"),
        ({"cameras": []}, "empty"),
        ({"cameras": [{"K": np.eye(3).tolist()}]}, "camera_to_world"),
        ({"cameras": [{"camera_to_world": np.zeros((4, 4)).tolist()}]}, r"cameras\[0\]"),
        ({"cameras": ["x"]}, r"cameras\[0\]"),
        ({"cameras": [{"camera_to_world": np.eye(4).tolist(), "video": 7}]}, "video"),
        ({"frames": []}, "empty"),
    ],
)
def test_cameras_that_are_not_valid_or_unknown_are_refused(tmp_path, values, message):
    with pytest.raises(GridError, match=message):
        read_view_cameras(written(tmp_path / "cameras.json", values))


def test_a_video_of_another_shape_than_its_camera_is_refused(videos, tmp_path):
    path = written(tmp_path / "cameras.json", four_d_anyone(RINGS[:3], "{}.mp4"))
    with pytest.raises(GridError, match=r"0\.mp4: .*48×40 pixels.*found 32×32"):
        grid_from_clips(videos, read_view_cameras(path))


def test_views_of_two_sizes_are_padded(toy_folders, toy_agreement, tmp_path):
    cameras = [RINGS[0], orbit_camera(90, 20, 3.2, 40, 56, 44), *RINGS[6:8]]
    path = written(tmp_path / "cameras.json", four_d_anyone(cameras, "view_{}.mp4"))
    grid = grid_from_clips(toy_folders(cameras), read_view_cameras(path))
    assert (grid.height, grid.width) == (56, 48)
    assert toy_agreement(grid) > 0.99


@pytest.mark.parametrize("kind", ["folders", "videos"])
def test_masks_of_views_become_alpha(toy_folders, toy_agreement, tmp_path, kind, caplog):
    """Views with a room behind the object."""
    folders = toy_folders(RINGS[:2])
    rng = np.random.default_rng(0)
    for folder in folders:
        masks = []
        for file in sorted(folder.iterdir()):
            image = np.array(Image.open(file))
            mask = image[..., 3] > 0
            image[~mask] = rng.integers(0, 255, (int((~mask).sum()), 4))
            Image.fromarray(image[..., :3]).save(file)
            masks.append(np.repeat(255 * mask[..., None], 3, axis=-1).astype(np.uint8))
        target = tmp_path / "masks" / folder.name
        target.mkdir(parents=True)
        if kind == "videos":
            target.rmdir()
            write_video(target.with_suffix(".mp4"), masks, 10)
        for t, mask in enumerate(masks):
            if kind == "folders":
                Image.fromarray(mask[..., 0] // 255).save(target / f"mask_{t}.png")
    cameras = orbit_view_cameras(2, [0, 90], [-10], distance=3.2)
    grid = grid_from_clips(folders, cameras, masks=tmp_path / "masks")
    assert grid.alpha_known and toy_agreement(grid) > (0.99 if kind == "folders" else 0.9)
    assert grid.image(0, 0)[:4, :4, 3].max() == 0
    assert "cut out" not in caplog.text
    grid_from_clips(folders, cameras)
    assert "6 of 6 images" in caplog.text and "--masks" in caplog.text


def test_a_view_whose_masks_are_all_empty_is_warned_of(toy_folders, tmp_path, caplog):
    folders = toy_folders(RINGS[:2])
    for folder in folders:
        target = tmp_path / "masks" / folder.name
        target.mkdir(parents=True)
        for file in sorted(folder.iterdir()):
            mask = np.array(Image.open(file))[..., 3] * (folder != folders[1])
            Image.fromarray(mask).save(target / file.name)
    cameras = orbit_view_cameras(2, [0, 90], [-10], distance=3.2)
    grid_from_clips(folders, cameras, masks=tmp_path / "masks")
    assert [record.message for record in caplog.records] == [
        f"{folders[1]}: its masks, or its alpha, show no object in any frame"
    ]


def test_masks_that_do_not_match_are_refused(toy_folders, tmp_path):
    folders = toy_folders(RINGS[:1])
    cameras = orbit_view_cameras(1)
    with pytest.raises(GridError, match="folder with masks"):
        grid_from_clips(folders, cameras, masks=tmp_path / "nothing")
    (tmp_path / "masks").mkdir()
    with pytest.raises(GridError, match=r"'view_0', found 0"):
        grid_from_clips(folders, cameras, masks=tmp_path / "masks")
    write_gif(tmp_path / "masks/view_0.gif", disc(2, 32, (0, 0, 0)), 10)
    with pytest.raises(GridError, match="each frame of view_0, found 2"):
        grid_from_clips(folders, cameras, masks=tmp_path / "masks")


def test_another_axis_that_points_up_can_be_stated(toy_folders, tmp_path):
    folders = toy_folders(RINGS[:2])
    path = written(tmp_path / "cameras.json", four_d_anyone(RINGS[:2], "view_{}"))
    as_it_is = grid_from_clips(folders, read_view_cameras(path), up="z")
    assert (as_it_is.R_world_source == np.eye(3)).all()
    with pytest.raises(InputError, match="auto, x"):
        grid_from_clips(folders, read_view_cameras(path), up="north")


@pytest.fixture
def mosaics(tmp_path):
    """Six views of 3 frames of 8 × 10 pixels, and a folder of images with 2 rows of 3 views."""
    views = np.random.default_rng(0).integers(0, 255, (6, 3, 8, 10, 4)).astype(np.uint8)
    (tmp_path / "all").mkdir()
    for t in range(3):
        rows = [np.concatenate(list(views[start : start + 3, t]), axis=1) for start in (0, 3)]
        Image.fromarray(np.concatenate(rows)).save(tmp_path / "all" / f"{t}.png")
    return views, tmp_path / "all"


def test_a_mosaic_is_divided_row_by_row(mosaics):
    views, folder = mosaics
    found = read_clips([folder], Mosaic(2, 3))
    seen = views[..., 3] > 0
    assert found.images.shape == views.shape and found.alpha_known
    assert (found.images[seen] == views[seen]).all()
    assert (read_clips([folder, folder], Mosaic(2, 3)).images[6:][seen] == views[seen]).all()
    grid = grid_from_clips([folder], orbit_view_cameras(6), frames=2, mosaic=Mosaic(2, 3))
    assert (grid.V, grid.T, grid.height, grid.width) == (6, 2, 8, 10)


def test_masks_of_a_mosaic_are_a_mosaic(mosaics, tmp_path):
    folder = mosaics[1]
    (tmp_path / "masks" / "all").mkdir(parents=True)
    for t in range(3):
        mask = np.zeros((16, 30), np.uint8)
        mask[8:, 10:20] = 255  # of view 4
        Image.fromarray(mask).save(tmp_path / "masks" / "all" / f"{t}.png")
    grid = grid_from_clips(
        [folder], orbit_view_cameras(6), masks=tmp_path / "masks", mosaic=Mosaic(2, 3)
    )
    shown = [grid.image(view, 0)[..., 3].any() for view in range(6)]
    assert shown == [False, False, False, False, True, False]


def test_a_video_can_be_a_mosaic(tmp_path):
    halves = [disc(3, 32, color) for color in ((200, 0, 30), (20, 60, 200))]
    write_video(tmp_path / "both.mp4", np.concatenate(halves, axis=2), fps=8)
    found = read_clips([tmp_path / "both.mp4"], Mosaic(1, 2)).images[..., :3].astype(int)
    assert np.abs(found[:, :, 16, 16] - np.array([[200, 0, 30], [20, 60, 200]])[:, None]).max() < 40


def test_a_mosaic_is_decoded_once_for_all_its_views(tmp_path, monkeypatch):
    calls = []

    def read(path, indices):
        calls.append(tuple(indices))
        time.sleep(0.05)  # while which other threads ask for their views
        return read_video_frames(path, indices)

    monkeypatch.setattr(view_clips, "read_video_frames", read)
    write_video(tmp_path / "all.mp4", disc(3, 32, (200, 30, 30)), fps=8)
    assert len(read_clips([tmp_path / "all.mp4"], Mosaic(2, 2)).images) == 4
    assert calls == [(0,), (0, 1, 2)]  # the first one for the size


def test_sizes_that_do_not_divide_are_refused(mosaics):
    with pytest.raises(GridError, match=r"all.*30×16 pixels.*3 rows and 3 columns"):
        read_clips([mosaics[1]], Mosaic(3, 3))


@pytest.mark.parametrize("text", ["2", "2x", "0x4", "2x4x2", "-1x2", "20x20", "two"])
def test_mosaics_are_two_numbers(text):
    assert parse_mosaic("2x4") == parse_mosaic("2×4") == (2, 4)
    with pytest.raises(InputError, match="found"):
        parse_mosaic(text)
