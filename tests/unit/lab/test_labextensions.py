"""The hand-written extensions of JupyterLab: loaded by one and the same container, by addresses relative to their own."""

import json
import re
from pathlib import Path

import pytest

import cupola.lab

EXTENSIONS = Path(cupola.lab.__file__).parent / "labextension"
NAMES = sorted(place.parent.name for place in EXTENSIONS.glob("*/package.json"))
IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*'([^']+)'""")


def test_all_are_found():
    assert NAMES == ["cupola-guardian", "cupola-notebooks", "cupola-notices", "cupola-stop"]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_named_as_its_folder_and_loaded_alike(name):
    package = json.loads((EXTENSIONS / name / "package.json").read_text())
    assert package["name"] == name
    assert package["jupyterlab"]["_build"]["load"] == "static/remoteEntry.js"
    entries = {(EXTENSIONS / one / "static" / "remoteEntry.js").read_text() for one in NAMES}
    assert len(entries) == 1, "one that is changed is changed in all"


@pytest.mark.parametrize("name", NAMES)
def test_what_they_import_is_there(name):
    for module in (EXTENSIONS / name / "static").glob("*.js"):
        for address in IMPORT.findall(module.read_text()):
            assert address.startswith("."), f"{module.name}: {address} holds below one base URL only"
            assert (module.parent / address).is_file(), f"{module.name}: {address}"


def test_nothing_of_what_is_shared_is_written_again():
    shared = EXTENSIONS / "cupola-shared" / "shared.js"
    names = re.findall(r"^export (?:async )?(?:function|class) (\w+)", shared.read_text(), re.MULTILINE)
    assert {"loader", "make", "sleep", "Server"} <= set(names)
    for module in EXTENSIONS.glob("*/static/*.js"):
        defined = set(
            re.findall(
                r"^(?:export )?(?:async )?(?:function|class|const) (\w+)", module.read_text(), re.MULTILINE
            )
        )
        assert not defined & set(names), module
