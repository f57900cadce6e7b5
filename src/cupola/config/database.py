"""Where the tables lie: SQLite files in the state folder, or a schema each in one PostgreSQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from cupola.exceptions import ConfigError

if TYPE_CHECKING:
    from cupola.config.root import Config

__all__ = ["HUB_SCHEMA", "PORTAL_SCHEMA", "postgresql_address", "schema_url"]

HUB_SCHEMA = "cupola_hub"
PORTAL_SCHEMA = "cupola_portal"
_KINDS = {"postgresql", "postgres"}
_LONGEST = 4096


def postgresql_address(config: Config) -> str | None:
    """Return the address that the file of the configuration holds; nothing where SQLite is used.

    Raises
    ------
    ConfigError
        The file cannot be read, or holds no such address. The text never shows what is in it.
    """
    file = config.database.url_file
    if file is None:
        return None
    try:
        with file.open(encoding="utf-8") as content:
            address = content.read(_LONGEST).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"database.url_file: {file} cannot be read: {exc}") from exc
    parts = urlsplit(address)
    if parts.scheme not in _KINDS or not parts.path.strip("/"):
        raise ConfigError(
            f"database.url_file: {file} holds no address of a PostgreSQL database; it is one line, "
            "postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    return f"postgresql:{address.partition(':')[2]}"


def schema_url(address: str, schema: str) -> str:
    """Return the address as SQLAlchemy takes it, with all tables in `schema` and a short patience.

    A server that hangs must not hang hub or portal: after seconds they say that the database does not answer.
    """
    parts = urlsplit(address)
    mine = {
        "options": f"-csearch_path={schema}",
        "application_name": schema,
        "connect_timeout": "5",
        "tcp_user_timeout": "10000",
    }
    added = "&".join(f"{name}={quote(value, safe='')}" for name, value in mine.items())
    query = f"{parts.query}&{added}" if parts.query else added
    # urlunsplit would drop the empty host of an address by socket: postgresql:///database?host=/run/postgresql
    return f"postgresql+psycopg://{parts.netloc}{parts.path}?{query}"
