"""The REST API, one file per noun. Each module has a ``router``."""
