"""Filling in the forms of a page the way a browser would."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from typing_extensions import override

__all__ = ["Form", "forms_of"]


@dataclass
class Form:
    """One form of a page."""

    action: str
    """Where it goes; empty for the page's own address."""
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    """What a browser would send without the person changing anything."""


class _FormReader(HTMLParser):
    """Collects forms with their named inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").lower()))
        elif tag == "input" and self.forms and given.get("name"):
            self.forms[-1].fields[given["name"]] = given.get("value", "")


def forms_of(page: str) -> list[Form]:
    """Return the forms of an HTML page in their order."""
    reader = _FormReader()
    reader.feed(page)
    return reader.forms
