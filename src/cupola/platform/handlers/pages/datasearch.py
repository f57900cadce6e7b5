"""Looking for volumes: which words a person may give, and what is found by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from cupola.models.base import Model
from cupola.models.volume import Volume, VolumeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["KINDS", "Search", "Wish"]

_ON_A_PAGE = 24
KINDS = {
    VolumeKind.HOME: "Home",
    VolumeKind.ARCHIVE: "Archive",
    VolumeKind.TEAM: "Team",
    VolumeKind.CUSTOM: "Added by people",
}


class Wish(Model):
    """What a person looks for."""

    q: str = Field(default="", max_length=200)
    body: str = Field(default="", max_length=100)
    mission: str = Field(default="", max_length=100)
    kind: str = Field(default="", max_length=20)
    page: int = Field(default=1, ge=1, le=10_000)
    said: str = Field(default="", max_length=20)


@dataclass(frozen=True)
class Search:
    """What was found."""

    wish: Wish
    found: Sequence[Volume]
    """Those on this page."""
    number: int
    """How many there are on all pages."""
    total: int
    """How many there are at all."""
    bodies: Sequence[str]
    missions: Sequence[str]
    kinds: dict[str, str]

    @classmethod
    def of(cls, wish: Wish, volumes: Sequence[Volume]) -> Search:
        """Look through `volumes`."""
        found = [volume for volume in volumes if _fits(volume, wish)]
        first = (wish.page - 1) * _ON_A_PAGE
        present = {volume.kind for volume in volumes}
        return cls(
            wish=wish,
            found=found[first : first + _ON_A_PAGE],
            number=len(found),
            total=len(volumes),
            bodies=_sorted(body for volume in volumes for body in _bodies(volume)),
            missions=_sorted(volume.mission for volume in volumes),
            kinds={kind.value: name for kind, name in KINDS.items() if kind in present},
        )

    @property
    def more(self) -> bool:
        """Whether there is a page after this one."""
        return self.number > self.wish.page * _ON_A_PAGE

    @property
    def narrow(self) -> bool:
        """Whether anything is looked for."""
        return bool(self.wish.q.strip() or self.wish.body or self.wish.mission or self.wish.kind)

    def query(self, page: int) -> dict[str, str]:
        """Return the address's query for another page of the same search."""
        told = {name: getattr(self.wish, name) for name in ("q", "body", "mission", "kind")}
        return {name: value for name, value in told.items() if value} | {"page": str(page)}


def _fits(volume: Volume, wish: Wish) -> bool:
    if wish.kind and volume.kind.value != wish.kind:
        return False
    if wish.mission and volume.mission != wish.mission:
        return False
    if wish.body and wish.body not in _bodies(volume):
        return False
    text = _text(volume)
    # Each word somewhere: "mars camera" finds the camera of a Mars mission.
    return all(word in text for word in wish.q.casefold().split())


def _text(volume: Volume) -> str:
    """Return all that a volume can be found by."""
    said = [volume.name, volume.title, volume.description, volume.mission, volume.instrument, volume.body]
    said += [volume.licence, volume.citation, *volume.tags, volume.owner or "", volume.team or ""]
    for collection in volume.collections:
        said += [collection.id, collection.title, collection.body, *collection.bands]
    return " ".join(said).casefold()


def _bodies(volume: Volume) -> set[str]:
    return {body for body in (volume.body, *(one.body for one in volume.collections)) if body}


def _sorted(words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if word}, key=str.casefold)
