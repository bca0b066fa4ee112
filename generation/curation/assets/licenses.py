"""The licenses that Sketchfab offers, by the slugs of its metadata."""

from __future__ import annotations

from typing import NamedTuple


class License(NamedTuple):
    """A license that Sketchfab offers; the Creative Commons ones are of version 4.0.

    Attributes:
        slug: Sketchfab's identifier.
        name: SPDX identifier where there is one.
        url: address of the license text.
        attribution: whether the author must be credited.
        commercial: whether commercial use is allowed.
        derivatives: whether derived works, such as renders, may be distributed.
        share_alike: whether derived works must be under the same license.
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
        """Whether derived works may be distributed and sold under any license."""
        return self.commercial and self.derivatives and not self.share_alike


def _creative_commons(slug: str) -> License:
    terms = slug.split("-")
    return License(
        slug, f"CC-{slug.upper()}-4.0", f"https://creativecommons.org/licenses/{slug}/4.0/",
        commercial="nc" not in terms, derivatives="nd" not in terms, share_alike="sa" in terms,
    )  # fmt: skip


_SKETCHFAB_LICENSES = "https://sketchfab.com/licenses"
_ALL = (
    License(
        "cc0", "CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/", attribution=False
    ),
    *map(_creative_commons, ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd")),
    # The store's licenses allow works made with an object, but not distributing the object itself.
    License("free-st", "Sketchfab Free Standard", _SKETCHFAB_LICENSES, derivatives=False),
    License("st", "Sketchfab Standard", _SKETCHFAB_LICENSES, derivatives=False),
    License("ed", "Sketchfab Editorial", _SKETCHFAB_LICENSES, commercial=False, derivatives=False),
)
LICENSES = {license.slug: license for license in _ALL}
PERMISSIVE = frozenset(license.slug for license in _ALL if license.permissive)
