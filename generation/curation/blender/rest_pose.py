"""The rest pose: transforms and morph weights of an asset's file, which no clip has changed yet.

Blender writes the values of a played clip back into the objects, where they stay when another clip
is assigned that does not key them. Importers assign the first clip, and Blender evaluates it before
they return, so that the pose after an import is not the one of the file. Therefore the pose is
recorded during the import, by a handler that Blender calls before each evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

_TRANSFORM = (
    "location", "rotation_quaternion", "rotation_axis_angle", "rotation_euler", "scale",
)  # fmt: skip


class RestPose:
    """Values of the animated objects, pose bones and morph weights before any clip was played."""

    def __init__(self):
        self._values: dict[tuple[str, str], list[Any]] = {}

    def record(self, *_: Any) -> None:
        """Record owners of animation that are not recorded yet."""
        for owner in animated():
            if _key(owner) not in self._values:
                self._values[_key(owner)] = [
                    _copy(getattr(part, name)) for part, name in _properties(owner)
                ]

    def restore(self) -> None:
        """Set all recorded values."""
        for owner in animated():
            recorded = self._values[_key(owner)]
            for (part, name), value in zip(_properties(owner), recorded, strict=True):
                setattr(part, name, value)


@contextmanager
def recorded_rest_pose() -> Iterator[RestPose]:
    """Record the rest pose of everything that the block imports."""
    rest = RestPose()
    handlers = bpy.app.handlers.depsgraph_update_pre
    handlers.append(rest.record)
    try:
        yield rest
    finally:
        handlers.remove(rest.record)


def animated() -> list[Any]:
    """List the objects and shape keys that have animation data."""
    owners = [*bpy.data.objects, *bpy.data.shape_keys]
    return [owner for owner in owners if owner.animation_data]


def _key(owner: Any) -> tuple[str, str]:
    return owner.id_type, owner.name


def _properties(owner: Any) -> Iterator[tuple[Any, str]]:
    """Yield the transforms of an object and its pose bones, or the weights of shape keys."""
    if owner.id_type == "KEY":
        yield from ((block, "value") for block in owner.key_blocks)
        return
    bones = owner.pose.bones if owner.pose else ()
    yield from ((part, name) for part in (owner, *bones) for name in _TRANSFORM)


def _copy(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else tuple(value)
