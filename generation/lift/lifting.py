"""Lifting of a clip: from its images to the images of all views.

    images ──network──▶ yaw of each frame ──yaw_path──▶ yaw, or unknown ─┐
    images ──────────────────────────────────────────────────────────────┴─network──▶ surface layers
    layers ──smoothed──▶ layers, over time
    layers, image ──surface_of──▶ surface of a frame ──draw──▶ its views

The network sees each image and its mirror image; the two predictions are averaged. It was trained
with one camera: other fields of view and distances change the scale of its depths alone.

Letters: T frames, V views that are drawn, H × W pixels of the clip, S × S of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from generation.lift.drawing import draw
from generation.lift.gaussians import gaussians_of
from generation.lift.hidden_colors import without_details
from generation.lift.network import YAW_BINS, LiftNetwork, LiftPrediction
from generation.lift.smoothing import smoothed
from generation.lift.surface import surface_of
from generation.lift.yaw import confidence, mirrored_bins, yaw_path
from generation.surface_layers import BACK, FIRST_EXIT, FRONT, LAST_ENTRY, SurfaceLayers
from recon.devices import usable_threads
from recon.errors import DivergedError, Interrupted
from recon.grid import Camera
from recon.grid.initial_gaussians import InitialGaussians
from recon.progress import Eta, OnStep, Progress, ShouldStop, ignore_progress, never_stop

FOV_DEG, DISTANCE = 33.8, 3.2  # of the training's camera, `generation.curation.render.settings`
GAUSSIANS = 8000  # for a fit to start from, as many as for the quality "high" at 256²
BATCH = 8  # frames at once; the network sees twice as many images
SURE = 0.5  # confidence from which the network is given the yaw; chosen on held-out assets
FACING_RAD = math.radians(50.0)  # yaw up to which an object faces the camera
FACES_CAMERA = 0.4  # mean probability of that over a clip, from which it counts
INSIDE = 0.5  # alpha from which a pixel of the network's images shows the object


class LiftedLayers(NamedTuple):
    """Predicted layers of a clip.

    Attributes:
        depth: depths of the four layers minus the camera's distance, in world units of the
            training, [T, 4, S, S].
        gap: logit of whether the ray meets two parts, [T, S, S].
        color: sRGB colors of first exit, last entry and back, uint8, [T, 3, 3, S, S].
        yaw: yaw of the object in radians that the network was given, NaN where it is unknown, [T].
        facing: probability that the object faces the camera, within `FACING_RAD`, [T].
    """

    depth: Tensor
    gap: Tensor
    color: Tensor
    yaw: Tensor
    facing: Tensor


@dataclass
class Steps:
    """Progress of a lifting, which counts each frame in each phase.

    Attributes:
        left: steps that are left at the start.
        on_step: called after each step.
        should_stop: called after each step; True stops the lifting.
        before: steps that an earlier, interrupted run has done.
    """

    left: int
    on_step: OnStep = ignore_progress
    should_stop: ShouldStop = never_stop
    before: int = 0
    _done: int = field(default=0, init=False)

    def __post_init__(self):
        self._eta = Eta(self.left)

    def advance(self, phase: str, steps: int = 1) -> None:
        """Count steps of a phase.

        Raises:
            Interrupted: `should_stop` returned True.
        """
        self._done += steps
        self._eta.tick(steps)
        total = self.before + self.left
        self.on_step(Progress(phase, self.before + self._done, total, self._eta.seconds_left))
        if self.should_stop():
            raise Interrupted(f"stopped while lifting ({phase})")


class Predictor(NamedTuple):
    """A network on a device, and how it is called.

    Attributes:
        network: the network.
        dtype: floating-point type of its matrix products.
        batch: number of frames at once.
    """

    network: LiftNetwork
    dtype: torch.dtype = torch.float32
    batch: int = BATCH

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def calls(self, images: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Iterate over frames and their images on the device, each followed by all mirrored ones.

        Args:
            images: premultiplied sRGB and alpha in [0, 1], [T, 4, S, S].
        """
        for first in range(0, len(images), self.batch):
            batch = images[first : first + self.batch].to(self.device)
            with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
                yield slice(first, first + len(batch)), torch.cat([batch, batch.flip(-1)])


def network_images(images: np.ndarray, size: int) -> Tensor:
    """Resize a clip for the network.

    Args:
        images: RGBA, sRGB with straight alpha, uint8, [T, H, W, 4].
        size: side of the result S.

    Returns:
        Premultiplied sRGB and alpha in [0, 1], [T, 4, S, S].
    """
    found = torch.empty(len(images), 4, size, size)
    for t, image in enumerate(images):
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        pixels[:, :3] *= pixels[:, 3:]
        found[t] = interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0]
    return found


@torch.inference_mode()
def predict_yaw(
    predictor: Predictor, images: Tensor, elevation_rad: float, steps: Steps
) -> np.ndarray:
    """Predict the yaw of each frame, consistent over the clip.

    A wrong yaw is worse than none, so that it is unknown unless the network is sure.

    Args:
        predictor: the network.
        images: see `network_images`.
        elevation_rad: elevation of the camera.
        steps: counts the frames.

    Returns:
        Yaw in radians in [0, 2π), [T]; 0 faces the camera, π/2 the right of the image. NaN
        everywhere if it is unknown.

    Raises:
        DivergedError: the network gave values that are not finite.
    """
    found = []
    for frames, both in predictor.calls(images):
        elevation = both.new_full((len(both),), elevation_rad)
        logits = _finite(predictor.network(both, elevation), frames).yaw
        own, mirrored = (
            torch.log_softmax(logits, -1).double().cpu().numpy().reshape(2, -1, logits.shape[-1])
        )
        found.append((own + mirrored_bins(mirrored)) / 2)
        steps.advance("direction", len(own))
    log_probs = np.concatenate(found)
    shown = _shows_object(images)
    log_probs[~shown] = -math.log(log_probs.shape[1])
    yaw = yaw_path(log_probs)
    is_sure = confidence(log_probs[shown], yaw[shown]) >= SURE
    return yaw if is_sure else np.full_like(yaw, np.nan)


@torch.inference_mode()
def predict_layers(
    predictor: Predictor,
    images: Tensor,
    elevation_rad: float,
    yaw: np.ndarray,
    steps: Steps,
) -> LiftedLayers:
    """Predict the layers of all frames.

    Args:
        predictor: the network.
        images: see `network_images`.
        elevation_rad: elevation of the camera.
        yaw: yaw in radians, NaN where it is unknown, [T].
        steps: counts the frames.

    Raises:
        DivergedError: the network gave values that are not finite.
    """
    parts = []
    turned = torch.from_numpy(yaw).float()
    for frames, both in predictor.calls(images):
        own_yaw = turned[frames].to(both.device)
        prediction = predictor.network(
            both, both.new_full((len(both),), elevation_rad), torch.cat([own_yaw, -own_yaw])
        )
        parts.append(_averaged(_finite(prediction, frames)))
        steps.advance("layers", len(own_yaw))
    depth, gap, color, facing = (torch.cat(each) for each in zip(*parts, strict=True))
    known = ~torch.isnan(turned)
    facing = torch.where(known, (turned.cos() > math.cos(FACING_RAD)).float(), facing)
    return LiftedLayers(depth, gap, color, turned, facing)


def _finite(prediction: LiftPrediction, frames: slice) -> LiftPrediction:
    """Return the prediction of some frames; raise DivergedError if it has NaN or infinities."""
    if not all(torch.isfinite(values).all() for values in prediction):
        raise DivergedError(
            f"frames {frames.start}–{frames.stop - 1}: the network gave values that are not "
            "finite; try --precision float32, or check the weights with `fourdvd models verify`"
        )
    return prediction


def _averaged(prediction: LiftPrediction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Average the predictions of images and of their mirror images; on the CPU.

    Returns:
        Depth, gap and color of `LiftedLayers`, and the probability that the yaw is near 0.
    """

    def mean(both: Tensor) -> Tensor:
        own, mirrored = both.float().chunk(2)
        return ((own + mirrored.flip(-1)) / 2).cpu()

    color = (255 * mean(prediction.color)).round().clamp(0, 255).to(torch.uint8)
    bins = torch.arange(YAW_BINS, device=prediction.yaw.device) * (2 * math.pi / YAW_BINS)
    probability = prediction.yaw.softmax(1)[:, bins.cos() > math.cos(FACING_RAD)].sum(1)
    facing = probability.view(2, -1).mean(0).cpu()
    return mean(prediction.depth), mean(prediction.gap), color, facing


def surface_layers(layers: LiftedLayers, images: Tensor, clip: np.ndarray) -> list[SurfaceLayers]:
    """Return the layers of all frames as the training's camera sees them, smoothed over time.

    Args:
        layers: layers of the clip.
        images: see `network_images`, [T, 4, S, S].
        clip: RGBA, uint8, [T, H, W, 4].
    """
    shown = layers.facing[torch.from_numpy(_shows_object(images))]
    faces_camera = len(shown) > 0 and float(shown.mean()) > FACES_CAMERA
    frames = zip(layers.depth, layers.gap, layers.color, images, strict=True)
    return smoothed([_surface_layers(*frame, faces_camera) for frame in frames], clip)


def _surface_layers(
    depth: Tensor, gap: Tensor, color: Tensor, image: Tensor, faces_camera: bool
) -> SurfaceLayers:
    """Return the layers of a frame; an object that faces the camera has no face on its back."""
    mask = image[3].numpy() >= INSIDE
    is_gap = mask & (gap.numpy() > 0)
    depths = DISTANCE + depth.numpy()
    depths[FIRST_EXIT : LAST_ENTRY + 1, ~is_gap] = depths[[FRONT, BACK]][:, ~is_gap].mean(0)
    own = (255 * image[:3] / image[3].clamp(min=1 / 255)).round().clamp(0, 255).to(torch.uint8)
    colors = torch.cat([own[None], color]).permute(0, 2, 3, 1).numpy()
    if faces_camera:
        for layer, known in ((FIRST_EXIT, is_gap), (BACK, mask)):
            colors[layer] = without_details(colors[layer], colors[FRONT], known)
    colors[FIRST_EXIT : LAST_ENTRY + 1, ~is_gap] = colors[[BACK, FRONT]][:, ~is_gap]
    return SurfaceLayers(
        np.where(mask, depths, 0).astype(np.float32), colors * mask[..., None], mask, is_gap
    )


def seen_by(layers: SurfaceLayers, fov_deg: float, distance: float) -> SurfaceLayers:
    """Move layers from the training's camera to another one.

    Args:
        layers: layers of one frame.
        fov_deg: field of view of the other camera.
        distance: distance of the other camera.
    """

    def width(fov: float, far: float) -> float:
        """Return half the width that a camera sees at its distance."""
        return far * math.tan(math.radians(fov) / 2)

    scale = width(fov_deg, distance) / width(FOV_DEG, DISTANCE)
    moved = distance + scale * (layers.depth - DISTANCE)
    return layers._replace(depth=np.where(layers.mask, moved, 0).astype(np.float32))


def draw_views(
    layers: Sequence[SurfaceLayers],
    images: np.ndarray,
    input_camera: Camera,
    cameras: Sequence[Camera],
    steps: Steps,
) -> np.ndarray:
    """Draw all views of all frames.

    Args:
        layers: layers of each frame, T.
        images: the clip, RGBA, uint8, [T, H, W, 4].
        input_camera: camera of the clip.
        cameras: V cameras of the views.
        steps: counts the frames.

    Returns:
        RGBA, uint8, [V, T, H, W, 4].
    """
    found = np.empty((len(cameras), *images.shape), np.uint8)

    def draw_frame(t: int) -> None:
        found[:, t] = draw(surface_of(layers[t], images[t], input_camera), cameras)

    with ThreadPoolExecutor(usable_threads()) as pool:
        futures = [pool.submit(draw_frame, t) for t in range(len(images))]
        try:
            for future in futures:
                future.result()
                steps.advance("views")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def middle_gaussians(
    layers: Sequence[SurfaceLayers], images: np.ndarray, input_camera: Camera
) -> InitialGaussians | None:
    """Cover the surface of the middle frame with Gaussians, for a fit to start from.

    Args:
        layers: layers of each frame, T.
        images: the clip, RGBA, uint8, [T, H, W, 4].
        input_camera: camera of the clip.

    Returns:
        None if the frame shows no object.
    """
    middle = len(layers) // 2
    found = gaussians_of(surface_of(layers[middle], images[middle], input_camera), GAUSSIANS)
    if len(found.means) == 0:
        return None
    arrays = (found.means, found.quats, found.scales, found.opacities, found.sh0)
    return InitialGaussians(middle, *(tensor.numpy() for tensor in arrays))


def _shows_object(images: Tensor) -> np.ndarray:
    """Return whether each image has a pixel of the object, bool, [T]."""
    return (images[:, 3] >= INSIDE).flatten(1).any(1).numpy()
