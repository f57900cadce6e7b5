"""``python -m cupola.cli``: the same as the program ``cupola``."""

from __future__ import annotations

from cupola.cli import main

main()
