"""Homes and team volumes are made under their limits, and the portal tells how full they are."""

from __future__ import annotations

import asyncio

import pytest

from cupola.config import QuotaSettings, StatePaths
from cupola.exceptions import InputError
from cupola.models.person import Person, Profile
from cupola.models.storage import Fullness, PlaceKind, StorageUsage
from cupola.platform.services.quotas import QuotaService
from cupola.platform.storage.quotas import Held, Limit, LimitInUseError, Quota, QuotaError

GIB = 2**30


class Recorded(Quota):
    """A quota that writes down what it is asked, and refuses what a test wants refused."""

    def __init__(self, roots):
        super().__init__(roots)
        self.asked = []
        self.refuses = None
        self.held = {}
        self.busy = 0

    def check(self):
        self.asked.append("check")

    def prepare(self, folder, owner, limit):
        self.busy += 1
        assert self.busy == 1
        folder.mkdir(parents=True, exist_ok=True)
        self.asked.append((folder.name, owner.number, oct(owner.mode), limit))
        self.busy -= 1
        if self.refuses:
            raise self.refuses

    def usage(self, folder):
        if folder.name not in self.held:
            raise QuotaError("no")
        return self.held[folder.name]

    def set_limit(self, folder, limit):
        self.asked.append((folder.name, limit))

    def remove(self, folder):
        self.asked.append(("remove", folder.name))

    def move(self, folder, target):
        self.asked.append(("move", folder.name, target.parent.name))


@pytest.fixture
def paths(tmp_path):
    return StatePaths(tmp_path / "state")


@pytest.fixture
def quota(paths):
    return Recorded([paths.homes, paths.teams])


@pytest.fixture
def service(quota, paths):
    return QuotaService(quota=quota, paths=paths, settings=QuotaSettings(home_gib=2.0, files_per_gib=5000))


@pytest.mark.asyncio
async def test_a_home_is_private_and_a_team_volume_is_the_groups(service, quota, paths):
    assert await service.prepare("home", "ada", 20001) == paths.home("ada")
    await service.prepare("team", "mars", 20002, 5 * GIB)
    assert quota.asked == [
        ("ada", 20001, "0o700", Limit(2 * GIB, 10_000)),
        ("mars", 20002, "0o2770", Limit(5 * GIB, 25_000)),
    ]


@pytest.mark.asyncio
async def test_one_folder_is_prepared_once_at_a_time(service, quota):
    await asyncio.gather(*(service.prepare("home", "ada", 20001) for _ in range(8)))
    assert len(quota.asked) == 8


@pytest.mark.asyncio
async def test_a_limit_that_cannot_change_now_does_not_stop_a_launch(service, quota):
    quota.refuses = LimitInUseError("later")
    await service.prepare("home", "ada", 20001)
    quota.refuses = QuotaError("broken")
    with pytest.raises(QuotaError):
        await service.prepare("home", "ada", 20001)


@pytest.mark.asyncio
async def test_what_cannot_be_read_is_left_out_of_the_list(service, quota, paths):
    person = Person(name="ada", teams=["mars"], profile=Profile(cores=1, memory_mib=1024))
    for folder in (paths.home("ada"), paths.team("mars")):
        folder.mkdir(parents=True)
    quota.held["mars"] = Held(used=95, limit=100)
    found = await service.usages(person)
    assert [(usage.kind, usage.fullness) for usage in found] == [(PlaceKind.TEAM, Fullness.NEARLY)]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["", ".images", "../x", "a/b", "a\0"])
async def test_a_name_never_leads_elsewhere(service, name):
    with pytest.raises(InputError):
        await service.prepare("home", name)


@pytest.mark.asyncio
async def test_a_changed_configuration_holds_for_homes_in_use_after_a_start(quota, paths):
    for name in ("ada", "ben"):
        paths.home(name).mkdir(parents=True)

    async def limit_of(person):
        return 7 * GIB if person == "ben" else None

    service = QuotaService(quota=quota, paths=paths, settings=QuotaSettings(home_gib=2.0), limit_of=limit_of)
    await service.watch()
    await service.watch()
    assert quota.asked == [("ada", Limit(2 * GIB, 200_000)), ("ben", Limit(7 * GIB, 700_000))]


def test_files_count_as_much_as_bytes():
    place = {"kind": "home", "name": "ada"}
    assert (
        StorageUsage(**place, used_bytes=1, limit_bytes=100, files=10, files_limit=10).fullness
        is Fullness.FULL
    )
    assert StorageUsage(**place, used_bytes=89, limit_bytes=100).fullness is Fullness.FINE
    assert StorageUsage(**place, used_bytes=10**9).fullness is Fullness.FINE
