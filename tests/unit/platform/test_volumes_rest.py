"""Volumes over REST, with the real portal: who sees which, and what a hostile name or body does."""

from __future__ import annotations

import pytest

from cupola.models.base import now
from cupola.models.volume import Bucket, Visibility, Volume, VolumeKind

pytestmark = pytest.mark.asyncio

HOSTILE = [
    "..",
    "../secret",
    "..%2f..%2fetc",
    "mars-archive%2f..%2fhome",
    "mars-archive-secret",
    "mars",
    "Mars-Archive",
    "mars-archive%00",
    "mars-archive.",
    "closed",
    "%2e%2e",
    "home/../closed",
    "a" * 5000,
]


@pytest.fixture
def closed(tmp_path):
    """Somebody else's volume."""
    return Volume(
        name="closed",
        title="Closed",
        kind=VolumeKind.CUSTOM,
        source=tmp_path / "mounts" / "closed" / "data",
        bucket=Bucket(endpoint="https://s3.invalid", bucket="closed"),
        owner="otto",
        visibility=Visibility.OWNER,
        created=now(),
    )


async def test_no_name_leads_to_a_volume_of_somebody_else(open_portal, maria, closed):
    async with open_portal() as portal:
        store = portal.app.state.factory.volumes._custom._store
        await store.insert(closed, check=lambda _: None)
        listed = (await portal.get("api/volumes", headers=maria)).json()["items"]
        assert [volume["name"] for volume in listed] == ["home", "sample-archive", "mars-archive"]
        for name in HOSTILE:
            for method, path in (
                ("GET", ""),
                ("PATCH", ""),
                ("DELETE", ""),
                ("GET", "/uses"),
                ("POST", "/measure"),
            ):
                body = {"title": "Mine"} if method == "PATCH" else None
                answer = await portal.request(method, f"api/volumes/{name}{path}", headers=maria, json=body)
                # 405: the dots were taken out on the way, which leaves the address of all volumes.
                assert answer.status_code in {404, 405, 414}, (method, name)
        launch = {"datalab": "lab", "volumes": ["closed"]}
        assert (await portal.post("api/sessions", headers=maria, json=launch)).status_code == 404
        assert (await store.get("closed")).title == "Closed"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "x", "title": "X", "path": "/etc", "key_secret": "canary"}, 403),
        ({"name": "x", "title": "X", "export": {"server": "nas", "path": "/x"}, "key_secret": "canary"}, 403),
        ({"name": "X!", "title": "X", "key_secret": "canary"}, 422),
        ({"name": "x", "title": "X", "key_secret": ["canary"]}, 422),
        ({"name": "x", "title": "X", "keys_secret": "canary"}, 422),
        (
            {
                "name": "x",
                "title": "X",
                "bucket": {"endpoint": "https://127.0.0.1:1", "bucket": "abc", "anonymous": False},
                "key_id": "i",
                "key_secret": "canary",
            },
            422,
        ),
    ],
)
async def test_what_is_refused_says_why_and_repeats_no_key(open_portal, maria, capfd, body, status):
    async with open_portal() as portal:
        answer = await portal.post("api/volumes", headers=maria, json=body)
    assert answer.status_code == status
    said = answer.json()["detail"]
    assert said
    assert "canary" not in answer.text
    output = capfd.readouterr()
    assert "canary" not in output.out + output.err


async def test_what_the_platform_offers_cannot_be_changed_or_removed_by_people(open_portal, maria):
    async with open_portal() as portal:
        for name in ("mars-archive", "home"):
            for method in ("PATCH", "DELETE"):
                answer = await portal.request(method, f"api/volumes/{name}", headers=maria, json={})
                assert answer.status_code in {403, 404}
