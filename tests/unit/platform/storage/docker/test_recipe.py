from __future__ import annotations

import pytest

from cupola.config import environments_source
from cupola.exceptions import NotFoundError
from cupola.platform.storage.docker.recipe import read_recipe

DOCKERFILE = """\
# A comment
ARG BASE=cupola/base
ARG WINDOWS=cupola/desktop-base:test
ARG DEBIAN=debian:bookworm-slim
ARG PLAIN
FROM ${BASE} AS one
ARG LATER=cupola/later
RUN true
"""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "probe"
    (place / "share").mkdir(parents=True)
    (place / "Dockerfile").write_text(DOCKERFILE)
    (place / "share" / "a.txt").write_text("a")
    return place


def test_what_it_stands_on_is_named_by_its_arguments(folder):
    recipe = read_recipe("probe", folder)
    assert recipe.parents() == {"BASE": "base", "WINDOWS": "desktop-base"}
    assert recipe.arguments["DEBIAN"] == "debian:bookworm-slim"
    assert "LATER" not in recipe.arguments
    assert not recipe.takes_cupola


def test_only_what_an_image_is_made_of_makes_another_one(folder):
    def digest():
        return read_recipe("probe", folder).digest(["below"])

    before = digest()
    for name in ("datalab.yaml", "icon.svg", "verify", "README.md", "requirements.in", ".hidden"):
        (folder / name).write_text("text")
    (folder / "share" / "__pycache__").mkdir()
    (folder / "share" / "__pycache__" / "a.pyc").write_text("text")
    assert digest() == before
    assert read_recipe("probe", folder).digest(["other"]) != before
    (folder / "share" / "a.txt").chmod(0o755)
    runs = digest()
    assert runs != before
    (folder / "share" / "a.txt").write_text("b")
    assert digest() not in {before, runs}


def test_the_engine_gets_the_files_with_rights_for_everybody(folder, tmp_path):
    (folder / "share" / "a.txt").chmod(0o600)
    (folder / "start").write_text("#!/bin/sh\n")
    (folder / "start").chmod(0o700)
    (folder / "Dockerfile").write_text("FROM x\nRUN --mount=type=bind,source=cupola,target=/mnt true\n")
    (folder / "verify").write_text("")
    context = tmp_path / "context"
    context.mkdir()
    recipe = read_recipe("probe", folder)
    recipe.write(context)
    assert recipe.takes_cupola
    names = {str(file.relative_to(context)) for file in context.rglob("*") if file.is_file()}
    wheel = next(name for name in names if name.startswith("cupola/"))
    assert wheel.endswith("-py3-none-any.whl")
    assert names == {"Dockerfile", "share/a.txt", "start", wheel}
    assert (context / "share" / "a.txt").stat().st_mode & 0o777 == 0o644
    assert (context / "start").stat().st_mode & 0o777 == 0o755


def test_a_folder_without_a_recipe_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="Dockerfile is missing"):
        read_recipe("probe", tmp_path)


def test_every_shipped_recipe_stands_on_folders_that_are_there():
    source = environments_source()
    found = {
        file.parent.name: read_recipe(file.parent.name, file.parent) for file in source.glob("*/Dockerfile")
    }
    assert {"base", "builder", "lab"} <= found.keys()
    for name, recipe in found.items():
        assert set(recipe.parents().values()) <= found.keys(), name
        text = (recipe.folder / "Dockerfile").read_text()
        assert "# syntax=" not in text, f"{name}: a frontend would have to be pulled from a registry"
    for file in source.glob("*/datalab.yaml"):
        assert (file.parent / "verify").is_file(), f"{file.parent.name} has no check"
