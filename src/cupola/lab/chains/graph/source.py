"""The collections of a chain: what its JSON says of one, and the collection itself once it is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cupola.lab.collections.collection import Collection

__all__ = ["Source"]

_FILTERS = ("bbox", "datetime", "query")


class Source:
    """A collection as a chain names it; two of the same reference are one."""

    __slots__ = ("_collection", "key", "reference")

    def __init__(self, reference: Mapping[str, Any], collection: Collection | None = None) -> None:
        if not isinstance(reference, dict) or not isinstance(reference.get("source"), str):
            raise InputError("This chain does not say which collection it computes over.")
        said = {name: value for name, value in reference.items() if value is not None}
        self.reference: dict[str, Any] = {"source": said.pop("source"), **dict.fromkeys(_FILTERS), **said}
        """``source``, ``bbox``, ``datetime``, ``query``, as in the JSON."""
        self.key = json.dumps(self.reference, sort_keys=True)
        self._collection = collection

    @classmethod
    def of(cls, collection: Collection) -> Source:
        """Return the source that stands for a collection."""
        box = collection.bbox_filter
        reference = {
            "source": str(collection.source),
            "bbox": list(box) if box else None,
            "datetime": collection.datetime_filter,
            "query": collection.query_filter,
        }
        return cls(reference, collection)

    @property
    def collection(self) -> Collection:
        """The collection, opened at first use.

        Raises
        ------
        NotFoundError
            When it is no longer where it was.
        """
        if self._collection is None:
            self._collection = _opened(self.reference)
        return self._collection

    @property
    def name(self) -> str:
        """The last part of its path or address, for people."""
        return Path(self.reference["source"]).name or self.reference["source"]

    def during(self, datetime: str) -> Source:
        """Return the same collection over another span of time."""
        from cupola.lab.collections.interval import parse_interval

        parse_interval(datetime)
        return Source({**self.reference, "datetime": datetime})

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and other.key == self.key

    @override
    def __hash__(self) -> int:
        return hash(self.key)

    @override
    def __repr__(self) -> str:
        return f"<Source {self.key}>"


def _opened(reference: Mapping[str, Any]) -> Collection:
    source = reference["source"]
    filters = {name: reference[name] for name in _FILTERS if reference[name] is not None}
    if "://" in source:
        from cupola.lab.collections.find import open_collection

        return open_collection(source, **filters)
    from cupola.lab.collections.collection import Collection

    return Collection(Path(source), **filters)
