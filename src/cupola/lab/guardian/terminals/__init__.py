"""Terminals that outlive their Jupyter server."""
