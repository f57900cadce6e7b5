"""The rules for volumes of people, over the real table, real keys and a real object store."""

from __future__ import annotations

import asyncio
import json

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cupola.config import CustomVolumeSettings
from cupola.exceptions import ConflictError, InputError, LimitError, NotAllowedError, NotFoundError
from cupola.models.person import Person, Profile
from cupola.models.team import Role
from cupola.models.volume import Bucket, Export, NewVolume, Visibility, Volume, VolumeChange, VolumeKind
from cupola.platform.services.volumes.custom import CustomVolumes, FieldsError
from cupola.platform.storage.database.connection import Database
from cupola.platform.storage.database.volumes import VolumeStore
from cupola.platform.storage.files.volumekeys import VolumeKeys
from cupola.platform.storage.mounts.addresses import AddressRule
from cupola.platform.storage.mounts.way import GuardedWay
from support.hst import NOTEBOOK
from support.object_store import ObjectStore
from support.threads import sqlite_threads_end

pytestmark = pytest.mark.asyncio


def person(name, *, admin=False):
    return Person(name=name, admin=admin, profile=Profile(cores=1, memory_mib=1024))


MARIA, OTTO, ROOT = person("maria"), person("otto"), person("root", admin=True)
EVERYBODY, TEAM, OWNER = Visibility.EVERYBODY, Visibility.TEAM, Visibility.OWNER


class Teams:
    async def role(self, name, team):
        return {("maria", "dust"): Role.MEMBER, ("otto", "dust"): Role.READER}.get((name, team))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects") / "store"
    (folder / "hst" / "examples").mkdir(parents=True)
    (folder / "hst" / "examples" / "first.ipynb").write_text(json.dumps(NOTEBOOK))
    (folder / "hst" / "examples" / "second.ipynb").write_text(json.dumps(NOTEBOOK))
    (folder / "hst" / "examples" / "no.ipynb").write_text("{}")
    store = ObjectStore(folder)
    store.start()
    yield store
    store.stop()


@pytest_asyncio.fixture
async def service(tmp_path):
    database = Database.at(tmp_path / "cupola.sqlite")
    await database.migrate()
    allow = ("127.0.0.1",)
    way = GuardedWay(
        records=tmp_path / "run", door=tmp_path / "secrets" / "door.json", log=tmp_path / "log", allow=allow
    )
    yield CustomVolumes(
        store=VolumeStore(database),
        keys=VolumeKeys(tmp_path / "secrets" / "volumes"),
        settings=CustomVolumeSettings(per_person=2, allow=list(allow)),
        rule=AddressRule(allow),
        way=way,
        mounts=tmp_path / "mounts",
        teams=Teams(),
    )
    way.close()
    await database.aclose()
    await sqlite_threads_end()


@pytest.fixture
def new(store):
    def make(name="hst", **told):
        bucket = told.pop("bucket", Bucket(endpoint=store.endpoint, bucket="hst"))
        return NewVolume(**{"name": name, "title": "Hubble", "bucket": bucket, **told})

    return make


async def names(service, who, *teams):
    return [volume.name for volume in await service.visible_to(who, set(teams))]


async def test_a_volume_is_its_owners_until_it_is_shared(service, new):
    volume = await service.add(MARIA, new(), reserved=())
    assert await names(service, MARIA) == ["hst"]
    assert await names(service, OTTO, "dust") == await names(service, ROOT) == []
    with pytest.raises(NotAllowedError, match=r"maria's, who alone can change it"):
        await service.change(OTTO, volume, VolumeChange(title="Mine now"))
    with pytest.raises(NotAllowedError):
        await service.remove(OTTO, volume, users=[])
    with pytest.raises(ConflictError, match="Sessions of otto use"):
        await service.remove(MARIA, volume, users=["otto", "otto"])
    await service.remove(MARIA, volume, users=[])
    assert await names(service, MARIA) == []


async def test_everybody_finds_it_after_an_administrator_has_looked(service, new):
    example = {"visibility": EVERYBODY, "example": "examples/first.ipynb"}
    volume = await service.add(MARIA, new(**example), reserved=())
    assert volume.pending
    assert await names(service, OTTO) == []
    assert await names(service, ROOT) == ["hst"]
    with pytest.raises(NotAllowedError, match="Only an administrator"):
        await service.change(MARIA, volume, VolumeChange(approve=True))
    volume = await service.change(ROOT, volume, VolumeChange(approve=True))
    assert await names(service, OTTO) == ["hst"]
    # What was approved is what is shown: a change of words stays, another notebook waits again.
    volume = await service.change(MARIA, volume, VolumeChange(title="Hubble!"))
    assert await names(service, OTTO) == ["hst"]
    volume = await service.change(MARIA, volume, VolumeChange(example="examples/second.ipynb"))
    assert await names(service, OTTO) == []
    volume = await service.change(MARIA, volume, VolumeChange(visibility=OWNER))
    assert not volume.pending


async def test_a_team_finds_what_a_member_shares(service, new):
    shared = new(visibility=TEAM, team="dust", example="examples/first.ipynb")
    with pytest.raises(FieldsError, match="no member of a team dust"):
        await service.add(OTTO, shared, reserved=())
    await service.add(MARIA, shared, reserved=())
    assert await names(service, OTTO, "dust") == ["hst"]
    assert await names(service, OTTO, "dust-storms") == []


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (None, "needs a notebook"),
        ("examples/none.ipynb", "There is no notebook"),
        ("examples/no.ipynb", "is no notebook"),
        ("../hst/examples/first.ipynb", r"without \. and \.\."),
    ],
)
async def test_what_others_find_begins_with_a_notebook_that_opens(service, new, example, said):
    with pytest.raises(FieldsError, match=said) as caught:
        await service.add(MARIA, new(visibility=EVERYBODY, example=example), reserved=())
    assert list(caught.value.fields) == ["example"]
    assert await names(service, MARIA) == []


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://s3.example.org", "with https"),
        ("https://0.0.0.0:9000", "private address"),
        ("https://[::1]:9000", "private address"),
        ("https://169.254.169.254", "private address"),
        ("https://user@127.0.0.1", "give an address"),
        ("ftp://example.org", "give an address"),
        ("https://example.org/path", "give an address"),
    ],
)
async def test_a_bucket_is_no_way_into_the_private_network(service, new, endpoint, said):
    with pytest.raises(FieldsError, match=said) as caught:
        await service.add(MARIA, new(bucket=Bucket(endpoint=endpoint, bucket="hst")), reserved=())
    assert list(caught.value.fields) == ["endpoint"]


async def test_keys_are_kept_for_the_platform_alone_and_go_with_the_volume(service, new, store, tmp_path):
    closed = Bucket(endpoint=store.endpoint, bucket="hst", anonymous=False)
    with pytest.raises(FieldsError, match="both parts"):
        await service.add(MARIA, new(bucket=closed), reserved=())
    with pytest.raises(FieldsError, match="no spaces"):
        await service.add(MARIA, new(bucket=closed, key_id="a b", key_secret="x\n[y]"), reserved=())
    with pytest.raises(FieldsError, match="not anonymous"):
        await service.add(MARIA, new(key_id="a", key_secret="b"), reserved=())
    volume = await service.add(MARIA, new(bucket=closed, key_id="KEYID", key_secret="canary"), reserved=())
    file = service.keys_of(volume)
    assert "canary" in file.read_text()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "canary" not in volume.model_dump_json()
    assert b"canary" not in (tmp_path / "cupola.sqlite").read_bytes()
    with pytest.raises(NotAllowedError, match="Only its owner"):
        await service.change(ROOT, volume, VolumeChange(key_id="a", key_secret="b"))
    await service.change(MARIA, volume, VolumeChange(key_id="KEYID", key_secret="another"))
    assert "another" in file.read_text()
    await service.remove(MARIA, volume, users=[])
    assert not list(file.parent.iterdir())


async def test_of_two_who_want_a_name_at_once_one_gets_it_with_his_own_keys(service, new, store):
    closed = Bucket(endpoint=store.endpoint, bucket="hst", anonymous=False)
    wishes = [
        service.add(who, new(bucket=closed, key_id=who.name, key_secret=f"of-{who.name}"), reserved=())
        for who in (MARIA, OTTO)
    ]
    done = await asyncio.gather(*wishes, return_exceptions=True)
    [volume] = [one for one in done if isinstance(one, Volume)]
    [refusal] = [one for one in done if isinstance(one, ConflictError)]
    assert "hst is taken" in str(refusal)
    [file] = service.keys_of(volume).parent.iterdir()
    assert file == service.keys_of(volume)
    assert f"of-{volume.owner}" in file.read_text()


async def test_names_of_the_platform_cannot_be_taken_and_there_is_a_limit(service, new):
    for name in ("home", "sample-archive", "mars"):
        with pytest.raises(ConflictError, match="is taken"):
            await service.add(MARIA, new(name), reserved={"mars"})
    await service.add(MARIA, new("one"), reserved=())
    await service.add(MARIA, new("two"), reserved=())
    with pytest.raises(LimitError, match="may add 2"):
        await service.add(MARIA, new("three"), reserved=())


async def test_only_administrators_add_folders_and_exports(service, tmp_path):
    folder = NewVolume(name="disk", title="Disk", path=tmp_path)
    export = NewVolume(name="nas", title="NAS", export=Export(server="nas", path="/x"))
    both = NewVolume(name="both", title="Both", path=tmp_path, export=Export(server="nas", path="/x"))
    for one in (folder, export):
        with pytest.raises(NotAllowedError):
            await service.add(MARIA, one, reserved=())
    with pytest.raises(InputError, match="say which"):
        await service.add(ROOT, both, reserved=())
    (tmp_path / "real.ipynb").write_text(json.dumps(NOTEBOOK))
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "real.ipynb")
    shared = {"visibility": EVERYBODY}
    with pytest.raises(FieldsError, match="There is no notebook"):
        await service.add(ROOT, folder.model_copy(update={**shared, "example": "link.ipynb"}), reserved=())
    volume = await service.add(
        ROOT, folder.model_copy(update={**shared, "example": "real.ipynb"}), reserved=()
    )
    assert not volume.pending
    assert await names(service, OTTO) == ["disk"]
    for wrong in ("relative", "/srv/../etc"):
        with pytest.raises(FieldsError, match="whole path"):
            await service.add(ROOT, NewVolume(name="x", title="X", path=wrong), reserved=())
    with pytest.raises(FieldsError):
        await service.add(
            ROOT, NewVolume(name="y", title="Y", export=Export(server="-oProxy", path="/x")), reserved=()
        )
    await service.remove(ROOT, volume, users=[])
    with pytest.raises(NotFoundError):
        await service.change(ROOT, volume, VolumeChange(title="gone"))


async def test_what_the_platform_offers_is_not_for_people_to_change(service, tmp_path):
    volume = Volume(name="mars", title="Mars", kind=VolumeKind.ARCHIVE, source=tmp_path)
    with pytest.raises(NotAllowedError, match=r"cupola\.yaml"):
        await service.change(ROOT, volume, VolumeChange(title="x"))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    path=st.lists(
        st.sampled_from(["..", ".", "", "a", "link", "out.ipynb", "inside.ipynb", "a\0b", "%2e%2e"]),
        min_size=1,
        max_size=5,
    )
)
async def test_no_example_leads_out_of_its_volume(service, tmp_path, path):
    """Names with dots, links and siblings whose name begins alike (trust matrix, row 22)."""
    volume, sibling = tmp_path / "data", tmp_path / "data-secret"
    if not volume.exists():
        (volume / "a").mkdir(parents=True)
        sibling.mkdir()
        (sibling / "out.ipynb").write_text(json.dumps(NOTEBOOK))
        (volume / "inside.ipynb").write_text(json.dumps(NOTEBOOK))
        (volume / "link").symlink_to(sibling)
        (volume / "a" / "out.ipynb").symlink_to(sibling / "out.ipynb")
    text = "/".join(path)
    wish = NewVolume(name="disk", title="D", path=volume, example=text, visibility=EVERYBODY)
    try:
        added = await service.add(ROOT, wish, reserved=())
    except InputError:
        assert text != "inside.ipynb"
    else:
        assert text == "inside.ipynb"
        await service.remove(ROOT, added, users=[])
