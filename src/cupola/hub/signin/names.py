"""User names: the part of a person that addresses, folders and containers see."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

__all__ = ["LINK", "LONGEST_LOGIN", "Identity", "folded", "is_name", "name_for"]

LINK = "link"
"""The method of who holds a link that was made on this machine."""
LONGEST_LOGIN = 200
"""In characters; a provider that sends more is not believed."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_OTHER = re.compile(r"[^a-z0-9]+")
_TAKEN = frozenset(
    {
        "root",
        "daemon",
        "bin",
        "sys",
        "sync",
        "games",
        "man",
        "lp",
        "mail",
        "news",
        "uucp",
        "proxy",
        "www-data",
        "backup",
        "list",
        "irc",
        "nobody",
        "admin",
        "hub",
        "cupola",
        "service",
        "services",
        "api",
        "static",
        "systemd-network",
        "messagebus",
        "sshd",
    }
)
"""Names of accounts in most containers, and words of our own addresses."""
_UPPER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Identity:
    """Who somebody is for a method. Two are the same person only if all but the login are equal."""

    method: str
    issuer: str
    subject: str
    """What the provider calls the account for ever: a number, where it has one."""
    login: str
    """What the person calls the account; it may change hands."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What is compared."""
        return self.method, self.issuer, self.subject


def folded(login: str) -> str:
    """Return `login` with small letters for A to Z and nothing else changed.

    Other scripts stay as they are: what looks alike is not the same.
    """
    return login.translate(_UPPER)


def is_name(text: str) -> bool:
    """Tell whether `text` can be a user name: it is safe in addresses, folders and mount options as it stands."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def name_for(login: str) -> str:
    """Return the user name that somebody with `login` gets.

    A login that is a name already stays what it is. Whatever has to be changed gets a part of its own digest, so that
    no two logins meet in one name because of what was taken away from them.
    """
    small = folded(login)
    if is_name(small) and small not in _TAKEN:
        return small
    digest = hashlib.sha256(small.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    # Of an address of mail the part before the sign says enough; the digest is that of the whole.
    words = _OTHER.sub("-", small.partition("@")[0][:LONGEST_LOGIN]).strip("-")[:40].strip("-")
    return f"{words or 'person'}-{digest}"
