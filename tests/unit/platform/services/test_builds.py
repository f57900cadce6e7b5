from __future__ import annotations

import pytest

from cupola.config import Compute
from cupola.exceptions import InputError, NotFoundError, UnavailableError
from cupola.models.datalab import Version
from cupola.platform.services.datalabs.builds import BuildService
from cupola.platform.services.datalabs.catalogue import CatalogueService
from cupola.platform.storage.environments import BuiltVersion
from cupola.platform.storage.files.datalabs import DatalabFolder

pytestmark = pytest.mark.asyncio

LETTERS = "dcba"


class Kept:
    """Versions in memory, newest first."""

    def __init__(self):
        self.here = [
            Version(
                digest=f"sha256:{letter * 64}",
                label=f"2026.11.{20 - number}",
                created=f"2026-11-{20 - number}T00:00:00Z",
                ready=True,
                verified=True,
            )
            for number, letter in enumerate(LETTERS)
        ]
        self.mark = None
        self.wrong = None
        self.builds = set()
        self.asked = []

    def versions(self, datalab):
        return [BuiltVersion(version, None) for version in self.here] if datalab == "lab" else []

    def recommended(self, datalab):  # noqa: ARG002 - the store's own shape
        return self.mark

    def recommend(self, datalab, digest):  # noqa: ARG002 - the store's own shape
        self.mark = digest

    def problem(self):
        return self.wrong

    def building(self, datalab):
        return datalab in self.builds

    def remove(self, datalab, version):  # noqa: ARG002 - the store's own shape
        if version.label.endswith("17"):
            raise UnavailableError("a container uses it")
        self.here.remove(version)

    def fetch(self, datalab, version):  # noqa: ARG002 - the store's own shape
        self.asked.append(version.label)
        if version.label.endswith("17"):
            raise UnavailableError("no such image")
        self.change(version, ready=True)

    def change(self, version, **values):
        self.here = [
            one.model_copy(update=values) if one.digest == version.digest else one for one in self.here
        ]


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def catalogue(tmp_path, kept):
    for name, more in (("lab", ""), ("web", "kind: web\ncommand: [x]\n"), ("big", "build: on request\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "datalab.yaml").write_text(f"title: {name.title()}\nsummary: One.\n{more}")
    return CatalogueService(folder=DatalabFolder(tmp_path), versions=kept, compute=Compute.DOCKER)


@pytest.fixture
def seconds():
    return [0.0]


@pytest.fixture
def builds(catalogue, kept, seconds):
    return BuildService(catalogue=catalogue, versions=kept, fetches=kept, clock=lambda: seconds[0])


async def test_a_version_is_marked_by_label_or_digest(builds, catalogue, kept):
    assert (await catalogue.datalab("lab")).recommended == kept.here[0].digest
    await builds.recommend("lab", "2026.11.18")
    assert (await catalogue.datalab("lab")).recommended == kept.here[2].digest
    await builds.recommend("lab", "ccc")
    assert (await catalogue.datalab("lab")).recommended == kept.here[1].digest
    # What is not here cannot start with one click.
    kept.change(kept.here[1], ready=False)
    kept.change(kept.here[0], verified=False)
    assert (await catalogue.datalab("lab")).recommended == kept.here[2].digest
    await builds.recommend("lab", "newest")
    assert kept.mark is None
    kept.change(kept.here[0], label="2026.11.17")
    with pytest.raises(InputError, match="Several"):
        await builds.recommend("lab", "2026.11.17")
    with pytest.raises(NotFoundError, match="it has: none"):
        await builds.recommend("web", "2026.11.17")
    with pytest.raises(NotFoundError):
        await builds.recommend("no-such", "newest")


async def test_only_what_nobody_counts_on_is_removed(builds, kept):
    kept.mark = kept.here[1].digest
    done = await builds.prune([kept.here[2].digest], keep=1)
    assert [one.why for one in done] == [
        "one of the newest",
        "recommended",
        "a session or a job was made with it",
        "it could not be removed: a container uses it",
    ]
    kept.mark = None
    done = await builds.prune([], keep=0)
    assert [one.why is None for one in done] == [False, True, True, False]
    assert len(kept.here) == 2


async def test_what_is_not_here_is_fetched_and_tried_again_after_a_while(builds, kept, seconds):
    for version in kept.here[2:]:
        kept.change(version, ready=False)
    await builds.keep_ready()
    assert kept.asked == ["2026.11.18", "2026.11.17"]
    assert [version.ready for version in kept.here] == [True, True, True, False]
    await builds.keep_ready()
    assert len(kept.asked) == 2
    seconds[0] = 3600.0
    await builds.keep_ready()
    assert kept.asked[2:] == ["2026.11.17"]


async def test_an_engine_that_does_not_answer_has_lost_nothing(builds, kept, catalogue):
    kept.wrong = "The engine sleeps."
    for version in kept.here:
        kept.change(version, ready=False)
    await builds.keep_ready()
    assert kept.asked == []
    assert (await catalogue.datalab("lab")).unavailable == "The engine sleeps."


async def test_the_catalogue_says_why_there_is_no_image(catalogue, kept):
    assert "cupola build web" in (await catalogue.datalab("web")).unavailable
    assert "on request" in (await catalogue.datalab("big")).unavailable
    kept.builds = {"web"}
    assert "being built" in (await catalogue.datalab("web")).unavailable
    for version in kept.here:
        kept.change(version, ready=False)
    assert "any more" in (await catalogue.datalab("lab")).unavailable


async def test_environments_are_never_fetched(catalogue, kept):
    kept.change(kept.here[0], ready=False)
    await BuildService(catalogue=catalogue, versions=kept).keep_ready()
    assert kept.asked == []
