"""``python -P -m cupola.lab.app -- COMMAND...``: a tool behind the hub's sign-in."""

from __future__ import annotations

import sys

from cupola.lab.app.session import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
