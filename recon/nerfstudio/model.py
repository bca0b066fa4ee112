"""The model: a fit of `recon.fitting` while it trains, its scene once a checkpoint is loaded.

The fit keeps its own optimizer, because densification and frames that join change the parameters;
nerfstudio's trainer calls `backward` on the loss, and a callback ends the step.
Letters: V views of a step, H × W pixels. Frame: world, +Z up.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
    TrainingCallbackLocation,
)
from nerfstudio.model_components import renderers
from nerfstudio.models.base_model import Model, ModelConfig
from torch import Tensor
from tyro.conf import Suppress

from recon.errors import InputError
from recon.evaluation.evaluating import over_white
from recon.fitting.checkpoint import (
    FORMAT,
    VERSION,
    fit_identity,
    fit_state,
    restore_fit,
    scene_of_state,
)
from recon.fitting.config import DEFAULT_MOTION, DEFAULT_QUALITY, FitConfig, fit_config
from recon.fitting.fit import Fit, ForwardPass
from recon.fitting.reconstruction import fitted_scene
from recon.gaussians import Gaussians
from recon.grid import Camera, Grid
from recon.losses import LossWeights, image_loss_reference
from recon.metrics.image import psnr, silhouette_iou, ssim
from recon.nerfstudio.datamanager import BATCH
from recon.nerfstudio.failures import sentences
from recon.rasterizers import Rendering
from recon.rendering import render_gaussians
from recon.resume import SavedState, differences, tensors_of
from recon.scene import Scene

STATE, DESCRIPTION = "fit.", "fit_description"  # keys of a state dictionary
HOMOGENEOUS = torch.tensor([[0.0, 0.0, 0.0, 1.0]])


@dataclass
class FourdvdModelConfig(ModelConfig):
    """Settings of the model, those of `fourdvd reconstruct`."""

    _target: Callable[..., Any] = field(default_factory=lambda: FourdvdModel)
    enable_collider: Suppress[bool] = False
    quality: Literal["draft", "standard", "high"] = DEFAULT_QUALITY  # pyright: ignore
    """Numbers of Gaussians, and of iterations unless --max-num-iterations is given."""
    motion: Literal["bones", "hexplane", "keyframes", "static"] = DEFAULT_MOTION  # pyright: ignore
    """Motion model."""
    sh_degree: Literal[0, 1, 2, 3] = 0
    """Degree of the spherical harmonics; above 0 colors depend on the view."""
    seed: int = 0
    """Random seed; on a CPU the same seed gives the same scene."""
    iterations: Suppress[int] = 0
    """Iterations of the whole fit; the trainer sets it. 0: by quality and number of frames."""

    def fit_config(self, grid: Grid, device: str) -> FitConfig:
        """Return the settings of the fit of a grid.

        Raises:
            InputError: a setting is not valid.
        """
        config = fit_config(self.quality, self.motion, device, self.seed, self.sh_degree)
        config = config.for_grid(max(grid.height, grid.width), grid.T)
        return replace(config, iterations=self.iterations or config.iterations)


class FourdvdModel(Model):
    """Deformable Gaussians; arguments as nerfstudio's `Model`.

    Attributes:
        fit: the fit; None unless the model trains.
        scene: the scene of the checkpoint that was loaded instead; None before.
    """

    config: FourdvdModelConfig

    def populate_modules(self) -> None:
        """Begin the fit if there are training images; see `GridDataManager`."""
        super().populate_modules()
        self.fit: Fit | None = None
        self.scene: Scene | None = None
        self.source: Path | None = None
        self._saved: SavedState | None = None
        self._forward: ForwardPass | None = None
        self._loss: Tensor | None = None
        metadata = self.kwargs["metadata"]
        if "grid" in metadata:
            grid, device = metadata["grid"], torch.device(self.kwargs["device"]).type
            self.source = metadata["source"]
            with sentences():
                self.fit = Fit(grid, self.config.fit_config(grid, device))

    def get_param_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """Return no groups: the fit has its own optimizer."""
        return {}

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """End the step of the fit after the trainer's `backward`."""
        after = TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [TrainingCallback([after], self.end_step, update_every_num_iters=1)]

    def end_step(self, step: int) -> None:
        """Take the optimizer's step, densify and prune.

        Raises:
            DivergedError: the rendered images contain NaN or infinities.
        """
        assert self.fit is not None and self._forward is not None and self._loss is not None
        forward, self._forward = self._forward, None
        self.fit.end_step(forward)
        self._loss.detach_()  # the trainer keeps it, and with it a graph of parameters that changed
        self._loss = None

    def current_scene(self) -> Scene:
        """Return the scene of the fit as it is now."""
        assert self.fit is not None
        return fitted_scene(self.fit, self.source)

    def get_outputs(self, ray_bundle: Cameras) -> dict[str, Tensor]:
        """Render the views of a training step, or one camera; see `get_outputs_for_camera`.

        Returns:
            While training, `rgb` over random colors, [V, H, W, 3], `accumulation`, [V, H, W, 1],
            both without gradients, and the `loss`, a scalar.
        """
        batch = (ray_bundle.metadata or {}).get(BATCH)
        if not self.training or self.fit is None or batch is None:
            return self.get_outputs_for_camera(ray_bundle)
        self._forward = self.fit.forward(batch)
        self._loss = self._forward.total
        rendering = self._forward.rendering
        return {
            "rgb": rendering.rgb.detach(),
            "accumulation": rendering.alpha.detach()[..., None],
            "loss": self._loss,
        }

    @torch.no_grad()
    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: OrientedBox | None = None
    ) -> dict[str, Tensor]:
        """Render one camera at its time.

        Args:
            camera: a perspective camera with a time, shape [1] or [].
            obb_box: box to which the Gaussians are cropped.

        Returns:
            `rgb`, [H, W, 3]; `depth`, the mean distance along the ray in world units, and
            `accumulation`, [H, W, 1].

        Raises:
            SystemExit: the camera is no pinhole camera or has no time; a sentence is printed.
        """
        with sentences():
            own, time = _camera(camera)
        rendering = self._render(own, time, obb_box)
        alpha, depth = rendering.alpha[0, ..., None], rendering.depth[0, ..., None]
        expected = depth / alpha.clamp_min(1e-6) * _ray_lengths(own).to(depth)
        return {
            "rgb": rendering.rgb[0].clamp(0, 1),
            "depth": torch.where(alpha > 0, expected, expected.max()),
            "accumulation": alpha,
        }

    def _render(self, camera: Camera, time: float, box: OrientedBox | None) -> Rendering:
        """Render the fit in its own frame, or the scene in the world."""
        scale = 1.0
        if self.fit is not None:
            T_normal_world = self.fit.T_normal_world
            moved = self.fit.deformation(self.fit.gaussians, time)
            inside = None if box is None else box.within(_world(T_normal_world, moved.means))
            camera, scale = T_normal_world.camera(camera), T_normal_world.scale
        else:
            assert self.scene is not None, "a checkpoint is loaded before anything is rendered"
            moved = self.scene.at(time)
            inside = None if box is None else box.within(moved.means)
        if inside is not None:
            moved = Gaussians(*(tensor[inside] for tensor in moved))
        rendering = render_gaussians(moved, [camera], self._background())
        return rendering._replace(depth=rendering.depth / scale)

    def _background(self) -> tuple[float, ...]:
        """Return the color behind the object: white, unless ns-render or the viewer crops."""
        override = renderers.BACKGROUND_COLOR_OVERRIDE
        return (1.0, 1.0, 1.0) if override is None else tuple(override.tolist())

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Return an image with straight alpha, [H, W, 4]."""
        rgb, alpha = outputs[output_name], outputs["accumulation"]
        behind = rgb.new_tensor(self._background()) * (1 - alpha)
        return torch.cat([((rgb - behind) / alpha.clamp_min(1e-6)).clamp(0, 1), alpha], dim=-1)

    def get_metrics_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return the PSNR in dB, and while training the number of Gaussians."""
        if self._forward is not None and self.fit is not None:
            error, count = self._forward.squared_error, len(self.fit.gaussians.means)
            return {"psnr": _decibel(error), "gaussians": torch.tensor(float(count))}
        error = float((outputs["rgb"] - batch["image"].to(outputs["rgb"])).square().mean())
        return {"psnr": _decibel(error)}

    def get_loss_dict(
        self,
        outputs: dict[str, Tensor],
        batch: dict[str, Any],
        metrics_dict: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss of the fit; of an evaluated image its image loss over white."""
        if "loss" in outputs:
            return {"loss": outputs["loss"]}
        rgb, alpha = outputs["rgb"][None], outputs["accumulation"][None, ..., 0]
        height, width = rgb.shape[1:3]
        loss = image_loss_reference(
            rgb, alpha, [batch["rgba"].to(rgb.device)], rgb.new_ones(1, 3),
            torch.tensor([[0, 0, width, height]]), rgb.new_ones(1), LossWeights(),
        )  # fmt: skip
        return {"loss": loss.total}

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the metrics of `fourdvd evaluate`, and truth and rendering side by side."""
        rgb, alpha = outputs["rgb"], outputs["accumulation"]
        image, opacity = rgb.cpu().numpy(), alpha[..., 0].cpu().numpy()
        true_rgb, true_alpha = over_white(batch["rgba"].cpu().numpy())
        metrics = {
            "psnr": psnr(image, true_rgb),
            "ssim": ssim(image, true_rgb),
            "iou": silhouette_iou(opacity, true_alpha),
        }
        truth = batch["image"].to(rgb)
        return metrics, {"img": torch.cat([truth, rgb], dim=1), "accumulation": alpha}

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Add the state of the fit, or the state that was loaded."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        saved = self._saved if self.fit is None else fit_state(self.fit, self._identity())
        if saved is None:
            return
        for name, tensor in saved.tensors.items():
            destination[f"{prefix}{STATE}{name}"] = tensor
        text = json.dumps({"format": FORMAT, "version": VERSION, "state": saved.description})
        description = np.frombuffer(text.encode(), dtype=np.uint8)
        destination[f"{prefix}{DESCRIPTION}"] = torch.from_numpy(description.copy())

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> None:
        """Resume the fit, or show its scene where nothing trains.

        Raises:
            SystemExit: the checkpoint is not one of this method, or belongs to a fit with other
                settings or images; a sentence is printed.
        """
        with sentences():
            saved = _saved_state(state_dict)
            if self.fit is None:
                self._saved = saved
                self.scene = scene_of_state(saved, "the checkpoint").to(self.device)
                return
            found = differences(saved.description["identity"], self._identity())
            if found:
                raise InputError(
                    f"the checkpoint belongs to a run with other settings or images ({found}); "
                    "resume with those, or start a new run without --load-dir"
                )
            device = self.fit.config.device
            tensors = {name: tensor.to(device) for name, tensor in saved.tensors.items()}
            restore_fit(self.fit, SavedState(tensors, saved.description), "the checkpoint")

    def _identity(self) -> dict[str, Any]:
        assert self.fit is not None
        return fit_identity(self.fit.grid, self.fit.config)


def _camera(cameras: Cameras) -> tuple[Camera, float]:
    """Convert one camera of nerfstudio; return it and its time.

    Raises:
        InputError: it is not a pinhole camera, or has no time.
    """
    camera = cameras.reshape((1,))
    if int(camera.camera_type[0]) != CameraType.PERSPECTIVE.value:
        name = CameraType(int(camera.camera_type[0])).name.lower()
        raise InputError(f"the method fourdvd renders perspective cameras, found {name}")
    if camera.times is None:
        raise InputError(
            "the cameras have no times; record the camera path in a viewer of a scene with time, "
            "or give each of its cameras a `render_time` in [0, 1]"
        )
    time = float(camera.times.flatten()[0])
    if not 0 <= time <= 1:
        raise InputError(f"expected cameras with times in [0, 1], found {time:g}")
    pose = torch.cat([camera.camera_to_worlds[0].cpu(), HOMOGENEOUS])
    own = Camera(
        pose.double().numpy(),
        *(float(value.flatten()[0]) for value in (camera.fx, camera.fy, camera.cx, camera.cy)),
        width=int(camera.width.flatten()[0]),
        height=int(camera.height.flatten()[0]),
    )
    return own, time


def _ray_lengths(camera: Camera) -> Tensor:
    """Return the length of the ray of each pixel up to depth 1, [H, W, 1]."""
    x = (torch.arange(camera.width) + 0.5 - camera.cx) / camera.fl_x
    y = (torch.arange(camera.height) + 0.5 - camera.cy) / camera.fl_y
    return (1 + x**2 + y[:, None] ** 2).sqrt()[..., None]


def _world(T_normal_world: Any, means: Tensor) -> Tensor:
    offset = torch.from_numpy(T_normal_world.offset).to(means)
    return (means - offset) / T_normal_world.scale


def _decibel(squared_error: float) -> Tensor:
    return torch.tensor(-10 * math.log10(max(squared_error, 1e-10)))


def _saved_state(state_dict: Mapping[str, Tensor]) -> SavedState:
    """Read the state of a fit from a state dictionary of nerfstudio.

    Raises:
        InputError: there is none, or it is of another version.
    """
    if DESCRIPTION not in state_dict:
        raise InputError("expected a checkpoint of the method fourdvd, found one of another method")
    header = json.loads(bytes(state_dict[DESCRIPTION].cpu().numpy()))
    found = header["format"], header["version"]
    if found != (FORMAT, VERSION):
        raise InputError(f"expected a state {FORMAT} {VERSION}, found {found[0]} {found[1]}")
    return SavedState(tensors_of(state_dict, STATE), header["state"])
