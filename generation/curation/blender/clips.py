"""The animations ("clips") of an imported asset: search, playback and measurement of their motion.

Each animation of a glTF or FBX file is imported as one action with a slot for each object. Some
exporters write FBX animations of single objects, with names "object|animation", which are a clip
together. Alembic and USD files have one timeline, whose parts are imported as actions and as caches
that move vertices over the frames of the scene. An OBJ sequence is a clip of as many frames as
files.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from generation.curation.blender.clip_selection import STILL, select_clips
from generation.curation.blender.geometry import all_vertices
from generation.curation.blender.importing import SEQUENCE_FPS, Imported, ObjSequence
from generation.curation.blender.request import Clip, Rejected
from generation.curation.blender.rest_pose import RestPose, animated

TIMES = 5  # number of times at which the motion of a clip is measured
_TIMELINE = "(the file's own frames)"
_NO_ANIMATION = "(no animation)"


@dataclass(frozen=True)
class PlayableClip:
    """A clip that can be played in the scene.

    Attributes:
        name: name of the animation.
        start: first source frame.
        end: last source frame.
        rest: pose of everything that the clip does not key.
        actions: actions of its objects; empty for caches and sequences.
        sequence: objects of an OBJ sequence; None for other clips.
    """

    name: str
    start: float
    end: float
    rest: RestPose
    actions: tuple[bpy.types.Action, ...] = ()
    sequence: ObjSequence | None = None

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return (self.end - self.start) / source_fps()

    def play(self) -> None:
        """Assign the clip's actions to their objects; everything else has its rest pose."""
        for owner in animated():
            owner.animation_data.action = None
            for track in owner.animation_data.nla_tracks:
                track.mute = True
            for action in self.actions:
                slot = _slot(owner, action)
                if slot is not None:
                    owner.animation_data.action = action
                    owner.animation_data.action_slot = slot
        self.rest.restore()

    def go_to(self, frame: float) -> None:
        """Set the scene to a (fractional) source frame."""
        if self.sequence is not None:
            self.sequence.show(frame)
        whole = math.floor(frame)
        bpy.context.scene.frame_set(whole, subframe=frame - whole)

    def frames(self, count: int) -> np.ndarray:
        """Return evenly spaced source frames, both ends included, float64, [count].

        Of a clip without a duration, the only frame, [1].
        """
        return np.linspace(self.start, self.end, count if self.end > self.start else 1)


def source_fps() -> float:
    """Return the frame rate of the scene."""
    render = bpy.context.scene.render
    return render.fps / render.fps_base


def find_clips(imported: Imported) -> list[PlayableClip]:
    """Return all clips of an imported asset, sorted by name."""
    rest, sequence = imported.rest, imported.sequence
    if sequence is not None:
        bpy.context.scene.render.fps = round(SEQUENCE_FPS)
        return [PlayableClip("sequence", 0, len(sequence) - 1, rest, sequence=sequence)]
    if imported.format in ("abc", "usd"):
        return _timeline(rest)
    grouped: dict[str, list[bpy.types.Action]] = defaultdict(list)
    for action in bpy.data.actions:
        grouped[_animation(action) if imported.format == "fbx" else action.name].append(action)
    clips = []
    for name, actions in grouped.items():
        start, end = _range([action.frame_range for action in actions])
        if end > start:
            label = actions[0].name if len(actions) == 1 else name
            clips.append(PlayableClip(label, start, end, rest, tuple(actions)))
    return sorted(clips, key=lambda clip: clip.name)


def _timeline(rest: RestPose) -> list[PlayableClip]:
    """Return the only clip of a format with one timeline: all actions and caches, if any."""
    actions, scene = tuple(bpy.data.actions), bpy.context.scene
    ranges = [action.frame_range for action in actions]
    if _moves_by_cache():
        ranges.append((scene.frame_start, scene.frame_end))
    start, end = _range(ranges) if ranges else (0.0, 0.0)
    name = actions[0].name if len(ranges) == len(actions) == 1 else _TIMELINE
    return [PlayableClip(name, start, end, rest, actions)] if end > start else []


def _range(ranges: Sequence[Sequence[float]]) -> tuple[float, float]:
    return float(min(first for first, _ in ranges)), float(max(last for _, last in ranges))


def measure(clip: PlayableClip) -> Clip:
    """Measure the motion of a clip; the motion is 1 if the number of vertices changes."""
    clip.play()
    shapes = []
    for frame in clip.frames(TIMES):
        clip.go_to(float(frame))
        shapes.append(all_vertices())
    return Clip(clip.name, clip.seconds, *_motion_and_travel(shapes))


def choose(clips: Sequence[PlayableClip], wanted: str | None) -> tuple[PlayableClip, list[Clip]]:
    """Select the clip with a name, or the clip with most motion.

    Args:
        clips: all clips of an asset.
        wanted: name of the clip; None for the clip with most motion.

    Returns:
        The selected clip, and the measurements of all clips (of a named one only its own).

    Raises:
        Rejected: there is no clip, none with that name, or nothing moves.
    """
    if not clips:
        raise Rejected("no_animation", "it has no animation")
    if wanted is not None:
        clips = [_named(clips, wanted)]
    measured = [measure(clip) for clip in clips]
    best = max(range(len(clips)), key=lambda i: (measured[i].motion, measured[i].travel))
    if max(measured[best].motion, measured[best].travel) < STILL:
        raise Rejected("no_motion", f"nothing moves in {_list([clip.name for clip in clips])}")
    return clips[best], measured


def choose_several(
    imported: Imported, clips: Sequence[PlayableClip], count: int
) -> tuple[list[PlayableClip], list[Clip]]:
    """Select clips of different motion, see `select_clips`.

    Args:
        imported: the asset.
        clips: all its clips.
        count: maximum number of clips.

    Returns:
        The selected clips, and the measurements of all clips. If nothing moves, the only selected
        one is a single frame: the first of a clip, or the asset as its file shows it.
    """
    measured = [measure(clip) for clip in clips]
    chosen = [clips[index] for index in select_clips(measured, count)]
    if not chosen:
        now = float(bpy.context.scene.frame_current)
        first = clips[0] if clips else PlayableClip(_NO_ANIMATION, now, now, imported.rest)
        chosen = [replace(first, end=first.start)]
    return chosen, measured


def _named(clips: Sequence[PlayableClip], wanted: str) -> PlayableClip:
    for candidates in (
        [clip for clip in clips if clip.name == wanted],
        [clip for clip in clips if clip.name.rsplit("|", 1)[-1] == wanted],
    ):
        if candidates:
            return candidates[0]
    raise Rejected(
        "no_such_action",
        f"it has no animation {wanted!r}; it has {_list([clip.name for clip in clips])}",
    )


def _motion_and_travel(shapes: Sequence[np.ndarray]) -> tuple[float, float]:
    first = shapes[0]
    if any(shape.shape != first.shape for shape in shapes):
        return 1.0, 0.0
    diagonal = float(np.linalg.norm(np.ptp(first, axis=0))) if len(first) else 0.0
    if not np.isfinite(diagonal) or diagonal == 0:
        return 0.0, 0.0
    moved = [shape - first for shape in shapes[1:]]
    motion = max(np.linalg.norm(d - d.mean(0), axis=1).mean() for d in moved)
    travel = max(np.linalg.norm(d.mean(0)) for d in moved)
    return float(motion / diagonal), float(travel / diagonal)


def _animation(action: bpy.types.Action) -> str:
    """Return the name of an action without the object, if it begins with that of one it moves."""
    head, _, name = action.name.partition("|")
    return name if name and any(slot.name_display == head for slot in action.slots) else action.name


def _slot(owner: Any, action: bpy.types.Action) -> bpy.types.ActionSlot | None:
    """Return the slot of an action for an owner: the importer's assignment, else by name."""
    for track in owner.animation_data.nla_tracks:
        for strip in track.strips:
            if strip.action == action and strip.action_slot is not None:
                return strip.action_slot
    prefix = "OB" if owner.id_type == "OBJECT" else "KE"
    return action.slots.get(f"{prefix}{owner.name}")


def _moves_by_cache() -> bool:
    return any(
        any(modifier.type == "MESH_SEQUENCE_CACHE" for modifier in thing.modifiers)
        or any(constraint.type == "TRANSFORM_CACHE" for constraint in thing.constraints)
        for thing in bpy.data.objects
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
