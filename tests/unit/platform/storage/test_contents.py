from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

from cupola.platform.storage.environments.contents import of_environment, of_image


def listed(name, release, purl):
    return {"name": name, "versionInfo": release, "externalRefs": [{"referenceLocator": purl}]}


def test_an_environment_tells_its_python_and_packages():
    found = of_environment(Path(sys.executable))
    assert found is not None
    assert found.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found.packages["numpy"] == version("numpy")
    assert found.packages["typing-extensions"] == version("typing_extensions")


def test_an_environment_whose_packages_cannot_be_seen_tells_nothing(tmp_path):
    assert of_environment(tmp_path / "bin" / "python") is None
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    assert of_environment(tmp_path / "bin" / "python") is None


def test_the_list_of_an_image_tells_them_too(tmp_path):
    file = tmp_path / "sbom.json"
    packages = [
        listed("python3.11", "3.11.2-6", "pkg:deb/debian/python3.11@3.11.2"),
        listed("python3.11-minimal", "3.11.2-6", "pkg:deb/debian/python3.11-minimal@3.11.2"),
        listed("Typing_Extensions", "4.15.0", "pkg:pypi/typing-extensions@4.15.0"),
        listed("numpy", "1", "pkg:npm/numpy@1"),
        {"name": "document", "versionInfo": "1"},
    ]
    file.write_text(json.dumps({"packages": packages}))
    found = of_image(file)
    assert found is not None
    assert (found.python, found.packages) == ("3.11", {"typing-extensions": "4.15.0"})
    assert of_image(tmp_path / "absent.json") is None


def test_an_image_of_two_pythons_tells_none(tmp_path):
    file = tmp_path / "sbom.json"
    packages = [listed(name, "1", "pkg:deb/debian/python") for name in ("python3.11", "python3.13")]
    file.write_text(json.dumps({"packages": packages}))
    assert of_image(file).python is None
