import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.exporters.glb_splats import EXTENSION, gaussians_from_glb, glb_from_gaussians
from recon.exporters.gltf import GlbWriter, read_glb
from recon.gaussians import Gaussians, sh0_to_rgb


def test_a_glb_read_back_is_the_gaussians_with_unit_quaternions(random_gaussians: Gaussians):
    read = gaussians_from_glb(glb_from_gaussians(random_gaussians))
    expected = random_gaussians._replace(quats=F.normalize(random_gaussians.quats, dim=-1))
    for name in Gaussians._fields:
        torch.testing.assert_close(
            getattr(read, name), getattr(expected, name), atol=1e-5, rtol=1e-5
        )


def test_values_are_activated_and_quaternions_have_the_scalar_last(random_gaussians: Gaussians):
    glb = read_glb(glb_from_gaussians(random_gaussians))
    attributes = glb.json["meshes"][0]["primitives"][0]["attributes"]
    found = {name: glb.array(index) for name, index in attributes.items()}
    unit = F.normalize(random_gaussians.quats, dim=-1).numpy()
    np.testing.assert_array_equal(found[f"{EXTENSION}:ROTATION"], unit[:, [1, 2, 3, 0]])
    np.testing.assert_allclose(found[f"{EXTENSION}:SCALE"], random_gaussians.scales.exp())
    np.testing.assert_allclose(
        found[f"{EXTENSION}:OPACITY"], random_gaussians.opacities.sigmoid(), rtol=1e-6
    )
    np.testing.assert_array_equal(
        found[f"{EXTENSION}:SH_DEGREE_2_COEF_1"], random_gaussians.shN[:, 4]
    )


def test_the_fallback_color_is_linear(random_gaussians: Gaussians):
    glb = read_glb(glb_from_gaussians(random_gaussians))
    color = glb.array(glb.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"])
    srgb = sh0_to_rgb(random_gaussians.sh0[:, 0]).clamp(0, 1).numpy()
    middle = (srgb > 0.1) & (srgb < 0.9)
    assert (color[:, :3] < srgb)[middle].all()
    np.testing.assert_allclose(color[:, :3], srgb**2.2, atol=0.02)


def test_the_extension_is_used_but_not_required(random_gaussians: Gaussians):
    document = read_glb(glb_from_gaussians(random_gaussians)).json
    assert document["extensionsUsed"] == [EXTENSION]
    assert "extensionsRequired" not in document
    assert document["meshes"][0]["primitives"][0]["mode"] == 0


def test_a_glb_without_gaussians_is_refused():
    writer = GlbWriter()
    writer.accessor(np.zeros(3, np.float32))
    with pytest.raises(InputError, match="Gaussians"):
        gaussians_from_glb(writer.glb())
