"""Containers as both the hub (sessions) and the portal (jobs) make them."""
