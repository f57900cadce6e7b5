"""What ``benchmarks/survive.py`` measures beside its scenarios."""
