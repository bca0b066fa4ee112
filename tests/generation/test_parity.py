"""Agreement with the reference implementation on random weights, within its own tolerances."""

import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from generation.conditioning import (
    Conditioning,
    augmentation_vector,
    camera_vector,
    grid_conditioning,
    orbit_conditioning,
    without_image,
)
from generation.diffusion import (
    Denoiser,
    coefficients,
    euler,
    guided_denoiser,
    karras_sigmas,
    linear_scale,
    orbit_scale,
    reversed_in_time,
    space_time_scale,
    start,
)
from generation.models.image_encoders import clip_preprocess
from generation.models.layers import sinusoidal_embedding
from generation.models.vae import (
    VAEConfig,
    VAEDecoder,
    VAEEncoder,
    decoder_state,
    encoder_state,
)
from generation.networks import predictor
from tests.generation.parity_fixtures import (
    Fixture,
    call,
    error,
    fixtures_of,
    read_network,
)

CALL_MAX, CALL_RMS, SV3D_P = 1e-3, 2e-4, 1e-4
SAMPLING_RMS, EXACT, IMAGE = 1e-3, 1e-5, 1e-4


@pytest.mark.parametrize("fixture", fixtures_of("unet"))
def test_parity_of_network_calls(fixture: Fixture):
    meta, tensors, network = fixture.meta, fixture.tensors(".io.safetensors"), read_network(fixture)
    most, rms = (SV3D_P, SV3D_P) if meta["name"] == "sv3d_p" else (CALL_MAX, CALL_RMS)
    for case in meta["cases"]:
        io = {key.removeprefix(f"{case}."): value for key, value in tensors.items() if case in key}
        found = error(call(network, meta, io), io["out"])
        assert found[0] < most, case
        assert found[1] < rms, case


@pytest.mark.parametrize("fixture", fixtures_of("unet"))
def test_parity_holds_with_little_memory(fixture: Fixture):
    meta, tensors, network = fixture.meta, fixture.tensors(".io.safetensors"), read_network(fixture)
    case = list(meta["cases"])[-1]
    io = {key.removeprefix(f"{case}."): value for key, value in tensors.items() if case in key}
    network.limit_memory(100)
    assert error(call(network, meta, io), io["out"])[1] < CALL_RMS


@pytest.mark.parametrize("fixture", fixtures_of("sampler"))
def test_parity_of_whole_sampling_runs(fixture: Fixture):
    run = SamplingRun(fixture)
    x = run.sample([run.denoiser("", "")], run.tensors["noise"])
    assert error(x, run.after_last_step())[1] < SAMPLING_RMS
    if any(key.startswith("no_ref_views.") for key in run.tensors):
        x = run.sample([run.denoiser("no_ref_views.", "no_ref_views.")], run.tensors["noise"])
        assert error(x, run.after_last_step("no_ref_views."))[1] < SAMPLING_RMS


@pytest.mark.parametrize("fixture", fixtures_of("sampler"))
def test_parity_of_the_pass_that_alternates_in_time(fixture: Fixture):
    run = SamplingRun(fixture)
    if "dense.noise" not in run.tensors:
        pytest.skip("this model samples without it")
    noise = run.tensors["dense.noise"]
    backward = reversed_in_time(run.denoiser("dense.backward.", "dense.backward."), len(noise))
    forward = run.denoiser("dense.forward.", "dense.forward.")
    x = run.sample([backward, forward], noise.flatten(0, 1))
    expected = run.tensors[f"dense.latents_after_step{run.meta['num_steps'] - 1}"]
    assert error(x.view(expected.shape), expected)[1] < SAMPLING_RMS


@pytest.mark.parametrize("fixture", fixtures_of("sampler")[:1])
def test_parity_of_steps_and_of_halves_that_run_one_after_the_other(fixture: Fixture):
    run = SamplingRun(fixture)
    steps: list[int] = []
    denoise = run.denoiser("", "", together=False)
    x = run.sample([denoise], run.tensors["noise"], steps.append)
    assert error(x, run.after_last_step())[1] < SAMPLING_RMS
    assert steps == list(range(1, run.meta["num_steps"] + 1))


class SamplingRun:
    """A run of the reference implementation: network, conditionings, guidance."""

    def __init__(self, fixture: Fixture):
        self.meta, self.tensors = fixture.meta, fixture.tensors()
        network_path = fixture.path.parent / self.meta["network"].split(" ")[0]
        self.network = Fixture(network_path.resolve())
        self.predict = predictor(read_network(self.network))
        schedule = self.meta["discretization"]
        self.sigmas = karras_sigmas(self.meta["num_steps"], **schedule)

    def denoiser(self, own: str, fallback: str, together: bool = True) -> Denoiser:
        conditional = self.conditioning(f"{own}c.")
        unconditional = without_image(conditional, self.network.meta["vector_parts"][0])
        stored = self.conditioning(f"{own}uc.")
        for name, value in vars(stored).items():
            if value is not None:
                assert torch.equal(getattr(unconditional, name), value), name
        scale = self.scale()
        torch.testing.assert_close(
            scale, self.tensors["guidance_scale_per_frame"], atol=EXACT, rtol=EXACT
        )
        return guided_denoiser(self.predict, conditional, unconditional, scale, together)

    def conditioning(self, prefix: str) -> Conditioning:
        """A key missing under `no_ref_views.` equals the one without."""

        def find(name: str) -> Tensor | None:
            plain = prefix.removeprefix("no_ref_views.")
            return self.tensors.get(f"{prefix}{name}", self.tensors.get(f"{plain}{name}"))

        context = find("crossattn")
        reference = find("cond_view")
        concat, vector = find("concat"), find("vector")
        assert context is not None and concat is not None and vector is not None
        context = context.squeeze(1) if reference is None else context[0]
        return Conditioning(concat, context, vector, reference)

    def scale(self) -> Tensor:
        options: dict[str, Any] = self.meta.get("run_time_options", self.meta)
        frames, T, V = self.meta["F"], self.meta["T"], self.meta["V"]
        high = options["cfg"] if "cfg" in options else options["max_scale"]
        match self.meta["guider"]:
            case "TrianglePredictionGuider":
                return orbit_scale(frames, options["min_scale"], high)
            case "LinearPredictionGuider":
                return linear_scale(frames, 1.0, high)  # has no use for min_cfg
            case "SpatiotemporalPredictionGuider":
                return space_time_scale(T, V, options.get("min_cfg", 1.0), high)
        raise NotImplementedError(self.meta["guider"])

    def sample(self, denoisers: list[Denoiser], noise: Tensor, on_step=None) -> Tensor:
        torch.testing.assert_close(self.sigmas, self.tensors["sigmas"], atol=EXACT, rtol=EXACT)
        with torch.inference_mode():
            return euler(denoisers, start(noise, self.sigmas), self.sigmas, on_step)

    def after_last_step(self, prefix: str = "") -> Tensor:
        return self.tensors[f"{prefix}x_after_step{self.meta['num_steps'] - 1}"]


@pytest.mark.parametrize("fixture", fixtures_of("conditioner", "sv*"))
def test_parity_of_conditionings(fixture: Fixture):
    meta, tensors = fixture.meta, fixture.tensors()
    T, V, widths = meta["T"], meta["V"], tuple(meta["vector_parts"])
    polar = tensors.get("polar_rad", tensors.get("polars_rad"))
    azimuth = tensors.get("azimuth_rad", tensors.get("azimuths_rad"))
    if "c.cond_view" in tensors:
        assert polar is not None and azimuth is not None
        found = grid_conditioning(
            tensors["c.cond_motion"],  # the input video's latents: the reference encodes them twice
            tensors["c.crossattn"][0],
            camera_vector(polar[:V], azimuth[:V], widths),
            tensors["c.cond_view"],
        )
        context, zeroed = found.context[None], widths[0]
    else:
        vector = (
            augmentation_vector(T, widths[0])
            if polar is None or azimuth is None
            else camera_vector(polar, azimuth, widths)
        )
        found = orbit_conditioning(tensors["c.concat"][0], tensors["c.crossattn"][0, 0], vector)
        context, zeroed = found.context[:, None], 0
    assert torch.equal(found.concat, tensors["c.concat"])
    assert torch.equal(context, tensors["c.crossattn"])
    torch.testing.assert_close(found.vector, tensors["c.vector"], atol=EXACT, rtol=0)
    assert torch.equal(
        without_image(found, zeroed).vector[:, :zeroed], tensors["uc.vector"][:, :zeroed]
    )
    for key in ("uc.concat", "uc.crossattn"):
        assert not tensors[key].any()


@pytest.mark.parametrize("fixture", fixtures_of("conditioner", "embedders_and_constants"))
def test_parity_of_embedders(fixture: Fixture):
    tensors = fixture.tensors()
    names = [key.removesuffix(".in") for key in tensors if key.endswith(".in")]
    assert names
    for name in names:
        expected = tensors[f"{name}.out"]
        found = sinusoidal_embedding(tensors[f"{name}.in"], expected.shape[-1])
        torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("fixture", fixtures_of("conditioner", "embedders_and_constants"))
def test_parity_of_the_image_encoders_preprocessing(fixture: Fixture):
    tensors = fixture.tensors()
    names = [key.removesuffix(".in_uint8") for key in tensors if key.endswith(".in_uint8")]
    assert names
    for name in names:
        images = tensors[f"{name}.in_uint8"].float() / 255 * 2 - 1
        assert float((clip_preprocess(images) - tensors[f"{name}.out"]).abs().max()) < IMAGE


@pytest.mark.parametrize("fixture", fixtures_of("conditioner", "embedders_and_constants"))
def test_parity_of_noise_levels_and_preconditioning(fixture: Fixture):
    tensors = fixture.tensors()
    for key in (key for key in tensors if key.startswith("sigmas.")):
        _, sigma_max, steps = key.replace("_", ".").split(".")
        found = karras_sigmas(int(steps), sigma_max=float(sigma_max))
        torch.testing.assert_close(found, tensors[key], atol=EXACT, rtol=EXACT)
    for index, sigma in enumerate(tensors["scaling.sigma"].tolist()):
        for name, value in coefficients(sigma)._asdict().items():
            expected = float(tensors[f"scaling.{name}"][index])
            assert math.isclose(value, expected, rel_tol=EXACT, abs_tol=EXACT), name


@pytest.mark.parametrize("fixture", fixtures_of("vae"))
def test_parity_of_the_autoencoder(fixture: Fixture):
    meta = fixture.meta
    sizes = meta["ddconfig"]
    config = VAEConfig(sizes["ch"], tuple(sizes["ch_mult"]), sizes["num_res_blocks"])
    published: dict[str, Tensor] = {}
    for name in meta["weights"]:
        published |= load_file(fixture.path.with_name(name))
    encoder, decoder = VAEEncoder(config).eval(), VAEDecoder(config).eval()
    encoder.load_state_dict(encoder_state(_part(published, "conditioner.embedders.1.encoder.")))
    decoder.load_state_dict(decoder_state(_part(published, "first_stage_model.")))
    io = fixture.tensors(".io.safetensors")
    with torch.inference_mode():
        assert error(encoder(io["image"]), io["latent_mode_unscaled"])[0] < IMAGE
        assert error(decoder(io["denoised_latent_scaled"]), io["decoded"])[0] < IMAGE


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
