"""Limits of asset files, the reasons for refusing one, and what is known of an accepted one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from recon.errors import InputError

Reason = StrEnum("Reason", [
    "missing", "empty", "too_large", "wrong_format", "truncated", "malformed", "outside_folder",
    "missing_buffer", "unsupported", "no_triangles", "too_many_triangles", "no_animation",
    "not_finite", "unordered_keyframes", "image_too_large",
    "import_failed", "no_motion", "no_such_action", "cannot_be_placed",  # by Blender
])  # fmt: skip
"""Why an asset is refused."""


class AssetError(InputError):
    """An asset is refused; `sentence` is the message without the path."""

    def __init__(self, reason: Reason, sentence: str, path: str | Path | None = None):
        self.reason, self.sentence = reason, sentence
        super().__init__(sentence, path)


def require(condition: bool, sentence: str, reason: Reason = Reason.malformed) -> None:
    """Raise AssetError unless a condition holds."""
    if not condition:
        raise AssetError(reason, sentence)


def limit(what: str, found: int, most: int, reason: Reason = Reason.too_large) -> None:
    """Raise AssetError if a number is above its limit."""
    require(found <= most, f"{what}: {found:,}, which is more than {most:,}", reason)


@dataclass(frozen=True)
class Limits:
    """Limits on the resources that an asset may use."""

    file_bytes: int = 2 * 2**30  # of its files together, and of all its accessors when read
    document_bytes: int = 64 * 2**20  # of a glTF file's JSON
    triangles: int = 2_000_000  # of all meshes, counted once for each node that shows them
    image_pixels: int = 8192 * 8192  # of one image
    all_image_pixels: int = 4 * 8192 * 8192  # of all images together


@dataclass(frozen=True)
class Inspection:
    """What is known of an accepted asset; formats other than glTF keep the defaults."""

    triangles: int | None = None
    animations: tuple[str, ...] | None = None  # names of those of positive duration
    missing_textures: tuple[str, ...] = ()  # missing or unreadable; they become plain colors

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each missing texture."""
        return tuple(f"texture {name} is missing or unreadable" for name in self.missing_textures)
