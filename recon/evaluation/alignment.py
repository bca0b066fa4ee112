"""Alignment of a sequence with the truth by a similarity: scale, rotation about up, translation.

    samples of the surface   ──▶ search over yaw and scale by silhouettes  ──▶ a few candidates
    candidates and identity, ──▶ the one most like the small true images,  ──▶ found
    rendered                     polished
    found or identity        ──▶ whichever is more like the whole images   ──▶ Placement

Silhouettes cannot tell front from back where an object is nearly symmetric, so the candidates are
compared by their rendered colors. The rasterizer's low-pass filter widens Gaussians by a part of
a pixel, so that objects would be too fat in small images: Gaussians are rendered at the size of the
truth and averaged like it. The number of evaluations is fixed, which bounds the time.
Letters: I images, N points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from recon.errors import InputError
from recon.evaluation.matching import matching_files
from recon.evaluation.sequences import Frame, FrameFiles, Placement
from recon.grid import Camera, Grid
from recon.metrics.image import SILHOUETTE
from recon.selection import evenly_spaced

MAX_FRAMES, MAX_VIEWS = 2, 6  # images that are compared
SIDE_PX = 48  # longer side of the small images
DRAWN_PX = 512  # longer side of renderings of Gaussians that are averaged to these, at most
POINTS = 2000  # samples of a frame
YAW_STEP_DEG = 10.0
SCALES = (0.7, 0.84, 1.0, 1.19, 1.41)  # around the ratio of the sizes
CANDIDATES = 4
SEPARATE_DEG = 25.0  # candidates differ by more
SEARCH_EVALUATIONS, POLISH_EVALUATIONS = 120, 150
STEPS = np.array([0.06, math.radians(6.0), 0.06, 0.06, 0.06])  # the last three in object sizes
MIN_GAIN = 0.05  # part of the error that a similarity has to take away to be chosen
MIN_VIEWS = 2


class Alignment(NamedTuple):
    """How a sequence was aligned.

    Attributes:
        placement: the similarity; the identity if no other was clearly more like the truth.
        iou_before: IoU of the silhouettes before, over the compared images, at their whole size.
        iou: IoU of the silhouettes after.
    """

    placement: Placement
    iou_before: float
    iou: float

    def __str__(self) -> str:
        x, y, z = self.placement.offset
        if (self.placement.scale, self.placement.yaw_deg, x, y, z) == (1, 0, 0, 0, 0):
            return (
                "aligned with the truth: left as it is, since no similarity found is clearly "
                f"better; IoU of the compared silhouettes {self.iou:.3f}"
            )
        return (
            f"aligned with the truth: scale {self.placement.scale:.4g}, turned by "
            f"{self.placement.yaw_deg:.1f}° about the up axis, moved by ({x:.4g}, {y:.4g}, "
            f"{z:.4g}); IoU of the compared silhouettes {self.iou_before:.3f} → {self.iou:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        offset = [float(value) for value in self.placement.offset]
        ious = {"iou_before": self.iou_before, "iou": self.iou}
        return {**self.placement._asdict(), "offset": offset, **ious}


class _Target(NamedTuple):
    """A true image, averaged over blocks of pixels.

    Attributes:
        frame: index of its frame among those compared.
        image: index of the image in the truth.
        camera: the camera of what is rendered, whose blocks of pixels are averaged.
        rgb: color over white, [H, W, 3].
        alpha: alpha, [H, W].
    """

    frame: int
    image: int
    camera: Camera
    rgb: np.ndarray
    alpha: np.ndarray

    @property
    def block(self) -> int:
        """Side of a block of rendered pixels."""
        return self.camera.width // self.alpha.shape[1]


def align(sequence: FrameFiles, truth: Grid) -> Alignment:
    """Find the similarity that takes a sequence to the truth.

    Args:
        sequence: files of the frames, whose up axis is that of the truth after reading.
        truth: the ground truth, whose alpha shows the object.

    Raises:
        InputError: the truth has fewer than two views or no silhouettes, or a file cannot be read.
    """
    frames, targets = _compared(sequence, truth)
    rng = np.random.default_rng(0)
    points = np.stack([frame.samples(POINTS, rng) for frame in frames])
    center, size = _center_and_radius(targets)
    middle = points.mean(axis=(0, 1))
    ratio = size / max(float(np.sqrt(((points - middle) ** 2).sum(-1).mean())), 1e-12)

    def placement(values: np.ndarray) -> Placement:
        """Place the middle of the points relative to the center of the truth."""
        scale, yaw_deg = ratio * math.exp(values[0]), math.degrees(values[1])
        turned = Placement(scale, yaw_deg).points(middle)
        return Placement(scale, yaw_deg, center + size * values[2:] - turned)

    silhouettes = _Silhouettes(targets)

    def by_points(values: np.ndarray) -> float:
        return 1 - silhouettes.iou(placement(values).points(points))

    def by_renderings(values: np.ndarray) -> float:
        return _difference(frames, targets, placement(values))[0]

    identity = np.array([-math.log(ratio), 0.0, *((middle - center) / size)])
    candidates = [_minimized(by_points, start, SEARCH_EVALUATIONS) for start in _starts(by_points)]
    best = min([identity, *candidates], key=by_renderings)
    found = placement(_minimized(by_renderings, best, POLISH_EVALUATIONS))
    whole = [_target(truth, target.image, target.frame) for target in targets]
    before, iou_before = _difference(frames, whole, Placement())
    after, iou = _difference(frames, whole, found)
    if after >= (1 - MIN_GAIN) * before:
        return Alignment(Placement(), iou_before, iou_before)
    yaw_deg = (found.yaw_deg + 180) % 360 - 180
    return Alignment(found._replace(yaw_deg=yaw_deg), iou_before, iou)


def _compared(sequence: FrameFiles, truth: Grid) -> tuple[list[Frame], list[_Target]]:
    """Read some frames, and the true images that they are compared with."""
    matched = list(matching_files(sequence.files, truth, sequence.kind))
    targets: list[_Target] = []
    frames: list[Frame] = []
    for path, indices in _spread(matched, MAX_FRAMES):
        chosen = [
            _small(truth, int(index), len(frames), DRAWN_PX if sequence.low_pass else SIDE_PX)
            for index in _spread(indices, MAX_VIEWS)
        ]
        seen = [target for target in chosen if (target.alpha > SILHOUETTE).any()]
        if seen:
            targets += seen
            frames.append(sequence.read(path))
    if not frames:
        raise InputError("the truth shows no object, so nothing can be aligned with it")
    if any(sum(t.frame == f for t in targets) < MIN_VIEWS for f in range(len(frames))):
        raise InputError(f"expected at least {MIN_VIEWS} views of the truth to align with")
    return frames, targets


def _spread(items: Sequence[Any] | np.ndarray, count: int) -> list[Any]:
    return [items[index] for index in evenly_spaced(len(items), count)]


def _small(truth: Grid, index: int, frame: int, drawn_px: int) -> _Target:
    """Make a true image small, which is compared with averages of renderings of this size."""
    longest = max(truth.height, truth.width)
    shrink = max(1, math.ceil(longest / drawn_px))
    return _target(truth, index, frame, shrink, max(1, math.ceil(longest / shrink / SIDE_PX)))


def _target(truth: Grid, index: int, frame: int, shrink: int = 1, block: int = 1) -> _Target:
    """Average a true image over blocks of pixels; a border that fills no block is left out.

    A block has shrink · block pixels of the truth on a side, and block rendered pixels.
    """
    image, camera = truth.images[index] / np.float32(255), truth.camera_of(index)
    side = shrink * block
    height, width = (pixels // side for pixels in image.shape[:2])
    cut = image[: height * side, : width * side]
    alpha = cut[..., 3:]
    rgb = cut[..., :3] * alpha + 1 - alpha
    drawn = replace(
        camera, fl_x=camera.fl_x / shrink, fl_y=camera.fl_y / shrink, cx=camera.cx / shrink,
        cy=camera.cy / shrink, width=width * block, height=height * block,
    )  # fmt: skip
    return _Target(frame, index, drawn, _averaged(rgb, side), _averaged(alpha, side)[..., 0])


def _averaged(image: np.ndarray, side: int) -> np.ndarray:
    """Average [H, W, C] over blocks of side × side pixels."""
    height, width, channels = image.shape
    return image.reshape(height // side, side, width // side, side, channels).mean(axis=(1, 3))


def _center_and_radius(targets: Sequence[_Target]) -> tuple[np.ndarray, float]:
    """Center of the truth, nearest to the rays through the centroids of its silhouettes, and size.

    The size is the root mean square distance of the surface from the center, estimated from that of
    the pixels of the silhouettes, which see two of its three axes.
    """
    normal, right = np.zeros((3, 3)), np.zeros(3)
    spreads = []
    for target in targets:
        rows, columns = np.mgrid[: target.alpha.shape[0], : target.alpha.shape[1]] + 0.5
        weights = target.alpha / target.alpha.sum()
        x, y = (weights * columns).sum(), (weights * rows).sum()
        camera, block = target.camera, target.block
        ray = camera.T_world_camera[:3, :3] @ [
            (block * x - camera.cx) / camera.fl_x, -(block * y - camera.cy) / camera.fl_y, -1.0
        ]  # fmt: skip
        across = np.eye(3) - np.outer(ray, ray) / (ray @ ray)
        normal += across
        right += across @ camera.position
        variance = (weights * ((columns - x) ** 2 + (rows - y) ** 2)).sum()
        spreads.append(math.sqrt(variance) * block / camera.fl_x)
    center = np.linalg.lstsq(normal, right, rcond=None)[0]
    depths = [np.linalg.norm(target.camera.position - center) for target in targets]
    return center, float(np.mean(np.array(spreads) * depths)) * math.sqrt(1.5)


def _starts(loss: Callable[[np.ndarray], float]) -> Iterator[np.ndarray]:
    """Yield the best yaws of a coarse search, each with its best scale."""
    found: list[tuple[float, np.ndarray]] = []
    for yaw_rad in np.radians(np.arange(0.0, 360.0, YAW_STEP_DEG)):
        tried = [np.array([math.log(scale), yaw_rad, 0.0, 0.0, 0.0]) for scale in SCALES]
        found.append(min(((loss(values), values) for values in tried), key=lambda pair: pair[0]))
    taken: list[float] = []
    for _, values in sorted(found, key=lambda pair: pair[0]):
        apart = [abs(math.remainder(values[1] - other, 2 * math.pi)) for other in taken]
        if min(apart, default=math.pi) > math.radians(SEPARATE_DEG):
            taken.append(values[1])
            yield values
        if len(taken) == CANDIDATES:
            return


def _minimized(
    loss: Callable[[np.ndarray], float], start: np.ndarray, evaluations: int
) -> np.ndarray:
    """Improve by Nelder and Mead's method with a fixed number of evaluations."""
    simplex = np.concatenate([start[None], start + np.diag(STEPS)])
    options = {"maxfev": evaluations, "initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-6}
    return minimize(loss, start, method="Nelder-Mead", options=options).x


class _Silhouettes:
    """Soft silhouettes of points in all target images."""

    def __init__(self, targets: Sequence[_Target]):
        self._frames = np.array([target.frame for target in targets])
        self._viewmats = np.stack([target.camera.viewmat for target in targets])
        cameras = [target.camera for target in targets]
        Ks = np.array([[c.fl_x, c.fl_y, c.cx, c.cy] for c in cameras])
        self._K = (Ks / [[target.block] for target in targets])[..., None]
        self._alpha = np.stack([target.alpha for target in targets])

    def iou(self, points: np.ndarray) -> float:
        """Soft IoU with the truth of the points of each frame, [F, N, 3]."""
        drawn = 1 - np.exp(-self._counts(points))
        return float(np.minimum(drawn, self._alpha).sum() / np.maximum(drawn, self._alpha).sum())

    def _counts(self, points: np.ndarray) -> np.ndarray:
        """Number of points in each pixel, shared among the four nearest, [I, H, W]."""
        rotations, moves = self._viewmats[:, :3, :3], self._viewmats[:, :3, 3:]
        seen = rotations @ points[self._frames].transpose(0, 2, 1) + moves
        x, y, z = seen[:, 0], seen[:, 1], seen[:, 2]
        fl_x, fl_y, cx, cy = self._K.transpose(1, 0, 2)
        z = np.where(z > 1e-6, z, np.inf)
        u = np.where(np.isinf(z), -9.0, fl_x * x / z + cx - 0.5)
        v = np.where(np.isinf(z), -9.0, fl_y * y / z + cy - 0.5)
        images, height, width = self._alpha.shape
        counts = np.zeros(images * height * width)
        left, top = np.floor(u), np.floor(v)
        for column, weight_x in ((left, left + 1 - u), (left + 1, u - left)):
            for row, weight_y in ((top, top + 1 - v), (top + 1, v - top)):
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                image = np.broadcast_to(np.arange(images)[:, None], inside.shape)[inside]
                pixel = (image * height + row[inside].astype(int)) * width
                weights = (weight_x * weight_y)[inside]
                counts += np.bincount(pixel + column[inside].astype(int), weights, len(counts))
        return counts.reshape(images, height, width)


def _difference(
    frames: Sequence[Frame], targets: Sequence[_Target], placement: Placement
) -> tuple[float, float]:
    """Mean squared error of rgb and alpha of renderings, and the IoU of the silhouettes."""
    error, common, either = 0.0, 0, 0
    for target in targets:
        rgb, alpha = frames[target.frame].draw(placement.camera(target.camera))
        rgb, alpha = _averaged(rgb, target.block), _averaged(alpha[..., None], target.block)[..., 0]
        error += float(((rgb - target.rgb) ** 2).mean() + ((alpha - target.alpha) ** 2).mean())
        drawn, true = alpha > SILHOUETTE, target.alpha > SILHOUETTE
        common, either = common + int((drawn & true).sum()), either + int((drawn | true).sum())
    return error / len(targets), common / max(either, 1)
