"""The pages, one file per noun. Each module has a ``router``."""
