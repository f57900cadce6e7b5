from __future__ import annotations

import json

import pytest

from cupola.exceptions import ConflictError, NotFoundError
from cupola.platform.services.datalabs.catalogue import CatalogueService
from cupola.platform.storage.environments import EnvironmentStore
from cupola.platform.storage.files.datalabs import DatalabFolder

pytestmark = pytest.mark.asyncio


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    datalab(folder, "lab", "title: Cupola Lab\nsummary: One sentence.\n")
    return folder


@pytest.fixture
def service(tmp_path, source):
    return CatalogueService(
        folder=DatalabFolder(source), versions=EnvironmentStore(tmp_path / "environments", source)
    )


def datalab(folder, name, text):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "datalab.yaml").write_text(text)


def version(tmp_path, name, digest, created, ready=True):
    place = tmp_path / "environments" / name / digest.removeprefix("sha256:")[:12]
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to("/bin/sh")
    content = {"digest": digest, "label": created[:7], "created": created, "ready": ready}
    (place / "version.json").write_text(json.dumps(content))
    return place / "bin" / "python"


async def test_the_newest_version_is_recommended(service, tmp_path):
    old = version(tmp_path, "lab", "sha256:" + "a" * 64, "2026-10-01T00:00:00Z")
    new = version(tmp_path, "lab", "sha256:" + "b" * 64, "2026-11-01T00:00:00Z")
    lab = await service.datalab("lab")
    assert lab.unavailable is None
    assert [v.label for v in lab.versions] == ["2026-11", "2026-10"]
    assert (await service.version("lab")).python == new
    assert (await service.version("lab", "sha256:" + "a" * 64)).python == old
    with pytest.raises(NotFoundError, match="sha256:c"):
        await service.version("lab", "sha256:c")
    with pytest.raises(NotFoundError, match="'lib'"):
        await service.datalab("lib")


async def test_a_datalab_may_bring_its_picture(service, source):
    datalab(source, "sky", "title: Sky\nsummary: One sentence.\n")
    (source / "sky" / "icon.svg").write_text("<svg/>")
    assert await service.picture("sky") == b"<svg/>"
    assert (await service.datalab("sky")).pictured
    assert not (await service.datalab("lab")).pictured
    (source / "sky" / "icon.svg").write_text("x" * 300_000)
    for name in ("lab", "sky", "../source/sky", "nothing"):
        with pytest.raises(NotFoundError, match="picture"):
            await service.picture(name)


async def test_one_without_a_version_says_how_to_get_one(service):
    assert "cupola up" in (await service.datalab("lab")).unavailable
    with pytest.raises(ConflictError, match="cupola up"):
        await service.version("lab")


@pytest.mark.parametrize(
    "text",
    [
        "title: [unclosed",
        "- a list",
        "",
        "title: No summary",
        "title: x\nsummary: y\nunknown: z",
        "title: x\nsummary: y\nname: other",
    ],
)
async def test_a_broken_one_shows_and_spoils_nothing(service, source, text):
    datalab(source, "broken", text)
    broken, lab = await service.datalabs()
    assert "datalab.yaml is wrong" in broken.unavailable
    assert broken.title == "broken"
    assert lab.title == "Cupola Lab"
    # It can be told over the API all the same.
    assert "unavailable" in broken.model_dump_json()
    datalab(source, "broken", "title: Mended\nsummary: Now it is right.\n")
    assert (await service.datalab("broken")).title == "Mended"


async def test_another_kind_of_program_says_why_it_cannot_run(service, source, tmp_path):
    datalab(source, "web", "title: Web\nsummary: A program.\nkind: web\ncommand: [app]\n")
    version(tmp_path, "web", "sha256:" + "a" * 64, "2026-10-01T00:00:00Z")
    assert "another kind" in (await service.datalab("web")).unavailable
