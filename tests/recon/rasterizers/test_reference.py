"""The oracle against a slow loop over pixels and Gaussians, and against finite differences."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from recon.grid.cameras import orbit_camera
from recon.rasterizers import reference
from recon.rasterizers.reference import rasterize_reference
from recon.rendering import camera_tensors

HEIGHT, WIDTH = 11, 14


class Scene(NamedTuple):
    """Activated Gaussians, as a rasterizer takes them."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor


def random_scene(count: int = 30, seed: int = 0) -> Scene:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return Scene(
        means=1.2 * uniform(count, 3) - 0.6,
        quats=uniform(count, 4) - 0.5,
        scales=0.02 + 0.3 * uniform(count, 3),
        opacities=uniform(count),
        colors=uniform(count, 3),
    )


def special_scene() -> Scene:
    """Thin, huge, opaque, transparent, beside the image, behind the camera and on its plane."""
    scene = random_scene(9, seed=3)
    scene.scales[0] = torch.tensor([1e-4, 1e-4, 0.5])
    scene.scales[1] = 3.0
    scene.opacities[2] = 1.0
    scene.opacities[3] = 0.0
    scene.means[4] = torch.tensor([3.0, 0.0, 0.0])
    scene.means[5] = torch.tensor([0.5, -8.0, 0.2])
    scene.means[6] = torch.tensor([0.3, -3.2, 0.0])
    scene.means[7] = torch.tensor([0.05, -3.1, 0.02])
    scene.scales[7] = 0.2
    return scene


def cameras(views: int = 2) -> tuple[Tensor, Tensor]:
    orbit = [orbit_camera(40 * k, 10 * k, 3.2, 33.8, HEIGHT, WIDTH) for k in range(views)]
    return camera_tensors(orbit, torch.zeros(1, dtype=torch.float64))


def draw(scene: Scene, views: int = 2, **arguments: Tensor) -> reference.Rendering:
    viewmats, Ks = cameras(views)
    return rasterize_reference(
        *scene, viewmats=viewmats, Ks=Ks, height=HEIGHT, width=WIDTH, **arguments
    )


def splat(mean, quat, scale, viewmat, K) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Center in pixels, inverse 2×2 covariance and depth; None behind the camera."""
    rotation = viewmat[:3, :3]
    x, y, z = rotation @ mean + viewmat[:3, 3]
    if z <= 0.01:
        return None
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    half_x, half_y = 0.5 * WIDTH / fx, 0.5 * HEIGHT / fy
    x_limited = z * min(max(x / z, -cx / fx - 0.3 * half_x), (WIDTH - cx) / fx + 0.3 * half_x)
    y_limited = z * min(max(y / z, -cy / fy - 0.3 * half_y), (HEIGHT - cy) / fy + 0.3 * half_y)
    jacobian = np.array([[fx / z, 0, -fx * x_limited / z**2], [0, fy / z, -fy * y_limited / z**2]])
    axes = Rotation.from_quat(quat, scalar_first=True).as_matrix()
    covariance = axes @ np.diag(scale**2) @ axes.T
    seen = jacobian @ rotation @ covariance @ rotation.T @ jacobian.T + 0.3 * np.eye(2)
    return np.array([fx * x / z + cx, fy * y / z + cy]), np.linalg.inv(seen), z


def slow_images(scene: Scene, backgrounds: np.ndarray, views: int = 2) -> list[np.ndarray]:
    """One pixel and one Gaussian after the other, as the rules of gsplat say it in words."""
    viewmats, Ks = (tensor.numpy() for tensor in cameras(views))
    means, quats, scales, opacities, colors = (tensor.numpy() for tensor in scene)
    rgb, alpha, depth = (np.zeros((views, HEIGHT, WIDTH, c)) for c in (3, 1, 1))
    for v in range(views):
        splats = []
        for i in range(len(means)):
            seen = splat(means[i], quats[i], scales[i], viewmats[v], Ks[v])
            if seen is not None:
                splats.append((seen[2], i, *seen[:2]))
        splats.sort(key=lambda entry: entry[0])
        for row, column in np.ndindex(HEIGHT, WIDTH):
            transmittance = 1.0
            for z, i, center, conic in splats:
                offset = np.array([column + 0.5, row + 0.5]) - center
                opacity = min(0.999, opacities[i] * math.exp(-0.5 * offset @ conic @ offset))
                if opacity < 1 / 255:
                    continue
                if transmittance * (1 - opacity) <= 1e-4:
                    break
                weight = opacity * transmittance
                rgb[v, row, column] += weight * (colors[v, i] if colors.ndim == 3 else colors[i])
                depth[v, row, column] += weight * z
                transmittance *= 1 - opacity
            rgb[v, row, column] += transmittance * backgrounds[v]
            alpha[v, row, column] = 1 - transmittance
    return [rgb, alpha[..., 0], depth[..., 0]]


@pytest.mark.parametrize(
    "scene",
    [random_scene(), special_scene(), random_scene(0)],
    ids=["random", "special", "empty"],
)
def test_the_reference_agrees_with_a_loop_over_pixels_and_gaussians(scene: Scene):
    backgrounds = torch.tensor([[1.0, 1.0, 1.0], [0.1, 0.5, 0.9]], dtype=torch.float64)
    found = draw(scene, backgrounds=backgrounds)
    for part, expected in zip(found, slow_images(scene, backgrounds.numpy()), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-12)


def test_a_stack_of_opaque_gaussians_ends_at_the_smallest_transmittance():
    scene = random_scene(40)
    scene.means.mul_(0.2)
    scene.scales.fill_(0.3)
    scene.opacities.fill_(0.9)
    found = draw(scene)
    assert found.alpha.max() > 0.999
    assert found.alpha.max() < 1 - 1e-4
    for part, expected in zip(found, slow_images(scene, np.zeros((2, 3))), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-12)


def test_colors_may_depend_on_the_view():
    scene = random_scene(10)
    per_view = scene._replace(colors=torch.stack([scene.colors, 1 - scene.colors]))
    expected = slow_images(per_view, np.zeros((2, 3)))
    np.testing.assert_allclose(draw(per_view).rgb, expected[0], atol=1e-12)


def test_the_default_background_is_black():
    black = torch.zeros(2, 3, dtype=torch.float64)
    assert torch.equal(draw(random_scene()).rgb, draw(random_scene(), backgrounds=black).rgb)


def test_without_gaussians_only_the_background_is_drawn():
    backgrounds = torch.rand(2, 3, dtype=torch.float64)
    images = draw(random_scene(0), backgrounds=backgrounds)
    assert torch.equal(images.rgb, backgrounds[:, None, None].expand(2, HEIGHT, WIDTH, 3))
    assert images.alpha.abs().max() == 0
    assert images.depth.abs().max() == 0


def test_the_order_of_the_gaussians_does_not_matter():
    scene = random_scene()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    shuffled = Scene(*(tensor[order] for tensor in scene))
    for a, b in zip(draw(scene), draw(shuffled), strict=True):
        torch.testing.assert_close(a, b)


def test_the_size_of_the_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    scene = random_scene()
    whole = draw(scene)
    monkeypatch.setattr(reference, "PIXELS_AT_ONCE", 700)
    for a, b in zip(draw(scene), whole, strict=True):
        torch.testing.assert_close(a, b)


def test_single_precision_is_near_to_double():
    scene = random_scene()
    viewmats, Ks = cameras()
    single = rasterize_reference(
        *Scene(*(tensor.float() for tensor in scene)),
        viewmats=viewmats.float(),
        Ks=Ks.float(),
        height=HEIGHT,
        width=WIDTH,
    )
    for a, b in zip(single, draw(scene), strict=True):
        assert a.dtype == torch.float32
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize(
    "scene", [random_scene(6, seed=5), special_scene()], ids=["random", "special"]
)
def test_gradients_agree_with_finite_differences(scene: Scene):
    inputs = tuple(tensor.requires_grad_() for tensor in scene)
    probe = torch.zeros(1, len(scene.means), 2, dtype=torch.float64, requires_grad=True)

    def images(*tensors: Tensor) -> tuple[Tensor, ...]:
        *gaussians, means2d = tensors
        return tuple(draw(Scene(*gaussians), views=1, means2d=means2d))

    assert torch.autograd.gradcheck(images, (*inputs, probe), eps=1e-7, atol=1e-4, fast_mode=True)


def test_invisible_gaussians_get_neither_gradient_nor_nan():
    scene = special_scene()
    for tensor in scene:
        tensor.requires_grad_()
    images = draw(scene)
    (images.rgb.sum() + images.alpha.sum() + images.depth.sum()).backward()
    for tensor in scene:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    behind = [5, 6]
    assert scene.means.grad is not None
    view = draw(Scene(*(tensor[behind] for tensor in scene)), views=1)
    assert view.alpha.abs().max() == 0


def test_the_probe_gets_the_gradient_of_the_projected_means():
    scene = random_scene(8)
    probe = torch.zeros(2, 8, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, HEIGHT, WIDTH, 3, dtype=torch.float64)
    (draw(scene, means2d=probe).rgb * weights).sum().backward()
    assert probe.grad is not None
    step, view, index = 1e-6, 1, int(probe.grad[1].norm(dim=1).argmax())
    for axis in range(2):
        values = []
        for sign in (-1, 1):
            shift = torch.zeros(2, 8, 2, dtype=torch.float64)
            shift[view, index, axis] = sign * step
            values.append((draw(scene, means2d=shift).rgb * weights).sum())
        slope = (values[1] - values[0]) / (2 * step)
        torch.testing.assert_close(probe.grad[view, index, axis], slope, rtol=1e-5, atol=1e-6)


def test_the_projected_means_are_those_of_the_camera():
    scene, camera = random_scene(), orbit_camera(30, 20, 2.5, 40, HEIGHT, WIDTH)
    viewmats, Ks = camera_tensors([camera], scene.means)
    found = reference.project(
        scene.means, scene.quats, scene.scales, viewmats[0], Ks[0], HEIGHT, WIDTH
    )
    pixels, depth = camera.project(scene.means.numpy())
    np.testing.assert_allclose(found.means2d.numpy(), pixels)
    np.testing.assert_allclose(found.depths.numpy(), depth)
