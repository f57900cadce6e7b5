"""Notebooks as files, brought to what their kernels said."""
