"""Notebooks as jobs: from a cell with `run_notebook`, from the Lab with "Run this notebook as a job".

A task runs the notebook as it was at the submit, with papermill, in the session's own version, and writes what came of
it beside the original. Nothing of papermill is loaded before that: neither the Jupyter server nor ``import cupola``
pays for it.
"""
