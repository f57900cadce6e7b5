"""Where the hub keeps its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from cupola.config.database import HUB_SCHEMA, postgresql_address, schema_url
from cupola.exceptions import StartError

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["hub_database"]


def hub_database(config: Config) -> str:
    """Return the address of the hub's database; its schema is made where it is missing.

    Raises
    ------
    ConfigError
        The file with the address is wrong.
    StartError
        PostgreSQL does not answer.
    """
    address = postgresql_address(config)
    if address is None:
        return f"sqlite:///{config.paths.hub / 'jupyterhub.sqlite'}"
    try:
        with psycopg.connect(address, connect_timeout=5, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {HUB_SCHEMA}")
    except psycopg.Error as exc:
        raise StartError(
            f"PostgreSQL does not answer at the address in {config.database.url_file}: {str(exc).strip()}"
        ) from exc
    return schema_url(address, HUB_SCHEMA)
