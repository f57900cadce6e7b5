"""The volumes that people add: what may be added, who finds them, who may change them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from cupola.config import BucketSettings, ExportSettings
from cupola.exceptions import (
    ConflictError,
    CupolaError,
    InputError,
    LimitError,
    NotAllowedError,
    UnavailableError,
)
from cupola.models.base import now
from cupola.models.team import Role
from cupola.models.volume import NewVolume, Visibility, Volume, VolumeChange, VolumeKind
from cupola.platform.services.patience import in_thread
from cupola.platform.storage.files.beneath import Beneath
from cupola.platform.storage.mounts import rclone
from cupola.platform.storage.mounts.probe import probe_bucket

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from cupola.config import CustomVolumeSettings
    from cupola.models.person import Person
    from cupola.models.volume import Bucket
    from cupola.platform.services.people.teams import TeamService
    from cupola.platform.storage.database.volumes import VolumeStore
    from cupola.platform.storage.files.volumekeys import VolumeKeys
    from cupola.platform.storage.mounts.addresses import AddressRule
    from cupola.platform.storage.mounts.way import GuardedWay

__all__ = ["CustomVolumes", "FieldsError"]

_KEY = re.compile(r"[\x21-\x7e]{1,512}")
_PORTS = {"http": 80, "https": 443}
_LONGEST_EXAMPLE = 16 * 2**20
"""In bytes; a notebook with more is full of results, and shows nobody how to begin."""
_EXAMPLE_S = 20.0
_TOLD = ("title", "description", "mission", "instrument", "body", "licence", "citation", "tags")
_ALWAYS_TAKEN = frozenset({"home", "sample-archive", "new", "data", "volumes"})
"""Names of our own volumes, and words of the pages' addresses."""


class FieldsError(InputError):
    """What was given is wrong in certain fields.

    Parameters
    ----------
    fields
        By field a sentence that says what is wrong.
    """

    def __init__(self, fields: dict[str, str] | str) -> None:
        self.fields = {"": fields} if isinstance(fields, str) else fields
        super().__init__(" ".join(self.fields.values()))


class CustomVolumes:
    """Keeps the volumes of people.

    Parameters
    ----------
    store
        Their table.
    keys
        Keeps their keys.
    settings
        What the operator allows.
    rule, way
        Where a bucket may lie, and through what it is reached.
    mounts
        The folder of all mounts.
    teams
        Knows what a person may do in a team; without it, nobody shares with teams.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        store: VolumeStore,
        keys: VolumeKeys,
        settings: CustomVolumeSettings,
        rule: AddressRule,
        way: GuardedWay,
        mounts: Path,
        teams: TeamService | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._settings = settings
        self._rule = rule
        self._way = way
        self._mounts = mounts
        self._teams = teams

    async def all(self) -> list[Volume]:
        """Return everybody's volumes."""
        return await self._store.all()

    async def visible_to(self, person: Person, teams: Collection[str]) -> list[Volume]:
        """Return the volumes that `person` finds, who is in `teams`.

        What waits to be offered to everybody is shown to administrators too, so that they can look at it.
        """
        return [
            volume
            for volume in await self._store.all()
            if volume.owner == person.name
            or (volume.visibility is Visibility.TEAM and volume.team in teams)
            or (volume.visibility is Visibility.EVERYBODY and (person.admin or not volume.pending))
        ]

    def keys_of(self, volume: Volume) -> Path | None:
        """Return the file with the keys of a volume, if it has some."""
        if volume.bucket is None or volume.bucket.anonymous:
            return None
        return self._keys.file(_key_name(volume))

    def proxy_of(self, volume: Volume) -> str | None:
        """Return what connections of a volume go through."""
        return self._way.url if volume.bucket is not None else None

    async def add(self, person: Person, new: NewVolume, *, reserved: Collection[str]) -> Volume:
        """Keep a new volume of `person`.

        Raises
        ------
        NotAllowedError
            The person may add none of this kind.
        FieldsError
            Something given is wrong.
        ConflictError
            The name is taken.
        LimitError
            The person has as many as allowed.
        UnavailableError
            Its example cannot be read just now.
        """
        self._check_kind(person, new)
        if new.name in _ALWAYS_TAKEN or new.name in reserved:
            raise ConflictError(f"The name {new.name} is taken: choose another one.")
        volume = self._volume_of(person, new)
        await self._check_sharing(person, volume)
        if volume.bucket is not None:
            await self._check_bucket(volume.bucket, new)
        name = _key_name(volume)
        if new.key_id and new.key_secret:
            await asyncio.to_thread(self._write_keys, name, new.key_id, new.key_secret)
        try:
            if volume.visibility is not Visibility.OWNER:
                await self._check_example(volume, near=new.path)
            await self._store.insert(volume, check=partial(self._check_number, person))
        except BaseException:
            await asyncio.to_thread(self._keys.remove, name)
            raise
        return volume

    async def change(self, person: Person, volume: Volume, change: VolumeChange) -> Volume:
        """Change a volume.

        Raises
        ------
        NotAllowedError
            It is not the person's, or only an administrator may do this.
        FieldsError
            Something given is wrong.
        UnavailableError
            Its example cannot be read just now.
        """
        self._check_mine(person, volume)
        if change.approve and not person.admin:
            raise NotAllowedError(
                "Only an administrator can offer a volume to everybody: ask one to look at it."
            )
        after = _changed(person, volume, change)
        shared_anew = (after.visibility, after.team) != (volume.visibility, volume.team)
        if shared_anew:
            await self._check_sharing(person, after)
        if after.visibility is not Visibility.OWNER and (
            shared_anew or change.approve or after.example != volume.example
        ):
            await self._check_example(after)
        if change.key_id or change.key_secret:
            if volume.owner != person.name:
                raise NotAllowedError("Only its owner can give a volume other keys.")
            if volume.bucket is None or volume.bucket.anonymous:
                raise FieldsError({"key_id": "This bucket is read without keys."})
            key_id, key_secret = _keys_given(change.key_id, change.key_secret)
            await asyncio.to_thread(self._write_keys, _key_name(volume), key_id, key_secret)
        told = after.model_dump(include={*_TOLD, "example", "visibility", "team", "pending"})
        return await self._store.change(volume.name, lambda kept: Volume(**{**kept.model_dump(), **told}))

    async def remove(self, person: Person, volume: Volume, *, users: Collection[str]) -> None:
        """Forget a volume; its files stay where they are.

        Raises
        ------
        NotAllowedError
            It is not the person's.
        ConflictError
            Sessions of `users` have it.
        """
        self._check_mine(person, volume)
        if users:
            names = ", ".join(sorted(set(users)))
            raise ConflictError(
                f"Sessions of {names} use the volume {volume.name}: remove it when they have ended."
            )
        await self._store.delete(volume.name)
        await asyncio.to_thread(self._keys.remove, _key_name(volume))

    async def tidy(self) -> None:
        """Forget keys that belong to no volume."""
        names = {_key_name(volume) for volume in await self._store.all()}
        await asyncio.to_thread(self._keys.remove_all_but, names)

    def _check_kind(self, person: Person, new: NewVolume) -> None:
        given = [name for name in ("bucket", "export", "path") if getattr(new, name) is not None]
        if len(given) != 1:
            raise FieldsError({"kind": "A volume is one bucket, one export or one folder: say which."})
        if not person.admin and not self._settings.enabled:
            raise NotAllowedError("Whoever runs this platform adds its volumes: ask for yours.")
        if not person.admin and new.bucket is None:
            raise NotAllowedError("Only an administrator can add folders and exports: ask one.")

    def _check_number(self, person: Person, number: int) -> None:
        if number >= self._settings.per_person and not person.admin:
            raise LimitError(
                f"You have added {number} volumes and may add {self._settings.per_person}: remove one first."
            )

    @staticmethod
    def _check_mine(person: Person, volume: Volume) -> None:
        if volume.kind is not VolumeKind.CUSTOM:
            raise NotAllowedError(
                f"The volume {volume.name} belongs to the platform: it is changed in cupola.yaml."
                if volume.kind is VolumeKind.ARCHIVE
                else f"The volume {volume.name} stays as long as its owner does."
            )
        if volume.owner != person.name and not person.admin:
            raise NotAllowedError(f"The volume {volume.name} is {volume.owner}'s, who alone can change it.")

    def _volume_of(self, person: Person, new: NewVolume) -> Volume:
        wrong: dict[str, str] = {}
        if new.bucket is not None:
            wrong |= _wrong(BucketSettings, new.bucket.model_dump(exclude={"anonymous"}))
        if new.export is not None:
            wrong |= _wrong(ExportSettings, new.export.model_dump())
        if new.path is not None and not (new.path.is_absolute() and ".." not in new.path.parts):
            wrong["path"] = "Give the whole path of the folder, from / on."
        if new.example and not _stays_below(new.example):
            wrong["example"] = "Give the way to the notebook from the volume's root, without . and .. in it."
        if wrong:
            raise FieldsError(wrong)
        return Volume(
            **new.model_dump(include={*_TOLD, "name"}),
            kind=VolumeKind.CUSTOM,
            source=new.path or self._mounts / new.name / "data",
            bucket=new.bucket,
            export=new.export,
            example=new.example or None,
            owner=person.name,
            team=new.team if new.visibility is Visibility.TEAM else None,
            visibility=new.visibility,
            pending=new.visibility is Visibility.EVERYBODY and not person.admin,
            created=now(),
        )

    async def _check_sharing(self, person: Person, volume: Volume) -> None:
        if volume.visibility is Visibility.OWNER:
            return
        if not volume.example:
            raise FieldsError(
                {
                    "example": "What others find needs a notebook that shows how to use it: name one in the volume."
                }
            )
        if volume.visibility is Visibility.TEAM:
            if not volume.team:
                raise FieldsError({"team": "Say which team."})
            role = await self._teams.role(person.name, volume.team) if self._teams else None
            if role not in {Role.OWNER, Role.MEMBER}:
                raise FieldsError(
                    {"team": f"You are no member of a team {volume.team}, so that you cannot share with it."}
                )

    async def _check_bucket(self, bucket: Bucket, new: NewVolume) -> None:
        """Refuse what lies at a private address, is not there, or has the wrong keys."""
        if bucket.anonymous and (new.key_id or new.key_secret):
            raise FieldsError({"key_id": "A bucket with keys is not anonymous: choose one of the two."})
        if not bucket.anonymous:
            _keys_given(new.key_id, new.key_secret)
        parts = urlsplit(bucket.endpoint)
        host = parts.hostname or ""
        if parts.scheme != "https" and not self._rule.names(host):
            raise FieldsError(
                {"endpoint": "Give an address with https: on the way to others anybody could read it."}
            )
        try:
            await self._rule.resolve(host, parts.port or _PORTS[parts.scheme])
        except CupolaError as error:
            raise FieldsError({"endpoint": str(error)}) from error
        await in_thread(self._way.open)
        unavailable = await probe_bucket(bucket, proxy=self._way.url)
        # One that just does not answer may be added: it is there when it comes back.
        if unavailable and ("has no bucket" in unavailable or "lets nobody" in unavailable):
            raise FieldsError({"bucket": unavailable})

    async def _check_example(self, volume: Volume, near: Path | None = None) -> None:
        """Read the example; what others find must begin with a notebook that opens.

        Raises
        ------
        FieldsError
            It is no notebook, or not there.
        UnavailableError
            The volume does not answer in time.
        """
        assert volume.example is not None  # noqa: S101 - _check_sharing saw to it
        if volume.bucket is not None:
            await in_thread(self._way.open)
            remote = rclone.Remote(volume.bucket, self.keys_of(volume), self.proxy_of(volume))
            read = partial(
                rclone.read_object, remote, volume.example, longest=_LONGEST_EXAMPLE, seconds=_EXAMPLE_S
            )
        else:
            read = partial(_read_below, near or volume.source, volume.example)
        look = in_thread(read)
        done, _ = await asyncio.wait([look], timeout=_EXAMPLE_S + 5)
        if not done:
            raise UnavailableError(
                f"The volume {volume.name} does not answer: share it when it is there again."
            )
        missing = {"example": f"There is no notebook {volume.example} in the volume that can be read."}
        try:
            content = look.result()
        except (CupolaError, OSError) as error:
            raise FieldsError(missing) from error
        if not content:  # what rclone gives for a name that a bucket does not have
            raise FieldsError(missing)
        if not _is_notebook(content):
            raise FieldsError(
                {"example": f"{volume.example} is no notebook: name a file that Jupyter wrote."}
            )

    def _write_keys(self, name: str, key_id: str, key_secret: str) -> None:
        try:
            self._keys.write(name, key_id, key_secret)
        except OSError as error:
            raise UnavailableError(
                f"The keys could not be kept ({error.strerror}): try again later."
            ) from error


def _key_name(volume: Volume) -> str:
    """Return the name of a volume's keys: one that has the same name later gets others."""
    text = f"{volume.owner} {volume.created.isoformat() if volume.created else ''}"
    return f"{volume.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _keys_given(key_id: str | None, key_secret: str | None) -> tuple[str, str]:
    wrong = {}
    for field, value in (("key_id", key_id), ("key_secret", key_secret)):
        if not value:
            wrong[field] = "A bucket that is not anonymous needs both parts of a key."
        elif not _KEY.fullmatch(value):
            wrong[field] = "A key has no spaces and no other letters than those of ASCII."
    if wrong:
        raise FieldsError(wrong)
    return key_id or "", key_secret or ""


def _changed(person: Person, volume: Volume, change: VolumeChange) -> Volume:
    """Return `volume` as it is to be."""
    told: dict[str, Any] = {name: value for name in _TOLD if (value := getattr(change, name)) is not None}
    if change.example is not None:
        if change.example and not _stays_below(change.example):
            raise FieldsError(
                {"example": "Give the way to the notebook from the volume's root, without . and .. in it."}
            )
        told["example"] = change.example or None
    if change.visibility is not None:
        told["visibility"] = change.visibility
        told["team"] = (change.team or volume.team) if change.visibility is Visibility.TEAM else None
    after = volume.model_copy(update=told)
    if after.visibility is not Visibility.OWNER and not after.example:
        raise FieldsError(
            {"example": "What others find needs a notebook: share it with nobody to take it away."}
        )
    if after.visibility is not Visibility.EVERYBODY:
        return after.model_copy(update={"pending": False})
    if person.admin:
        waits = volume.pending and not (change.approve or volume.owner == person.name)
    else:
        # What was approved was this notebook: with another one it is looked at again.
        waits = (
            volume.pending or volume.visibility is not Visibility.EVERYBODY or after.example != volume.example
        )
    return after.model_copy(update={"pending": waits})


def _wrong(settings: type[BucketSettings | ExportSettings], given: dict[str, Any]) -> dict[str, str]:
    """Return by field what is wrong with `given`."""
    try:
        settings.model_validate(given)
    except ValidationError as error:
        wrong = {}
        for one in error.errors():
            field = str(one["loc"][0])
            extra = settings.model_fields[field].json_schema_extra
            wanted = extra["expects"] if isinstance(extra, dict) else "something else"
            wrong[field] = f"{settings.model_fields[field].title}: give {wanted}."
        return wrong
    return {}


def _stays_below(path: str) -> bool:
    parts = path.split("/")
    return (
        "\0" not in path and not path.startswith("/") and all(part not in {"", ".", ".."} for part in parts)
    )


def _read_below(folder: Path, path: str) -> bytes:
    """Read a file below a folder; a link on the way is not followed, it could lead anywhere."""
    return Beneath(folder.parent, folder.name).read(path, longest=_LONGEST_EXAMPLE + 1)


def _is_notebook(content: bytes) -> bool:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(found, dict)
        and isinstance(found.get("cells"), list)
        and isinstance(found.get("nbformat"), int)
    )
