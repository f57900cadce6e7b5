"""The outside world, without decisions: database, files, hub, engines."""
