"""What runs inside a session: collections, chains, tiles, maps, jobs."""
