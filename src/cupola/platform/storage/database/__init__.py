"""The portal database: SQLite by default, any database that SQLAlchemy speaks."""
