"""A kernel that is told what to say: its journal is written by the guardian's own code, and its lock is held."""

import fcntl
import json
import os
import time

from cupola.lab.guardian.folder import KernelFolder
from cupola.lab.guardian.journal.execution import Execution
from cupola.lab.guardian.kernels.watch_journal import Journal

__all__ = ["Said"]


class Said:
    """A kernel's folder, and what is said there."""

    def __init__(self, path, session=""):
        path.mkdir(parents=True, exist_ok=True)
        self.folder = KernelFolder(path)
        self.session = session
        self.journal = Journal(str(self.folder.journal), 1 << 30)
        self.lock = os.open(self.folder.lock, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.record()
        self.count = 0
        self.say("start", epoch=1)

    def record(self, **fields):
        """Write down who guards what."""
        mine = {"kernel_id": self.folder.kernel_id, "session": self.session}
        self.folder.record_file.write_text(json.dumps(mine | fields))

    def say(self, kind, content=None, name="", **fields):
        """Write a record."""
        record = {"type": kind, "id": name, "session": "page"} if name else {"type": kind}
        record |= fields
        if content is not None:
            record["content"] = content
        self.journal.add(json.dumps(record)[1:-1].encode())
        self.journal.flush()

    def begin(self, name):
        """Begin with an execution."""
        self.count += 1
        self.say("status", {"execution_state": "busy"}, name)
        self.say("execute_input", {"code": "", "execution_count": self.count}, name)
        return self.count

    def print(self, name, text):
        """Put out text."""
        self.say("stream", {"name": "stdout", "text": text}, name)

    def show(self, name, text, display_id="", kind="display_data"):
        """Put out something rich."""
        content = {"data": {"text/plain": text}, "metadata": {}}
        self.say(kind, content | ({"transient": {"display_id": display_id}} if display_id else {}), name)

    def finish(self, name):
        """End an execution."""
        self.say("status", {"execution_state": "idle"}, name)

    def run(self, name, *texts):
        """Execute something whole."""
        self.begin(name)
        for text in texts:
            self.print(name, text)
        self.finish(name)

    def next_segment(self):
        """Go on in another file."""
        self.journal.flush()
        self.journal._next_segment()

    def die(self):
        """End without a word."""
        os.close(self.lock)

    def old(self, seconds=7200):
        """Let all that is there be old."""
        for place in self.folder.journal.iterdir():
            os.utime(place, (time.time() - seconds,) * 2)


def asked(name, cell="c1", path="a.ipynb", code="x", **fields):
    """Return a request."""
    return Execution(name, session="page", path=path, cell=cell, code=code, **fields)
