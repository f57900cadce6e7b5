"""The sample archive: made-up, realistic images of Earth, Mars and the sky for trying things out.

`make` writes it; ``python -m cupola.lab.samples FOLDER`` does so from a terminal.
"""

from __future__ import annotations

from cupola.lab.samples.archive import VERSION, Progress, make

__all__ = ["VERSION", "Progress", "make"]
