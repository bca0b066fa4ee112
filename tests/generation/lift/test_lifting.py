import math

import numpy as np
import pytest
import torch

from generation.curation.render import settings as training
from generation.lift import lifting
from generation.lift.lifting import (
    Predictor,
    Steps,
    draw_views,
    network_images,
    predict_layers,
    predict_yaw,
    seen_by,
    surface_layers,
)
from generation.lift.yaw import yaw_path
from generation.surface_layers import BACK, FIRST_EXIT, FRONT
from recon.errors import DivergedError, Interrupted
from recon.grid import orbit_camera
from recon.progress import Progress
from tests.generation.lift.tiny_lift import CONFIG, tiny_network
from tests.generation.tiny_networks import tiny_clip

S = CONFIG.size
UNKNOWN = np.full(5, np.nan)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_network(), batch=2)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return network_images(tiny_clip(5).images, S)


def steps(count: int = 99, **others) -> Steps:
    return Steps(count, **others)


def test_the_camera_is_that_of_the_training():
    assert (lifting.FOV_DEG, lifting.DISTANCE) == (training.FOV_DEG, training.DISTANCE)


def test_images_are_premultiplied_before_they_are_resized():
    clip = tiny_clip(2).images
    clip[..., :3][clip[..., 3] == 0] = 255  # hidden colors
    found = network_images(clip, S)
    assert found.shape == (2, 4, S, S)
    assert (found[:, :3] <= found[:, 3:] * (200 / 255) + 1e-6).all()
    assert torch.equal(network_images(tiny_clip(2, S).images, S)[:, 3],
                       torch.from_numpy(tiny_clip(2, S).images[..., 3]).float() / 255)  # fmt: skip


def test_predictions_do_not_depend_on_the_batch(predictor, images):
    yaw = np.linspace(0, 1, 5)
    few = predict_layers(predictor, images, 0.1, yaw, steps())
    many = predict_layers(predictor._replace(batch=99), images, 0.1, yaw, steps())
    torch.testing.assert_close(few.depth, many.depth)
    torch.testing.assert_close(few.gap, many.gap)
    assert (few.color.int() - many.color.int()).abs().max() <= 1


def test_a_prediction_that_is_not_finite_names_its_frames(images):
    network = tiny_network()
    network.get_parameter("head.outputs.bias")[0] = torch.nan
    predictor = Predictor(network, batch=2)
    with pytest.raises(DivergedError, match="frames 0–1"):
        predict_yaw(predictor, images, 0.1, steps())
    with pytest.raises(DivergedError, match="frames 0–1"):
        predict_layers(predictor, images, 0.1, np.zeros(5), steps())


@pytest.fixture
def always_sure(monkeypatch):
    monkeypatch.setattr(lifting, "SURE", 0.0)


@pytest.mark.usefixtures("always_sure")
def test_the_mirror_image_has_the_mirrored_layers_and_the_negated_yaw(predictor, images):
    yaw = predict_yaw(predictor, images, 0.1, steps())
    mirrored = images.flip(-1)
    turned = predict_yaw(predictor, mirrored, 0.1, steps())
    assert np.abs(np.exp(1j * turned) - np.exp(-1j * yaw)).max() < 1e-3
    ours = predict_layers(predictor, images, 0.1, yaw, steps())
    theirs = predict_layers(predictor, mirrored, 0.1, -yaw, steps())
    torch.testing.assert_close(theirs.depth, ours.depth.flip(-1))
    torch.testing.assert_close(theirs.gap, ours.gap.flip(-1))


def test_a_yaw_of_which_the_network_is_not_sure_is_unknown(predictor, images, monkeypatch):
    for confidence, is_unknown in ((lifting.SURE - 0.01, True), (lifting.SURE, False)):
        monkeypatch.setattr(lifting, "confidence", lambda *_, found=confidence: found)
        yaw = predict_yaw(predictor, images, 0.1, steps())
        assert np.isnan(yaw).all() == is_unknown
        assert np.isnan(yaw).any() == is_unknown


def test_the_layers_depend_on_the_yaw(predictor, images):
    at = [predict_layers(predictor, images, 0.1, np.full(5, yaw), steps()) for yaw in (0.0, 1.0)]
    assert (at[0].depth - at[1].depth).abs().max() > 1e-4
    unknown = predict_layers(predictor, images, 0.1, UNKNOWN, steps())
    assert unknown.yaw.isnan().all()
    assert unknown.depth.isfinite().all()


def test_empty_frames_say_nothing_about_the_yaw(predictor, images, monkeypatch):
    seen = []

    def recording(log_probs):
        seen.append(log_probs)
        return yaw_path(log_probs)

    monkeypatch.setattr(lifting, "yaw_path", recording)
    with_empty = images.clone()
    with_empty[2] = 0
    predict_yaw(predictor, with_empty, 0.1, steps())
    assert np.ptp(seen[0][2]) == 0
    assert (np.ptp(seen[0][[0, 1, 3, 4]], axis=1) > 0).all()


def test_bfloat16_changes_little(predictor, images):
    yaw = np.zeros(5)
    exact = predict_layers(predictor, images, 0.1, yaw, steps())
    rounded = predict_layers(predictor._replace(dtype=torch.bfloat16), images, 0.1, yaw, steps())
    assert (exact.depth - rounded.depth).abs().max() < 0.05


@pytest.mark.parametrize(("fov_deg", "distance"), [(33.8, 3.2), (33.8, 2.0), (60.0, 3.2)])
def test_depths_scale_with_the_width_that_the_camera_sees(predictor, images, fov_deg, distance):
    layers = predict_layers(predictor, images, 0.1, UNKNOWN, steps())
    ours = surface_layers(layers, images, tiny_clip(5).images)[0]
    found = seen_by(ours, fov_deg, distance)
    scale = distance * np.tan(np.radians(fov_deg) / 2) / (3.2 * np.tan(np.radians(33.8) / 2))
    wanted = distance + scale * (ours.depth - 3.2)
    assert np.allclose(found.depth[:, found.mask], wanted[:, found.mask], atol=1e-5)
    assert (found.depth[:, ~found.mask] == 0).all()


def test_layers_are_ordered_and_meet_the_convention_of_single_parts(predictor, images):
    layers = predict_layers(predictor, images, 0.1, UNKNOWN, steps())
    gap = torch.linspace(-1, 1, S).expand(5, S, S)  # the right half has two parts
    layers = layers._replace(gap=gap)
    made = list(surface_layers(layers, images, tiny_clip(5).images))
    for image, found in zip(images, made, strict=True):
        assert (found.mask == (image[3].numpy() >= 0.5)).all()
        assert 0 < found.gap.sum() < found.mask.sum()
        assert (np.diff(found.depth, axis=0)[:, found.mask] >= 0).all()
        single = found.mask & ~found.gap
        middle = found.depth[[FRONT, BACK]][:, single].mean(0)
        assert np.allclose(found.depth[FIRST_EXIT, single], middle)
    assert (made[-1].color[FRONT][made[-1].mask] == (200, 40, 40)).all()


def test_layers_of_a_single_frame_are_those_of_the_network(predictor, images):
    layers = predict_layers(predictor, images[:1], 0.1, UNKNOWN[:1], steps())
    (found,) = surface_layers(layers, images[:1], tiny_clip(1).images)
    predicted = 3.2 + layers.depth[0].numpy()
    assert np.allclose(found.depth[[FRONT, BACK]][:, found.mask],
                       predicted[[FRONT, BACK]][:, found.mask], atol=1e-4)  # fmt: skip


def test_the_back_of_what_faces_the_camera_has_no_details(predictor, images):
    clip = tiny_clip(1).images
    eyes = torch.zeros(1, 3, 3, S, S, dtype=torch.uint8)
    eyes[..., S // 2, S // 2] = 255
    made = {}
    for yaw in (0.0, math.pi / 2):
        turned = np.full(1, yaw, np.float32)
        layers = predict_layers(predictor, images[:1], 0.1, turned, steps())
        assert layers.facing.tolist() == [float(yaw == 0)]
        (found,) = surface_layers(layers._replace(color=eyes), images[:1], clip)
        made[yaw] = found.color[BACK][found.mask].max()
    assert made == {0.0: 0, math.pi / 2: 255}


def test_an_unknown_yaw_faces_the_camera_as_probably_as_the_network_says(predictor, images):
    layers = predict_layers(predictor, images, 0.1, UNKNOWN[: len(images)], steps())
    assert ((layers.facing >= 0) & (layers.facing <= 1)).all()
    mirrored = predict_layers(predictor, images.flip(-1), 0.1, UNKNOWN[: len(images)], steps())
    torch.testing.assert_close(layers.facing, mirrored.facing)


def test_views_show_the_object_from_all_sides_and_nothing_of_empty_frames(predictor):
    clip = tiny_clip(3).images
    clip[1] = 0
    small = network_images(clip, S)
    layers = predict_layers(predictor, small, 0.0, UNKNOWN[:3], steps())
    in_world = [seen_by(each, 33.8, 2.0) for each in surface_layers(layers, small, clip)]
    cameras = [orbit_camera(azimuth, 0, 2.0, 33.8, 64, 64) for azimuth in (0, 90, 180)]
    views = draw_views(in_world, clip, cameras[0], cameras, steps())
    assert views.shape == (3, 3, 64, 64, 4)
    assert (views[:, 1] == 0).all()
    own = clip[[0, 2]][..., 3] > 128
    drawn = views[:, [0, 2]][..., 3] > 128
    assert (drawn[0] & own).sum() > 0.95 * (drawn[0] | own).sum()
    assert 0 < drawn[1].sum() < drawn[0].sum()  # it is flat
    assert 0.8 * drawn[0].sum() < drawn[2].sum()


def test_progress_counts_all_frames_of_all_phases(predictor, images):
    found: list[Progress] = []
    counted = Steps(15, found.append)
    yaw = predict_yaw(predictor, images, 0.1, counted)
    predict_layers(predictor, images, 0.1, yaw, counted)
    assert [each.step for each in found] == [2, 4, 5, 7, 9, 10]
    assert {each.steps for each in found} == {15}
    assert list(dict.fromkeys(each.phase for each in found)) == ["direction", "layers"]


def test_any_phase_can_be_stopped(predictor, images):
    stopping = steps(should_stop=lambda: True)
    with pytest.raises(Interrupted):
        predict_yaw(predictor, images, 0.1, stopping)
    with pytest.raises(Interrupted):
        predict_layers(predictor, images, 0.1, UNKNOWN, stopping)
    layers = predict_layers(predictor, images, 0.1, UNKNOWN, steps())
    in_world = surface_layers(layers, images, tiny_clip(5).images)
    camera = orbit_camera(0, 0, 2.0, 33.8, 64, 64)
    with pytest.raises(Interrupted):
        draw_views(in_world, tiny_clip(5).images, camera, [camera], stopping)
