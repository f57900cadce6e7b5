"""The allow-list: a file with a person per line, read again when it changes.

::

    # who may come in
    github:ada admin      # an administrator
    github:grace
    institute:edwin.hubble@example.org
    vera                  # the account of this platform; where there is one method, a login there

A wrong line stops the start. While the platform runs, the last good list stays in force.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupola.exceptions import ConfigError
from cupola.hub.signin.names import LONGEST_LOGIN, folded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cupola.hub.signin.names import Identity

__all__ = ["AllowFile", "AllowList", "parse"]

_LARGEST = 2**22
"""In bytes: about a hundred thousand people."""
_METHOD = re.compile(r"[a-z][a-z0-9-]{0,19}")


@dataclass(frozen=True)
class AllowList:
    """Who is on the list: method and login, and whether as an administrator."""

    people: Mapping[tuple[str, str], bool] = field(default_factory=dict)

    def admin(self, identity: Identity) -> bool | None:
        """Return whether `identity` is an administrator; nothing where it is not on the list."""
        return self.people.get((identity.method, folded(identity.login)))


def parse(text: str, name: str, methods: list[str], plain: str) -> AllowList:
    """Read the lines of a list.

    Parameters
    ----------
    text
        The content.
    name
        Of the file, for errors.
    methods
        Names of the methods that a line may begin with.
    plain
        The method that a line without one means; empty where it could mean several.

    Raises
    ------
    ConfigError
        With a line of text for each line that is wrong.
    """
    people: dict[tuple[str, str], bool] = {}
    wrong = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].split()
        if not words:
            continue
        try:
            key, admin = _entry(words, methods, plain)
        except ValueError as exc:
            wrong.append(f"{name}, line {number}: {exc}")
            continue
        if key in people:
            wrong.append(f'{name}, line {number}: "{words[0]}" is on the list twice; take one line away')
        people[key] = admin
    if wrong:
        raise ConfigError("\n".join(wrong[:20]))
    return AllowList(people)


def _entry(words: list[str], methods: list[str], plain: str) -> tuple[tuple[str, str], bool]:
    who, *flags = words
    if flags not in ([], ["admin"]):
        raise ValueError(f'"{" ".join(flags)[:60]}" stands behind the name; only the word "admin" may')
    method, colon, login = who.partition(":")
    if not colon:
        method, login = plain, who
        if not plain:
            raise ValueError(
                f'"{who[:60]}" could be of several methods; write METHOD:LOGIN, {_known(methods)}'
            )
    elif not _METHOD.fullmatch(method) or method not in methods:
        raise ValueError(f'there is no sign-in method "{method[:60]}"; {_known(methods)}')
    if not login or len(login) > LONGEST_LOGIN or not login.isprintable():
        raise ValueError(f'"{who[:60]}" is no login; it has 1 to {LONGEST_LOGIN} characters')
    return (method, folded(login)), bool(flags)


def _known(methods: list[str]) -> str:
    return f"known are {', '.join(methods)}" if methods else "there is no method in sign_in.methods"


class AllowFile:
    """The file of the list, and the last good list.

    Parameters
    ----------
    path
        The file; nothing: an empty list.
    methods, plain
        As for `parse`.
    """

    def __init__(self, path: Path | None, methods: list[str], plain: str) -> None:
        self.path = path
        self.problem = ""
        """What is wrong with the file now; empty where nothing is."""
        self.current = AllowList()
        self._methods, self._plain = methods, plain
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> AllowList:
        """Read the file whatever it was before.

        Raises
        ------
        ConfigError
            It is not there, or a line is wrong; the last good list stays.
        """
        if self.path is None:
            return self.current
        try:
            with self.path.open("rb") as stream:
                content = stream.read(_LARGEST + 1)
            text = content.decode("utf-8-sig")
        except OSError as exc:
            raise ConfigError(
                f"the allow-list {self.path} cannot be read ({exc.strerror}); make the file, even if it is empty"
            ) from exc
        except UnicodeDecodeError as exc:
            raise ConfigError(f"the allow-list {self.path} is no UTF-8 text; save it as UTF-8") from exc
        if len(content) > _LARGEST:
            raise ConfigError(f"the allow-list {self.path} is larger than 4 MiB; let people in by groups")
        self.current = parse(text, str(self.path), self._methods, self._plain)
        return self.current

    def refresh(self) -> bool:
        """Read the file if it changed; say whether anything (the list or its `problem`) did."""
        if self.path is None:
            return False
        try:
            found = self.path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            seen = (0, 0, 0)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self.read()
            self.problem = ""
        except ConfigError as exc:
            # Half a list, or one that an editor is just writing: nobody is thrown out by a typing error.
            self.problem = str(exc)
        return True
