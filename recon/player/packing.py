"""Pack a scene into the bytes that the player reads: quantized Gaussians once, and their motion.

    uint32 length of the header │ header (JSON), padded │ sections, each padded to 4 bytes

The header describes the sections. Their integers are levels between a low and a high value, split
into byte planes, so that they compress well; those of several poses are differences to the pose
before. `unpack` is the reference of the decoder in `web/format.js`.

Motion kinds:
    static     one pose
    bones      one pose, skinning weights and the poses of the bones (evaluated exactly)
    keyframes  a pose of every Gaussian at several times, interpolated in between
    frames     unrelated Gaussians for every frame, shown one after another

Letters: N Gaussians, F poses, T fitted times, K bones, C spherical-harmonic coefficients.
Frame: world, +Z up. Quaternions are stored without their largest component ("smallest three").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from recon.deformation.bones import BoneDeformation
from recon.deformation.interface import StaticDeformation
from recon.deformation.poses import bracket, pose_at
from recon.errors import InputError, SceneError
from recon.film.camera_paths import rotation_center
from recon.gaussians import SH_C0, Gaussians
from recon.grid.cameras import Camera, camera_from_json, camera_to_json
from recon.grid.source_camera import (
    SourceCamera,
    source_camera_from_json,
    source_camera_to_json,
)
from recon.quantization import quantized_weights
from recon.rendering import rendering_unit
from recon.scene import Scene

FORMAT, VERSION = "fourdvd-player", 1
MAX_GAUSSIANS = 500_000  # per frame; more would need a tiled texture and seconds for each sort
MAX_BONES = 256  # an index has 8 bits
INFLUENCES = 8  # bones of a Gaussian
QUAT_LEVELS = 1023  # of each of three components, in ± 1/√2
SMALLEST_SCALE = 1e-5  # relative to the largest standard deviation; far below a pixel
DTYPES = {"u8": np.dtype("u1"), "u16": np.dtype("<u2"), "f32": np.dtype("<f4")}


class Setting(NamedTuple):
    """What the player needs besides the Gaussians.

    Attributes:
        camera: the camera of the input video; the player starts there.
        focus: point around which the player's camera turns, world units, [3].
        times: times of the frames in [0, 1], ascending, [T].
        fps: frames per second.
        background: sRGB in [0, 1].
        source: the camera of the whole video, of whose images those of `camera` are a part, with
            the same pose; None: not known.
    """

    camera: Camera
    focus: np.ndarray
    times: np.ndarray
    fps: float
    background: tuple[float, float, float]
    source: SourceCamera | None = None


@dataclass
class PackedScene:
    """Decoded content of a packed scene.

    Attributes:
        setting: camera, times and background.
        kind: kind of the motion.
        poses: Gaussians of each pose or frame.
        bones: the motion of kind "bones".
    """

    setting: Setting
    kind: str
    poses: list[Gaussians] = field(default_factory=list)
    bones: BoneDeformation | None = None

    def at(self, time: float) -> Gaussians:
        """Return the Gaussians that the player shows at a time in [0, 1]."""
        first = self.poses[0]
        if self.bones is not None:
            return self.bones(first, time)
        times = tuple(self.setting.times)
        left, weight = bracket(times, time)
        if self.kind == "frames" and weight >= 0.5:
            left += 1
        if self.kind != "keyframes":
            return self.poses[min(left, len(self.poses) - 1)]
        means, quats = pose_at(
            times,
            [pose.means for pose in self.poses],
            [pose.quats for pose in self.poses],
            time,
        )
        right = self.poses[min(left + 1, len(self.poses) - 1)]
        scales = torch.lerp(self.poses[left].scales, right.scales, weight)
        return first._replace(means=means, quats=quats, scales=scales)


def scene_setting(scene: Scene) -> Setting:
    """Return the setting of a scene.

    Raises:
        SceneError: the scene has no cameras.
    """
    if not scene.cameras:
        raise SceneError("the player starts at the first camera of the scene, which has none")
    return Setting(
        scene.cameras[0],
        rotation_center(scene),
        scene.times,
        scene.fps,
        scene.background,
        scene.source_camera,
    )


@torch.no_grad()
def pack_scene(scene: Scene, times: Sequence[float] | np.ndarray | None = None) -> bytes:
    """Pack a scene.

    Args:
        scene: the scene.
        times: times at which a motion without bones is evaluated; None: the fitted times.

    Raises:
        SceneError: the scene has no cameras or no Gaussians, or more than `MAX_GAUSSIANS`.
    """
    check_shown(scene.gaussians)  # before they are moved
    setting, motion = scene_setting(scene), scene.deformation
    if isinstance(motion, StaticDeformation):
        return _packed(setting, "static", [[scene.gaussians]])
    if isinstance(motion, BoneDeformation) and len(motion.centres) <= MAX_BONES:
        return _packed(setting, "bones", [[scene.gaussians]], motion)
    baked = np.asarray(scene.times if times is None else times, dtype=np.float64)
    poses = [scene.at(float(time)) for time in baked]
    return _packed(setting._replace(times=baked), "keyframes", [poses])


def pack_frames(frames: Sequence[Gaussians], setting: Setting) -> bytes:
    """Pack one set of Gaussians per time, as keyframes if all frames show the same Gaussians.

    Args:
        frames: one for each of `setting.times`.
        setting: camera, times and background.

    Raises:
        SceneError: a frame has no Gaussians, or more than `MAX_GAUSSIANS`.
    """
    first = frames[0]
    same = all(
        frame.means.shape == first.means.shape
        and torch.equal(frame.opacities, first.opacities)
        and torch.equal(frame.sh, first.sh)
        for frame in frames
    )
    if same:
        return _packed(setting, "keyframes" if len(frames) > 1 else "static", [list(frames)])
    return _packed(setting, "frames", [[frame] for frame in frames])


def unpack(data: bytes) -> PackedScene:
    """Decode the bytes of `pack_scene` or `pack_frames`.

    Raises:
        InputError: the bytes are not a packed scene of this version.
    """
    try:
        length = int.from_bytes(data[:4], "little")
        header = json.loads(data[4 : 4 + length])
        if (header["format"], header["version"]) != (FORMAT, VERSION):
            raise ValueError(f"found format {header['format']!r} version {header['version']!r}")
        return _unpacked(header, data[4 + length :])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"expected a packed scene of the player ({error})") from error


def _unpacked(header: dict[str, Any], body: bytes) -> PackedScene:
    setting = Setting(
        camera_from_json(header["camera"]),
        np.asarray(header["focus"]),
        np.asarray(header["times"]),
        header["fps"],
        tuple(header["background"]),
        source_camera_from_json(header.get("source")),
    )
    packed = PackedScene(setting, header["kind"])
    for entry in header["sets"]:
        arrays = {s["name"]: _section(s, body) for s in entry["sections"]}
        packed.poses += _dequantized(arrays, entry["ranges"])
        if header["kind"] == "bones":
            packed.bones = _bones_from(arrays, header["motion_times"])
    return packed


def _packed(
    setting: Setting,
    kind: str,
    sets: Sequence[Sequence[Gaussians]],
    bones: BoneDeformation | None = None,
) -> bytes:
    entries, parts, offset = [], [], 0
    for poses in sets:
        for pose in poses:
            check_shown(pose)
        order = _curve_order(poses[0].means)
        arrays, ranges = _quantized([_ordered(pose, order) for pose in poses])
        if bones is not None:
            arrays |= _bone_arrays(bones, order)
        sections = []
        for name, array in arrays.items():
            described, data = _encoded(name, array, offset)
            sections.append(described)
            parts.append(data)
            offset += len(data)
        entries.append({"count": len(order), "ranges": ranges, "sections": sections})
    source = setting.source
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "sh_degree": sets[0][0].sh_degree,
        "times": [float(time) for time in setting.times],
        "fps": setting.fps,
        "background": list(setting.background),
        "camera": camera_to_json(setting.camera),
        "source": source and source_camera_to_json(replace(source, thumbnails=None)),
        "focus": [float(x) for x in setting.focus],
        "unit": rendering_unit(sets[0][0]),
        "motion_times": [] if bones is None else list(bones.times),
        "sets": entries,
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([len(text).to_bytes(4, "little"), text, *parts])


def check_shown(gaussians: Gaussians) -> None:
    """Check that the player can show Gaussians.

    Raises:
        SceneError: they are none, more than `MAX_GAUSSIANS`, or not finite.
    """
    count = len(gaussians.means)
    if not 0 < count <= MAX_GAUSSIANS:
        raise SceneError(
            f"the player shows 1 to {MAX_GAUSSIANS:,} Gaussians, found {count:,}"
            + ("; export ply and use a viewer for large scenes" if count else "")
        )
    if not all(torch.isfinite(tensor).all() for tensor in gaussians):
        raise SceneError("the Gaussians contain NaN or infinite numbers")


def _curve_order(means: torch.Tensor) -> torch.Tensor:
    """Return the order of points [N, 3] along a space-filling curve, which compresses well."""
    means = means.detach().cpu().double()
    low, high = means.amin(dim=0), means.amax(dim=0)
    cells = ((means - low) / (high - low).clamp_min(1e-12) * 1023).long()
    code = torch.zeros(len(means), dtype=torch.long)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return torch.argsort(code, stable=True)


def _ordered(gaussians: Gaussians, order: torch.Tensor) -> Gaussians:
    return gaussians.map(lambda tensor: tensor.cpu()[order])


def _quantized(
    poses: Sequence[Gaussians],
) -> tuple[dict[str, np.ndarray], dict[str, list[list[float]]]]:
    """Quantize F poses of the same Gaussians: arrays [F, components, N], and their ranges."""
    first = poses[0]
    means = _stacked([pose.means for pose in poses])
    scales = _stacked([pose.scales for pose in poses])
    scales = np.maximum(scales, scales.max() + np.log(SMALLEST_SCALE))
    colors = first.sh.detach().float().permute(1, 2, 0).numpy()  # [C, 3, N]
    quats, largest = _smallest_three(_stacked([F.normalize(p.quats, dim=-1) for p in poses]))
    if (scales == scales[:1]).all():
        scales = scales[:1]
    constant = np.clip(colors[:1], (-1 - 0.5) / SH_C0, (2 - 0.5) / SH_C0)  # of rgb in [-1, 2]
    ranges = {
        "means": _range(means, axis=(0, 2)),
        "scales": _range(scales),
        "sh0": _range(constant),
        "shN": _range(colors[1:]),
    }
    levels = [_levels(constant, ranges["sh0"], 255), _levels(colors[1:], ranges["shN"], 255)]
    return {
        "means": _levels(means, ranges["means"], 65535).astype(np.uint16),
        "quats": quats,
        "largest": largest,
        "scales": _levels(scales, ranges["scales"], 255).astype(np.uint8),
        "opacities": np.rint(255 * first.opacities.detach().sigmoid().numpy()).astype(np.uint8),
        "colors": np.concatenate(levels).astype(np.uint8),
    }, ranges


def _dequantized(
    arrays: dict[str, np.ndarray], ranges: dict[str, list[list[float]]]
) -> list[Gaussians]:
    means = _values(arrays["means"], ranges["means"], 65535)
    scales = _values(arrays["scales"], ranges["scales"], 255)
    quats = _from_smallest_three(arrays["quats"], arrays["largest"])
    colors = [
        _values(arrays["colors"][:1], ranges["sh0"], 255),
        _values(arrays["colors"][1:], ranges["shN"], 255),
    ]
    sh0, shN = (_tensor(part).permute(2, 0, 1) for part in colors)
    opacities = torch.logit(_tensor(arrays["opacities"] / 255), eps=1e-4)
    return [
        Gaussians(
            _tensor(means[i]).T,
            _tensor(quats[i]).T,
            _tensor(scales[min(i, len(scales) - 1)]).T,
            opacities,
            sh0,
            shN,
        )
        for i in range(len(means))
    ]


def _bone_arrays(bones: BoneDeformation, order: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the strongest influences of every Gaussian, strongest first, and the bones' poses."""
    weights = F.softmax(bones.logits.detach().cpu()[order].double(), dim=1)
    count = min(INFLUENCES, weights.shape[1])
    strongest, joints = weights.topk(count, dim=1)
    levels = torch.from_numpy(quantized_weights(strongest.numpy(), 255))
    pad = (0, 0, 0, INFLUENCES - count)
    return {
        "weights": F.pad(levels.T, pad).numpy().astype(np.uint8),
        "joints": F.pad(joints.T, pad).numpy().astype(np.uint8),
        "centers": bones.centres.cpu().numpy().astype(np.float32),
        "translations": np.stack([t.detach().cpu().numpy() for t in bones.translations]),
        "rotations": np.stack([r.detach().cpu().numpy() for r in bones.rotations]),
    }


def _bones_from(arrays: dict[str, np.ndarray], times: Sequence[float]) -> BoneDeformation:
    centers = _tensor(arrays["centers"])
    joints = torch.from_numpy(arrays["joints"].astype(np.int64)).T
    weights = torch.zeros(joints.shape[0], len(centers))
    weights.scatter_add_(1, joints, _tensor(arrays["weights"]).T / 255)
    module = BoneDeformation(times, centers, weights.clamp_min(1e-12).log())
    for i in range(len(times)):
        module.translations[i].data = _tensor(arrays["translations"][i])
        module.rotations[i].data = _tensor(arrays["rotations"][i])
    return module.requires_grad_(False)


def _smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize unit quaternions [F, 4, N]: three components [F, 3, N], index of the largest."""
    largest = np.abs(quats).argmax(axis=1)
    sign = np.sign(np.take_along_axis(quats, largest[:, None], axis=1))
    others = (largest[:, None] + np.arange(1, 4)[None, :, None]) % 4
    three = np.take_along_axis(quats * sign, others, axis=1)
    levels = np.rint((three * np.sqrt(2) + 1) / 2 * QUAT_LEVELS)
    return np.clip(levels, 0, QUAT_LEVELS).astype(np.uint16), largest.astype(np.uint8)


def _from_smallest_three(levels: np.ndarray, largest: np.ndarray) -> np.ndarray:
    three = (levels / QUAT_LEVELS * 2 - 1) / np.sqrt(2)
    four = np.concatenate(
        [np.sqrt(np.maximum(0, 1 - (three**2).sum(axis=1, keepdims=True))), three], axis=1
    )
    index = (np.arange(4)[None, :, None] - largest[:, None].astype(int)) % 4
    return np.take_along_axis(four, index, axis=1)


def _encoded(name: str, array: np.ndarray, offset: int) -> tuple[dict[str, Any], bytes]:
    kind = {1: "u8", 2: "u16", 4: "f32"}[array.dtype.itemsize]
    described = {"name": name, "type": kind, "shape": list(array.shape), "offset": offset}
    if kind == "f32":
        data = array.astype(DTYPES[kind]).tobytes()
    else:
        if array.ndim == 3 and name != "colors":
            array = np.diff(array, axis=0, prepend=np.zeros_like(array[:1]))  # modulo 2^8 or 2^16
            described["delta"] = True
        planes = np.ascontiguousarray(array).astype(DTYPES[kind]).view(np.uint8)
        data = planes.reshape(-1, array.dtype.itemsize).T.tobytes()
    return described, data + bytes(-len(data) % 4)


def _section(described: dict[str, Any], body: bytes) -> np.ndarray:
    dtype, shape, offset = DTYPES[described["type"]], described["shape"], described["offset"]
    count = int(np.prod(shape))
    planes = np.frombuffer(body, np.uint8, count * dtype.itemsize, offset)
    if dtype.kind == "f":
        return planes.view(dtype).reshape(shape)
    array = np.ascontiguousarray(planes.reshape(dtype.itemsize, count).T).view(dtype).reshape(shape)
    return np.cumsum(array, axis=0, dtype=dtype) if described.get("delta") else array


def _stacked(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """Stack [N, components] of F poses to [F, components, N]."""
    return np.stack([tensor.detach().double().cpu().numpy().T for tensor in tensors])


def _range(values: np.ndarray, axis: int | tuple[int, ...] | None = None) -> list[list[float]]:
    """Return low and high, each a list with one number, or one per component."""
    if values.size == 0:
        return [[0.0], [0.0]]
    return [np.atleast_1d(f(values, axis=axis)).astype(float).tolist() for f in (np.min, np.max)]


def _levels(values: np.ndarray, bounds: list[list[float]], top: int) -> np.ndarray:
    low, high = (np.asarray(bound)[None, :, None] for bound in bounds)
    return np.rint((values - low) / np.maximum(high - low, 1e-12) * top)


def _values(levels: np.ndarray, bounds: list[list[float]], top: int) -> np.ndarray:
    low, high = (np.asarray(bound)[None, :, None] for bound in bounds)
    return low + levels / top * (high - low)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
