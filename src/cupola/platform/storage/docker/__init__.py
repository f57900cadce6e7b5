"""The Docker engine: images of datalabs."""
