"""The licences that Sketchfab offers, by the slugs that its metadata uses.

The Creative Commons ones are of version 4.0 there. What it does not know: whether an uploader had
the right to give a licence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from recon.errors import InputError


class Licence(NamedTuple):
    """What a licence is called and what it asks for.

    Attributes:
        slug: as Sketchfab calls it.
        name: SPDX identifier where there is one.
        url: where it can be read.
        attribution: the author has to be credited.
        commercial: commercial use is allowed.
        derivatives: changed works, which renders are, may be passed on.
        share_alike: changed works have to be under the same licence.
    """

    slug: str
    name: str
    url: str
    attribution: bool = True
    commercial: bool = True
    derivatives: bool = True
    share_alike: bool = False

    @property
    def permissive(self) -> bool:
        """Whether changed works may be passed on, sold too, under any licence."""
        return self.commercial and self.derivatives and not self.share_alike


def _creative_commons(slug: str) -> Licence:
    return Licence(
        slug,
        f"CC-{slug.upper()}-4.0",
        f"https://creativecommons.org/licenses/{slug}/4.0/",
        commercial="nc" not in slug.split("-"),
        derivatives="nd" not in slug.split("-"),
        share_alike="sa" in slug.split("-"),
    )


_SKETCHFAB_URL = "https://sketchfab.com/licenses"
_ALL = (
    Licence(
        "cc0", "CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/", attribution=False
    ),
    *map(_creative_commons, ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd")),
    # The licences of the store let works be made with an object, but not the object be passed on.
    Licence("free-st", "Sketchfab Free Standard", _SKETCHFAB_URL, derivatives=False),
    Licence("st", "Sketchfab Standard", _SKETCHFAB_URL, derivatives=False),
    Licence("ed", "Sketchfab Editorial", _SKETCHFAB_URL, commercial=False, derivatives=False),
)
LICENCES = {licence.slug: licence for licence in _ALL}
PERMISSIVE = frozenset(licence.slug for licence in _ALL if licence.permissive)


def check_slugs(slugs: Iterable[str]) -> frozenset[str]:
    """The slugs of licences that a user named, in any case.

    Raises:
        InputError: one of them is not a licence of Sketchfab.
    """
    named = frozenset(slug.lower() for slug in slugs)
    unknown = sorted(named - LICENCES.keys())
    if unknown:
        raise InputError(f"{unknown[0]!r} is no licence of Sketchfab; it has {', '.join(LICENCES)}")
    return named
