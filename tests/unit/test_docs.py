"""The documentation: it builds without a warning, and nothing that people can use is left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

import cupola
from cupola.cli import VERBS
from cupola.config.fields import settings

pytest.importorskip("sphinx")
pytest.importorskip("furo")


@pytest.fixture(scope="module")
def built(repository, tmp_path_factory):
    """Build the documentation as `make docs` does and return what Sphinx said, and where the pages are."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--keep-going", "-W", "-n", "-b", "html"]
    places = ["-d", str(folder / "doctrees"), "docs", str(folder / "html")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CUPOLA_")}
    done = subprocess.run(
        [*command, *places], cwd=repository, capture_output=True, text=True, check=False, env=environment
    )
    return done, folder / "html"


def headings(built, page):
    text = (built[1] / page).read_text(encoding="utf-8")
    found = re.findall(r"<h[1-4]>(.*?)</h[1-4]>", text, re.DOTALL)
    return {re.sub(r"<a .*?</a>|<[^>]+>", "", heading) for heading in found}


def test_the_documentation_builds_without_a_warning(built):
    done, _ = built
    assert done.stderr == ""
    assert done.returncode == 0


def test_every_setting_is_in_the_reference(built):
    keys = {entry.key for top in settings() for entry in top.walk()}
    assert keys <= headings(built, "reference/generated/configuration.html")


def test_every_verb_is_in_the_reference(built):
    assert {f"cupola {verb}" for verb in VERBS} <= headings(built, "reference/generated/commands.html")


def test_every_address_of_the_contracts_is_in_the_reference(built):
    found = headings(built, "reference/generated/rest.html")
    for row in ("GET me", "GET datalabs", "POST sessions", "GET volumes", "POST jobs"):
        method, noun = row.split()
        assert f"{method} /services/cupola/api/{noun}" in found


def test_every_name_for_notebooks_is_in_the_reference(built):
    text = (built[1] / "reference" / "notebook.html").read_text(encoding="utf-8")
    for name in cupola.__all__:
        assert re.search(rf'<span class="pre">(cupola\.)?{name}</span>', text), name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_front_pages_lead_somewhere(repository, page):
    text = (repository / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    for link in links:
        assert (repository / link).exists(), link
