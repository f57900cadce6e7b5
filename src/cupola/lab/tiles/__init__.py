"""Map tiles of chains: computed in killable worker processes, served by the session's Jupyter server."""
