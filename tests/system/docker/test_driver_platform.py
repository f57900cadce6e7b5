"""A whole platform with ``compute: docker`` and the real image of the Lab: crashes of its parts, and an end without remains."""

from __future__ import annotations

import subprocess
from functools import partial

import httpx
import pytest

from cupola.models.session import EndCause, SessionState
from support.platform import OWNER
from support.visits import launch, portal_answers, signed_in
from support.visits import until as until_within

pytestmark = [pytest.mark.system, pytest.mark.asyncio, pytest.mark.timeout(1800)]

PATIENCE = 180
until = partial(until_within, seconds=PATIENCE)


async def answers(visitor, session):
    try:
        return (await visitor.http.get(f"/user/{OWNER}/{session.id}/api")).status_code == 200
    except httpx.HTTPError:
        return False


def rules_of(platform):
    said = subprocess.run(["iptables", "-w", "-S"], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if platform.paths.key in line]


async def test_containers_outlive_every_part_and_end_with_the_platform(new_platform, images, engine):
    images.have("lab")
    ours = new_platform(settings=images.settings)
    ours.start()
    async with signed_in(ours) as (visitor, client):
        session = await launch(client)
        container = engine.client.containers.list(filters={"label": f"cupola.session={session.id}"})[0]
        pid = container.attrs["State"]["Pid"]

        async def all_well():
            return await answers(visitor, session) and await portal_answers(client)

        await until(all_well, "the session answers")
        home = ours.paths.home(OWNER).stat()
        assert home.st_uid >= 20_000
        assert home.st_mode & 0o777 == 0o700
        assert await client.session_log(session.id)

        old = ours.part("hub")
        old.kill()
        await until(lambda: ours.pid("hub") != old.pid, "a new hub is started")
        await until(all_well, "hub and portal are back")
        ours.part("hub").children(recursive=True)[-1].kill()
        await until(all_well, "the portal is back")
        old = ours.part("proxy")
        old.kill()
        await until(lambda: ours.pid("proxy") != old.pid, "a new proxy is started")
        await until(all_well, "the routes are there again")
        subprocess.run(["iptables", "-w", "-F", f"CUPOLA-{ours.paths.key}-HOST"], check=True)  # noqa: ASYNC221
        await until(lambda: any("REJECT" in line for line in rules_of(ours)), "the rules are made anew")
        ours.kill()
        assert await answers(visitor, session), "the session answers without cupola up"
        ours.start()
        await until(all_well, "the next cupola up has taken over")

        container.reload()
        assert container.attrs["State"]["Pid"] == pid
        assert (await client.session(session.id)).state is SessionState.READY
    ours.stop()
    assert ours.process.returncode == 0, ours.output
    assert (
        engine.client.containers.list(all=True, filters={"label": f"cupola.platform={ours.paths.key}"}) == []
    )
    assert rules_of(ours) == []
    assert engine.client.networks.list(names=[f"cupola-{ours.paths.key}"]) == []
    assert ours.paths.session_log(session.id).read_text()
    ours.start()
    async with signed_in(ours) as (_, client):
        ended = await client.session(session.id)
        assert ended.state is SessionState.STOPPED
        assert ended.end is None or ended.end.cause is EndCause.ASKED
