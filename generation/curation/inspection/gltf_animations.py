"""The animations of a glTF file: which have a duration, and whether their keyframes are sound.

What it does not know: whether anything moves that can be seen.
"""

from __future__ import annotations

import numpy as np

from generation.curation.inspection.findings import AssetError, Reason
from generation.curation.inspection.gltf_accessors import Accessor
from generation.curation.inspection.gltf_document import Entry

_PATHS = ("translation", "rotation", "scale", "weights")


def read_animations(document: Entry, accessors: list[Accessor]) -> tuple[str, ...]:
    """Names of the animations in which a channel has two keyframes or more; at least one.

    One without a name is called as Blender calls it, `Anim_3` for the fourth.

    Raises:
        AssetError: none has, an animation is malformed, keyframes do not ascend or are not finite.
    """
    entries = document.entries("animations")
    targets = document.entries("nodes")
    seconds = [_duration(entry, accessors, targets) for entry in entries]
    names = tuple(
        entry.text("name") or f"Anim_{number}"
        for number, entry in enumerate(entries)
        if seconds[number] > 0
    )
    if not names:
        raise AssetError(
            Reason.no_animation,
            "it has no animation"
            if not entries
            else f"none of its {len(entries)} animations has a channel of two keyframes",
        )
    return names


def _duration(animation: Entry, accessors: list[Accessor], nodes: list[Entry]) -> float:
    """Seconds from the first to the last keyframe of the longest channel that has a target."""
    called = f"animation {animation.text('name') or animation.place!r}"
    samplers = animation.entries("samplers")
    longest = 0.0
    for channel in animation.entries("channels"):
        sampler = channel.item("sampler", samplers)
        target = channel.entry("target")
        path = None if target is None else target.text("path")
        if target is None or path is None:
            raise AssetError(Reason.malformed, f"{channel.place} has no target")
        has_node = target.index("node", nodes) is not None
        if path != "pointer" and not (has_node and path in _PATHS):
            continue  # the specification lets readers ignore it, and Blender does
        times = sampler.item("input", accessors)
        values = sampler.item("output", accessors)
        _check_keyframes(times, values, sampler.text("interpolation") or "LINEAR", called)
        ends = times.read()[[0, -1], 0].astype(np.float64) if times.count else np.zeros(2)
        longest = max(longest, float(ends[1] - ends[0]))
    return longest


def _check_keyframes(times: Accessor, values: Accessor, interpolation: str, called: str) -> None:
    if times.components != 1 or times.dtype.kind != "f":
        raise AssetError(Reason.malformed, f"{called}: {times.place} holds no times")
    times.check_finite(f"{called}: times")
    values.check_finite(f"{called}: values")
    if not times.ascends:
        raise AssetError(
            Reason.unordered_keyframes, f"{called}: the times in {times.place} do not ascend"
        )
    keys = times.count * (3 if interpolation == "CUBICSPLINE" else 1)  # tangents around each value
    if values.count < keys or (keys and values.count % keys):
        raise AssetError(
            Reason.malformed,
            f"{called}: {values.place} has {values.count} values for {times.count} keyframes",
        )
