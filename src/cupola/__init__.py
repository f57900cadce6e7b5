"""Cupola: the lab next to the archive."""
