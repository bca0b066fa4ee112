import dataclasses
import gzip

import numpy as np
import pytest
import torch

from recon.errors import InputError, SceneError
from recon.grid.source_camera import source_camera_to_json
from recon.metrics.image import psnr
from recon.player import packing
from recon.player.packing import pack_frames, pack_scene, scene_setting, unpack
from recon.rendering import render_gaussians
from recon.scene import Scene
from tests.recon.grid.test_source_camera import make_source
from tests.recon.player.conftest import make_scene


def psnr_of(scene: Scene, packed: packing.PackedScene, time: float) -> float:
    shown, expected = (
        render_gaussians(state, [scene.cameras[0]]).rgb[0].detach().numpy()
        for state in (packed.at(time), scene.at(time))
    )
    return psnr(shown, expected)


@pytest.mark.parametrize("motion", ["bones", "keyframes"])
@pytest.mark.parametrize("degree", [0, 3])
def test_a_packed_scene_looks_like_the_scene_at_any_time(motion: str, degree: int):
    scene = make_scene(motion, degree=degree)
    packed = unpack(pack_scene(scene))
    assert packed.kind == motion
    for time in (0, 0.37, 1):
        assert psnr_of(scene, packed, time) > 45


def test_frames_of_the_same_gaussians_become_keyframes():
    scene = make_scene("keyframes")
    frames = [scene.at(float(time)) for time in scene.times]
    packed = unpack(pack_frames(frames, scene_setting(scene)))
    assert packed.kind == "keyframes"
    assert psnr_of(scene, packed, 0.37) > 45


def test_unrelated_frames_are_shown_one_after_another():
    scene = make_scene("bones")
    half = scene.gaussians.map(lambda tensor: tensor[::2])
    setting = scene_setting(scene)._replace(times=np.array([0.0, 1.0]))
    packed = unpack(pack_frames([scene.gaussians, half], setting))
    assert packed.kind == "frames"
    assert len(packed.at(0.4).means) == 400
    assert len(packed.at(0.6).means) == 200


def test_ten_thousand_gaussians_with_bones_and_21_frames_are_below_a_megabyte_and_a_half():
    data = pack_scene(make_scene("bones", count=10_000))
    assert len(gzip.compress(data)) * 4 / 3 < 1.5e6


def test_quaternions_are_kept_to_a_tenth_of_a_degree():
    drawn = torch.randn(1, 500, 4, generator=torch.Generator().manual_seed(0)).double()
    quats = torch.nn.functional.normalize(drawn, dim=-1).numpy()
    levels, largest = packing._smallest_three(quats.transpose(0, 2, 1))
    back = packing._from_smallest_three(levels, largest).transpose(0, 2, 1)
    assert np.degrees(2 * np.arccos(np.abs((quats * back).sum(-1)).clip(0, 1))).max() < 0.2


def test_a_scene_with_nan_or_too_many_gaussians_is_refused(monkeypatch):
    scene = make_scene("bones")
    monkeypatch.setattr(packing, "MAX_GAUSSIANS", 399)
    with pytest.raises(SceneError, match="400"):
        pack_scene(scene)
    monkeypatch.undo()
    scene.gaussians.means[3] = torch.nan
    with pytest.raises(SceneError, match="NaN"):
        pack_scene(scene)


def test_nan_in_a_later_frame_is_refused():
    scene = make_scene("keyframes")
    frames = [scene.at(float(time)) for time in scene.times]
    frames[3].means[5] = torch.nan
    with pytest.raises(SceneError, match="NaN"):
        pack_frames(frames, scene_setting(scene))


def test_a_scene_without_cameras_is_refused():
    with pytest.raises(SceneError, match="camera"):
        pack_scene(dataclasses.replace(make_scene("bones"), cameras=()))


@pytest.mark.parametrize("data", [b"", b"\x05\0\0\0{}", b"\x02\0\0\0{}", b"\xff" * 40])
def test_other_bytes_are_refused(data: bytes):
    with pytest.raises(InputError, match="packed scene"):
        unpack(data)


def test_a_packed_scene_that_is_cut_off_is_refused():
    with pytest.raises(InputError, match="packed scene"):
        unpack(pack_scene(make_scene("bones"))[:-500])


def test_the_source_camera_is_packed_without_what_a_player_does_not_need():
    source = dataclasses.replace(make_source(), thumbnails=np.ones((3, 12, 12, 3), np.uint8))
    scene = dataclasses.replace(make_scene("bones"), source_camera=source)
    found = unpack(pack_scene(scene)).setting.source
    assert found is not None
    assert source_camera_to_json(found) == source_camera_to_json(make_source())
    assert unpack(pack_scene(make_scene("bones"))).setting.source is None
