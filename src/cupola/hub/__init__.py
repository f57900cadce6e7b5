"""The hub: JupyterHub's configuration, sign-in, spawner and proxy, and the supervisor that keeps them running."""
