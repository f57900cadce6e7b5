"""The secrets of a platform: made at the first start, kept in files that only this account may read."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import StartError
from cupola.hub.files import make_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Keys"]


@dataclass(frozen=True)
class Keys:
    """The secrets of one platform."""

    folder: Path

    @property
    def cookie_file(self) -> Path:
        """The file with the hub's cookie secret; the hub reads it itself."""
        return self.folder / "cookie-secret"

    @property
    def internal(self) -> str:
        """What hub and portal show each other."""
        return self._read("internal-token")

    @property
    def portal(self) -> str:
        """The portal's token at the hub."""
        return self._read("portal-token")

    @property
    def supervisor(self) -> str:
        """The supervisor's token at the hub."""
        return self._read("supervisor-token")

    @property
    def proxy(self) -> str:
        """The password of the proxy's own API."""
        return self._read("proxy-password")

    def make(self) -> None:
        """Make the secrets that are not there yet.

        Raises
        ------
        StartError
            They cannot be written.
        """
        try:
            make_private(self.folder)
            for name in (
                "cookie-secret",
                "internal-token",
                "portal-token",
                "supervisor-token",
                "proxy-password",
            ):
                file = self.folder / name
                if file.exists():
                    file.chmod(0o600)  # the hub refuses a cookie secret that others may read
                else:
                    write_private(file, secrets.token_hex(32) + "\n")
        except OSError as exc:
            raise StartError(f"the secrets cannot be written to {self.folder}: {exc.strerror}") from exc

    def _read(self, name: str) -> str:
        file = self.folder / name
        try:
            value = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise StartError(
                f"{file} cannot be read; start the platform with `cupola up`, which makes it"
            ) from exc
        if not value:
            raise StartError(f"{file} is empty; remove it and start the platform again")
        return value
