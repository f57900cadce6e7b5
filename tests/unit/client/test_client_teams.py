from __future__ import annotations

import httpx
import pytest

from cupola.client import AsyncClient
from cupola.client.fake import FakePortal
from cupola.exceptions import ConflictError, NotFoundError
from cupola.models.share import NewShare
from cupola.models.team import Acceptance, NewInvitation, NewTeam, Role, TeamText


def test_teams_and_shares_of_the_portal_in_memory(tmp_path):
    with FakePortal(tmp_path).client() as client:
        made = client.make_team(NewTeam(name="mars-crew", title="Mars crew"))
        assert made.members[0].role is Role.OWNER
        with pytest.raises(ConflictError):
            client.make_team(NewTeam(name="mars-crew", title="Others"))
        assert client.describe_team("mars-crew", TeamText(title="Crew")).title == "Crew"
        share = client.share_session("lab-1", NewShare(team="mars-crew"))
        assert client.shares("lab-1") == [share]
        client.end_share("lab-1", share.id)
        assert client.shares("lab-1") == client.shared_sessions() == []
        client.delete_team("mars-crew")
        with pytest.raises(NotFoundError):
            client.team("mars-crew")


@pytest.mark.asyncio
async def test_a_name_never_leaves_its_part_of_the_address():
    paths = []

    def handler(request):
        paths.append(request.url.raw_path.decode())
        return httpx.Response(404)

    transport = httpx.MockTransport(handler)
    async with AsyncClient("http://portal/services/cupola/api", "t", transport=transport) as client:
        for call in (
            client.team("../x"),
            client.delete_team("../x"),
            client.change_role("../x", "../y", Role.OWNER),
            client.remove_member("../x", "../y"),
            client.invite("../x", NewInvitation()),
            client.withdraw_invitation("../x", "../y"),
            client.decline_invitation("../x"),
            client.accept_invitation(Acceptance(id="../x")),
            client.share_session("../x", NewShare()),
            client.end_share("../x", "../y"),
        ):
            with pytest.raises(NotFoundError):
                await call
    assert not [path for path in paths if "/../" in path]
