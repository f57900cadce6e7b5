"""The portal tells how full a home is, and what becomes of packages."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.asyncio

MARIA = {"Authorization": "token token-of-maria"}


async def test_storage_and_packages_by_rest(open_portal, config):
    home = config.paths.home("maria")
    (home / ".cupola" / "packages").mkdir(parents=True)
    (home / "large").write_bytes(b"x" * 1_000_000)
    async with open_portal() as portal:
        answer = await portal.get("api/me/storage", headers=MARIA)
        assert answer.status_code == 200
        [usage] = answer.json()["items"]
        assert (usage["kind"], usage["name"], usage["limit_bytes"]) == ("home", "maria", None)
        assert usage["used_bytes"] >= 1_000_000
        hint = await portal.get("api/me/packages", params={"datalab": "lab"}, headers=MARIA)
        assert hint.json()["elsewhere"] == 0
        missing = await portal.get("api/me/packages", params={"datalab": "no-such"}, headers=MARIA)
        assert missing.status_code == 404
        assert (await portal.get("api/me/storage")).status_code == 401


async def test_the_bar_is_a_part_that_renews_itself(open_portal, config):
    (config.paths.home("maria")).mkdir(parents=True)
    async with open_portal() as portal:
        portal.headers.update({"Accept": "text/html"})
        portal.cookies.update({"service-cupola": "token-of-maria"})
        answer = await portal.get("storage/live")
        assert answer.status_code == 200
        assert "Your home" in answer.text
        assert 'hx-trigger="every 30s' in answer.text
        seen = answer.text.split('data-seen="')[1].split('"')[0]
        assert (await portal.get("storage/live", params={"seen": seen})).status_code == 204
