"""What looking at an asset before its import may find, and the limits it must keep to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from recon.errors import InputError


class Reason(StrEnum):
    """Why an asset is refused."""

    missing = "missing"
    empty = "empty"
    too_large = "too_large"
    wrong_format = "wrong_format"
    truncated = "truncated"
    malformed = "malformed"
    outside_folder = "outside_folder"
    missing_buffer = "missing_buffer"
    unsupported = "unsupported"
    no_triangles = "no_triangles"
    too_many_triangles = "too_many_triangles"
    no_animation = "no_animation"
    not_finite = "not_finite"
    unordered_keyframes = "unordered_keyframes"
    image_too_large = "image_too_large"
    import_failed = "import_failed"
    no_motion = "no_motion"
    no_such_action = "no_such_action"
    cannot_be_placed = "cannot_be_placed"


class AssetError(InputError):
    """An asset is refused.

    Attributes:
        reason: why, for tables.
        sentence: why, for people, without the path that the message of the error begins with.
    """

    def __init__(self, reason: Reason, sentence: str, path: str | Path | None = None):
        self.reason = reason
        self.sentence = sentence
        super().__init__(sentence, path)


@dataclass(frozen=True)
class Limits:
    """What an asset may ask of the machine.

    Attributes:
        file_bytes: of the files of an asset together, and of all that its accessors hold when
            read; many accessors may point at the same few bytes, or at none.
        document_bytes: of the JSON of a glTF file; Python needs some twenty times that in memory.
        triangles: of all its meshes, as often as its nodes show them.
        image_pixels: of one image.
        all_image_pixels: of all its images together.
    """

    file_bytes: int = 2 * 2**30
    document_bytes: int = 64 * 2**20
    triangles: int = 2_000_000
    image_pixels: int = 8192 * 8192
    all_image_pixels: int = 4 * 8192 * 8192


@dataclass(frozen=True)
class Inspection:
    """What is known of a sound asset before its import.

    Attributes:
        triangles: of all its meshes, as often as its nodes show them; None if only an import tells.
        animations: names of those that have a duration; None if only an import tells.
        missing_textures: what the asset calls the images that are not there or cannot be read; it
            can be rendered in plain colours in their place.
    """

    triangles: int | None = None
    animations: tuple[str, ...] | None = None
    missing_textures: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each thing that is amiss but no reason to refuse the asset."""
        return tuple(
            f"texture {name} is missing or cannot be read" for name in self.missing_textures
        )
