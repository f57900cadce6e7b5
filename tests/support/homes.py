"""A home with notebooks, a kernel that is told what to say, and the part of a server that reads and writes files."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from traitlets.config import Configurable

from cupola.lab.guardian.documents.contents import SurvivingContents
from cupola.lab.guardian.journal.ledger import Ledger
from support.journals import Said

__all__ = ["Home", "cell", "text"]


class Home:
    """A home with notebooks, a kernel that is told what to say, and a server that may be started again."""

    def __init__(self, place):
        self.place = Path(place)
        self.environment = pytest.MonkeyPatch()
        self.environment.setenv("CUPOLA_RUNTIME", str(self.place / ".cupola"))
        self.environment.setenv("CUPOLA_SESSION", "")
        # Signatures of its own.
        self.environment.setenv("JUPYTER_DATA_DIR", str(self.place / ".jupyter"))
        self.kernel = Said(self.place / ".cupola" / "kernels" / "k1")
        self.connections = {}
        self.ledger = None
        self.start()

    def start(self):
        """Start the server, again."""
        if self.ledger is not None:
            self.ledger.close()
        self.ledger = Ledger(self.kernel.folder)
        self.ledger.poll()
        server = Configurable()
        server.kernel_manager = SimpleNamespace(
            ledgers=lambda: [self.ledger], _kernel_connections=self.connections
        )
        self.contents = SurvivingContents(parent=server, root_dir=str(self.place))

    def close(self):
        """Leave nothing behind."""
        self.ledger.close()
        self.kernel.die()
        self.environment.undo()

    def write(self, *cells, path="a.ipynb", minor=5):
        """Write a notebook as any program does."""
        for one in cells if minor < 5 else ():
            del one["id"]
        notebook = nbformat.v4.new_notebook(cells=list(cells), nbformat_minor=minor)
        (self.place / path).write_text(nbformat.writes(notebook))

    def get(self, path="a.ipynb", **options):
        return asyncio.run(self.contents.get(path, **options))

    def content(self, path="a.ipynb"):
        return json.loads(json.dumps(self.get(path)["content"]))

    def save(self, content, path="a.ipynb", **more):
        return asyncio.run(
            self.contents.save({"type": "notebook", "format": "json", "content": content, **more}, path)
        )

    def keep(self, path="a.ipynb"):
        self.ledger.poll()
        return asyncio.run(self.contents.keep_one(path))

    def file(self, path="a.ipynb"):
        return nbformat.reads((self.place / path).read_text(), as_version=4)


def cell(name="c1", source="x", **fields):
    return nbformat.v4.new_code_cell(source, id=name, **fields)


def text(found):
    return "".join("".join(output.get("text", "")) for output in found["outputs"])
