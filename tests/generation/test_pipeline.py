import itertools
import json
import threading

import numpy as np
import pytest
import torch

from generation import grid_sampler as sampler
from generation.checkpoint import UNFINISHED
from generation.diffusion_pipeline import DiffusionPipeline
from generation.presets import ORBIT_AZIMUTHS_DEG, make_plan
from generation.settings import GenerateSettings
from recon.errors import (
    DivergedError,
    InputError,
    Interrupted,
    OutOfMemoryError,
    OutputError,
    OutputExistsError,
)
from recon.grid import read_grid
from recon.grid.cameras import viewing_angles_deg
from recon.grid.grid import composite
from recon.progress import Progress
from tests.generation.tiny_networks import TinyWeights, build_tiny, tiny_clip, tiny_weights


def settings(model: str = "sv4d2_8views", **others) -> GenerateSettings:
    return GenerateSettings(**{"model": model, "steps": 2, "views": 2, "size": 64} | others)


def make(tmp_path, chosen: GenerateSettings, T: int = 5, name: str = "grid", **others):
    weights = tiny_weights(tmp_path, *make_plan(chosen, T).models)
    return DiffusionPipeline(chosen, weights, {}).generate(tiny_clip(T), tmp_path / name, **others)


@pytest.mark.parametrize(
    ("model", "views", "azimuths"),
    [
        ("sv4d2", None, [0, 60, 120, 180, 240]),
        ("sv4d2_8views", None, [0, 30, 75, 120, 165, 210, 255, 300, 330]),
        ("sv4d2", 2, [0, 120, 240]),
    ],
)
def test_each_model_makes_a_grid_with_its_cameras(tmp_path, model, views, azimuths):
    made = make(tmp_path, settings(model, views=views))
    grid = read_grid(tmp_path / "grid")
    assert (grid.V, grid.T, grid.height, grid.width) == (len(azimuths), 5, 64, 64)
    assert grid.is_full
    assert [viewing_angles_deg(camera)[0] for camera in grid.cameras] == pytest.approx(azimuths)
    assert made.report["azimuths_deg"] == azimuths
    assert grid.fps == 8.0


def test_sv4d_starts_with_the_orbit_model_and_takes_its_azimuths(tmp_path):
    steps: list[tuple[int, str]] = []
    chosen = settings("sv4d", views=None)
    made = make(tmp_path, chosen, on_step=lambda each: steps.append((each.step, each.phase)))
    grid = read_grid(tmp_path / "grid")
    wanted = [0.0, *(ORBIT_AZIMUTHS_DEG[k - 1] for k in (2, 5, 7, 9, 12, 14, 16, 19))]
    assert [viewing_angles_deg(camera)[0] for camera in grid.cameras] == pytest.approx(wanted)
    assert viewing_angles_deg(grid.cameras[3])[1] == pytest.approx(10.0)
    assert steps == [(1, "reference views"), (2, "reference views"), (3, "frames 0–4"),
                     (4, "frames 0–4")]  # fmt: skip
    assert set(made.report["weights"]) == {"sv3d_u", "sv4d"}


def test_sv3d_p_samples_an_orbit_through_the_requested_azimuths(tmp_path):
    made = make(tmp_path, settings("sv4d", views=3, orbit_model="sv3d_p", elevation_deg=20.0))
    assert made.report["azimuths_deg"] == pytest.approx([0, 90, 180, 270])
    assert made.report["elevation_deg"] == 20.0


def test_view_0_is_the_input_and_the_folder_is_whole(tmp_path):
    clip = tiny_clip()
    make(tmp_path, settings())
    folder = tmp_path / "grid"
    grid = read_grid(folder)
    seen = np.where(clip.images[..., 3:] > 0, clip.images, 0)
    found = np.where(clip.images[..., 3:] > 0, grid.images[grid.of_view(0)], 0)
    assert (found == seen).all()
    assert {path.name for path in folder.iterdir()} == {
        "transforms.json", "images", "videos", "contact_sheet.png", "input", "generate.json",
    }  # fmt: skip
    assert len(list((folder / "input").glob("t*.png"))) == 5
    report = json.loads((folder / "generate.json").read_text())
    assert report["steps"] == 2
    assert report["weights"]["sv4d2_8views"]["sha256"]
    assert report["peak_memory_bytes"] > 0
    assert {"load", "encode", "sample", "decode"} <= report["seconds"].keys()


def test_clockwise_azimuths_mirror_the_cameras(tmp_path):
    make(tmp_path, settings(views=3, clockwise=True))
    cameras = read_grid(tmp_path / "grid").cameras
    assert [viewing_angles_deg(camera)[0] for camera in cameras] == pytest.approx([0, 270, 180, 90])


def test_the_same_seed_makes_the_same_grid_and_another_seed_another(tmp_path):
    first = make(tmp_path, settings(seed=4), name="a").grid.images
    again = make(tmp_path, settings(seed=4), name="b").grid.images
    other = make(tmp_path, settings(seed=5), name="c").grid.images
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("model", ["sv4d", "sv4d2", "sv4d2_8views"])
def test_low_memory_gives_the_same_grid(tmp_path, model, monkeypatch):
    monkeypatch.setattr("generation.networks.LOW_MEMORY_TOKENS", 50)
    usual = make(tmp_path, settings(model), name="a").grid.images
    little = make(tmp_path, settings(model, low_memory=True), name="b").grid.images
    assert np.abs(usual[..., :3].astype(int) - little[..., :3]).max() <= 1


@pytest.mark.parametrize(("model", "stop_after"), [("sv4d2_8views", 3), ("sv4d", 5)])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, model, stop_after):
    whole = make(tmp_path, settings(model), T=9, name="whole").grid.images
    count = itertools.count(1)
    with pytest.raises(Interrupted):
        make(tmp_path, settings(model), T=9, should_stop=lambda: next(count) == stop_after)
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {UNFINISHED}
    steps: list[int] = []
    made = make(tmp_path, settings(model), T=9, on_step=lambda each: steps.append(each.step))
    assert steps[0] == stop_after - (stop_after - 1) % 2  # windows take two steps
    assert (made.grid.images == whole).all()
    assert not (tmp_path / "grid" / UNFINISHED).exists()


def test_an_unfinished_run_with_other_settings_needs_overwrite(tmp_path):
    count = itertools.count(1)
    with pytest.raises(Interrupted):
        make(tmp_path, settings(), T=9, should_stop=lambda: next(count) == 3)
    with pytest.raises(OutputExistsError, match="seed"):
        make(tmp_path, settings(seed=1), T=9)
    assert (tmp_path / "grid" / UNFINISHED / "grid.safetensors").exists()
    make(tmp_path, settings(seed=1), T=9, overwrite=True)
    assert read_grid(tmp_path / "grid").T == 9


def test_a_finished_grid_needs_overwrite(tmp_path):
    make(tmp_path, settings())
    with pytest.raises(OutputExistsError):
        make(tmp_path, settings())
    make(tmp_path, settings(seed=1), overwrite=True)


def test_a_second_generation_of_a_folder_is_refused_while_the_first_one_runs(tmp_path):
    def second(step: Progress) -> None:
        with pytest.raises(OutputError, match="another process"):
            make(tmp_path, settings(), overwrite=True)

    make(tmp_path, settings(), on_step=second)
    assert read_grid(tmp_path / "grid").V == 3
    assert not list(tmp_path.glob(".*"))


def test_values_that_are_not_finite_name_window_and_step(tmp_path, monkeypatch):
    def overflowing(self, *arguments, **named):
        networks = build_tiny(self.architecture.unet, *arguments, **named)
        networks.unet.get_parameter("out.2.bias").fill_(torch.inf)
        return networks

    monkeypatch.setattr(TinyWeights, "load", overflowing)
    with pytest.raises(DivergedError, match=r"frames 0–4: step 1 of 2.*bfloat16.*float32"):
        make(tmp_path, settings(precision="bfloat16"))


def test_too_little_memory_names_the_option_and_keeps_finished_windows(tmp_path, monkeypatch):
    real, calls = sampler.euler, itertools.count()

    def exhausted_in_the_second_window(*arguments):
        if next(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments)

    monkeypatch.setattr(sampler, "euler", exhausted_in_the_second_window)
    with pytest.raises(OutOfMemoryError) as caught:
        make(tmp_path, settings(), T=9)
    assert "--low-memory" in (caught.value.hint or "")
    steps: list[int] = []
    with_less = settings(low_memory=True)  # resumes after the finished window
    make(tmp_path, with_less, T=9, on_step=lambda each: steps.append(each.step))
    assert steps == [3, 4]


def test_an_interruption_does_not_wait_for_the_hashes_of_the_weights(tmp_path, monkeypatch):
    released, waited = threading.Event(), []

    def slow(self):
        waited.append(released.wait(30))
        return []

    monkeypatch.setattr(DiffusionPipeline, "used_files", slow)
    with pytest.raises(Interrupted):
        make(tmp_path, settings(), should_stop=lambda: True)
    assert not waited
    released.set()


def test_a_clip_of_another_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="80"):
        DiffusionPipeline(settings(), {}, {}).generate(tiny_clip(size=80), tmp_path / "grid")
    assert not (tmp_path / "grid").exists()


def test_fill_windows_also_run_backward_in_time_from_their_last_frame(tmp_path, monkeypatch):
    """The conditioning of each denoiser, against that of the published sampling script."""
    found = []
    real = sampler.guided_denoiser

    def recording(predict, conditioning, unconditional, scale, together):
        found.append((conditioning, scale))
        return real(predict, conditioning, unconditional, scale, together)

    monkeypatch.setattr(sampler, "guided_denoiser", recording)
    clip, chosen = tiny_clip(9), settings("sv4d", views=None)
    make(tmp_path, chosen, T=9)
    weights = tiny_weights(tmp_path, "sv4d")["sv4d"]
    networks = weights.load(torch.device("cpu"), torch.float32)
    video = torch.from_numpy(composite(clip.images)).permute(0, 3, 1, 2) / 127.5 - 1
    latents, tokens = networks.latents(video), networks.tokens(video)
    orbit, anchors, *windows = found
    anchor_frames = [2, 3, 5, 6, 8]
    torch.testing.assert_close(orbit[0].concat, latents[:1].expand(21, -1, -1, -1))
    assert torch.equal(anchors[0].context, tokens[anchor_frames])
    assert torch.equal(anchors[0].concat, latents[anchor_frames].repeat_interleave(8, 0))
    assert len(windows) == 2 * 3  # frames 0–3, 3–6 and 6–8, each forward and backward
    for (forward, scale), (backward, same_scale) in zip(windows[::2], windows[1::2], strict=True):
        assert torch.equal(backward.context, forward.context.flip(0))
        assert torch.equal(backward.vector, forward.vector)
        assert torch.equal(scale, same_scale)
        assert not torch.equal(backward.reference, forward.reference)
    assert torch.equal(windows[0][0].reference, anchors[0].reference)  # frame 0 is the orbit's
