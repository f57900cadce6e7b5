"""JupyterHub, as the portal sees it."""
