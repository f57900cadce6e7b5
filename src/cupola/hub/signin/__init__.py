"""Signing in: who somebody is, whether they may come in, and the end of it."""
