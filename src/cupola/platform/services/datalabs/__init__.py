"""Datalabs: the catalogue, and the versions that are built, fetched and kept."""
