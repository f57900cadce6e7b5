"""Kernels below their guardians: started, taken up again, reached by one wire."""
