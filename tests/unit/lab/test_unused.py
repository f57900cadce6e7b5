"""What is left out of a session's server is really not needed by it, and is still there for others."""

from __future__ import annotations

import subprocess
import sys

LEFT_OUT = """
import sys
from cupola.lab.unused import UNUSED, leave_out
leave_out()
import httpx, jsonschema, jupyter_server.serverapp, jupyterlab.labapp, jupyterhub.singleuser.extension
print(sorted(name for name in UNUSED if sys.modules[name] is None) == sorted(UNUSED))
print("pygments" in sys.modules, "lark" in sys.modules)
checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
print(checker.conforms("not an address", "uri"), checker.conforms("https://example.org", "uri"))
"""
USED = "import jsonschema, httpx._main, sys; print(sys.modules['rfc3987_syntax'] is not None)"


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_server_loads_without_them_and_checks_addresses_still():
    assert run(LEFT_OUT) == ["True", "False", "False", "False", "True"]


def test_other_processes_have_them():
    assert run(USED) == ["True"]


def test_no_schema_of_the_server_asks_for_the_format_that_is_left_out():
    code = (
        "import jupyter_events, jupyter_server, jupyterlab, pathlib\n"
        "for module in (jupyter_events, jupyter_server, jupyterlab):\n"
        "    for file in pathlib.Path(module.__file__).parent.rglob('*schemas*/**/*.*ml'):\n"
        "        assert 'format: iri' not in file.read_text(), file\n"
        "print('none')"
    )
    assert run(code) == ["none"]
