"""Volumes: which there are, who finds them, and their mounts on this host."""
