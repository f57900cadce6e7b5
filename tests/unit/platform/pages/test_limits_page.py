"""The page of what a person may use."""

from __future__ import annotations

import pytest

HTML = {"Accept": "text/html"}


@pytest.mark.asyncio
async def test_a_person_sees_what_the_profile_gives_and_what_jobs_use(open_portal):
    async with open_portal() as portal:
        portal.cookies.set("service-cupola", "token-of-maria")
        page = await portal.get("limits", headers=HTML)
        assert page.status_code == 200
        for text in (
            "Your limits",
            "default",
            "Cores in use now",
            "0, no limit",
            "Core-hours in 30 days",
            "0.00, no limit",
            "This platform <code>local</code>, the default",
            "a task gets at most",
        ):
            assert text in page.text
        assert 'href="/services/cupola/limits"' in (await portal.get("jobs", headers=HTML)).text
