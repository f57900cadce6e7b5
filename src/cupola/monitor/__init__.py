"""Synthetic users: they do what people do, over HTTP, and say what they saw."""
