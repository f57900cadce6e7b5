"""Alembic's entry: it migrates over the connection that the portal hands in."""

from __future__ import annotations

from alembic import context

from cupola.platform.storage.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
