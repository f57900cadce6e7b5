from __future__ import annotations

import asyncio
import os
import stat

import pytest

from cupola.models.containers import Account
from cupola.models.person import Person, Profile
from cupola.platform.services.people.accounts import AccountService
from cupola.platform.storage.database.accounts import FIRST_NUMBER, AccountStore
from cupola.platform.storage.database.connection import Database
from cupola.platform.storage.files.accounts import write_accounts


def person(name, *teams):
    return Person(name=name, teams=list(teams), profile=Profile(cores=1, memory_mib=1024))


@pytest.mark.asyncio
async def test_numbers_are_given_once_and_never_twice(tmp_path):
    database = Database.at(tmp_path / "portal.sqlite")
    await database.migrate()
    service = AccountService(AccountStore(database), root=True)
    ada = await service.account(person("ada"))
    assert ada == Account(user=FIRST_NUMBER, group=FIRST_NUMBER)
    # A team may be named like a person.
    mappers = await service.account(person("eve", "mappers", "ada"))
    assert len({ada.user, mappers.user, *mappers.groups.values()}) == 4
    assert await service.team("mappers") == mappers.groups["mappers"]
    assert await service.account(person("ada")) == ada
    await database.aclose()


@pytest.mark.asyncio
async def test_many_who_come_at_once_get_a_number_each(tmp_path):
    database = Database.at(tmp_path / "portal.sqlite")
    await database.migrate()
    store = AccountStore(database)
    names = [f"person-{number % 10}" for number in range(40)]
    numbers = await asyncio.gather(*(store.number("person", name) for name in names))
    assert len(set(numbers)) == 10
    assert all(number == numbers[place % 10] for place, number in enumerate(numbers))
    await database.aclose()


@pytest.mark.asyncio
async def test_without_root_all_files_are_the_platforms_own(tmp_path):
    database = Database.at(tmp_path / "portal.sqlite")
    await database.migrate()
    service = AccountService(AccountStore(database), root=False)
    assert await service.account(person("ada", "mappers")) == Account(user=os.geteuid(), group=os.getegid())
    assert await service.team("mappers") is None
    await database.aclose()


def test_the_files_of_a_person_name_all_numbers(tmp_path):
    passwd, group = tmp_path / "accounts" / "ada.passwd", tmp_path / "accounts" / "ada.group"
    account = Account(user=20001, group=20001, groups={"mappers": 20005, "ada": 20006})
    write_accounts(passwd, group, "ada", account)
    assert "ada:x:20001:20001:ada:/home/ada:/bin/bash" in passwd.read_text().splitlines()
    lines = group.read_text().splitlines()
    assert "mappers:x:20005:ada" in lines
    assert "team-ada:x:20006:ada" in lines
    names = [line.split(":")[0] for line in lines]
    assert len(names) == len(set(names))
    assert stat.S_IMODE(passwd.stat().st_mode) == 0o644
    before = passwd.stat().st_ino
    write_accounts(passwd, group, "ada", account)
    assert passwd.stat().st_ino == before, "what did not change is not written"
    write_accounts(passwd, group, "ada", account.model_copy(update={"groups": {}}))
    assert "mappers" not in group.read_text()
