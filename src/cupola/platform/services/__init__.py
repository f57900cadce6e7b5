"""The decisions, by noun."""
