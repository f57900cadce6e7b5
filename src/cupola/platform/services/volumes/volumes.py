"""Volumes: the data areas of this platform, who finds which, and what of them a session gets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cupola.exceptions import CupolaError, NotFoundError
from cupola.models.team import Role
from cupola.models.volume import Access, Bucket, Export, Visibility, Volume, VolumeKind, VolumeUse
from cupola.platform.services.volumes.looks import Place, VolumeLooks
from cupola.platform.services.volumes.mounts import gone_notice, notices_after
from cupola.platform.storage.files.volumenotes import VolumeNotes
from cupola.platform.storage.mounts.keeper import MountSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cupola.config import StatePaths, VolumeSettings
    from cupola.models.person import Person
    from cupola.models.volume import NewVolume, VolumeChange
    from cupola.platform.services.people.teams import TeamService
    from cupola.platform.services.volumes.custom import CustomVolumes
    from cupola.platform.services.volumes.mounts import VolumeMounts
    from cupola.platform.storage.database.jobs import JobStore
    from cupola.platform.storage.database.sessions import SessionStore

__all__ = ["HOME", "SAMPLES", "Chosen", "VolumeService"]

HOME = "home"
SAMPLES = "sample-archive"
_PATIENCE_S = 2.0
"""A disk that needs longer to tell whether a folder is there hangs, as a lost network disk does."""
_MOUNTED_UNASKED = 20
"""Buckets and exports that a session gets when nobody chose: each is a program on this host."""


@dataclass(frozen=True)
class Chosen:
    """The volumes of one session."""

    volumes: list[Volume]
    """The home first."""
    notices: list[str]
    """What the owner should know of them, a sentence each."""


class VolumeService:
    """Knows the volumes.

    Parameters
    ----------
    settings
        The volumes of ``cupola.yaml``.
    paths
        Where homes, team volumes and the sample archive lie.
    samples
        Whether the sample archive is offered.
    patience
        Seconds to wait for a disk.
    containers
        Whether sessions run in containers: folders are mounted for them too, so that one that comes late is seen.
    mounts
        Mounts what lies elsewhere; without it, nothing does.
    custom
        The volumes that people add.
    teams
        Knows who is in which team; without it, what the hub says of a person counts.
    sessions, jobs
        The tables that tell what is in use.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        settings: Sequence[VolumeSettings],
        paths: StatePaths,
        samples: bool,
        patience: float = _PATIENCE_S,
        containers: bool = False,
        mounts: VolumeMounts | None = None,
        custom: CustomVolumes | None = None,
        teams: TeamService | None = None,
        sessions: SessionStore | None = None,
        jobs: JobStore | None = None,
    ) -> None:
        self._paths = paths
        self._containers = containers
        self._mounts = mounts
        self._custom = custom
        self._teams = teams
        self._sessions = sessions
        self._jobs = jobs
        self._looks = VolumeLooks(
            notes=VolumeNotes(paths.volume_notes),
            patience=patience,
            is_up=mounts.is_up if mounts else lambda _: False,
            open_way=mounts.open_way if mounts else lambda: None,
        )
        self._platform = [self._place(_from_settings(volume, paths), _keys(volume)) for volume in settings]
        if samples:
            self._platform.insert(0, self._place(_sample_archive(paths.sample_archive)))

    @property
    def shared(self) -> bool:
        """Whether running containers see what is mounted later; see `cupola.platform.builders.volume.bind_of`."""
        return self._mounts is not None and self._mounts.shared

    async def volumes(self, person: Person) -> list[Volume]:
        """Return the volumes that `person` may use, with what lies in them; one out of reach says so."""
        places = await self._places(person)
        return [self._home(person), *await asyncio.gather(*(self._looks.look(place) for place in places))]

    async def volume(self, person: Person, name: str) -> Volume:
        """Return one volume.

        Raises
        ------
        NotFoundError
            If the person has none of this name.
        """
        if name == HOME:
            return self._home(person)
        return await self._looks.look(await self._find(person, name))

    async def inspect(self, person: Person, name: str) -> Volume:
        """Return one volume; what nobody has looked into yet is mounted, so that its collections can be told soon.

        Raises
        ------
        NotFoundError
            If the person has none of this name.
        """
        if name == HOME:
            return self._home(person)
        place = await self._find(person, name)
        if place.far and place.spec and self._mounts and not self._looks.is_known(place):
            await self._mounts.want([place.spec], seconds=1)
        return await self._looks.look(place)

    async def measure(self, person: Person, name: str) -> None:
        """Begin to count the size of a volume; it is in the volume when it is known.

        Raises
        ------
        NotFoundError
            If the person has none of this name.
        """
        self._looks.measure(await self._find(person, name))

    async def chosen(
        self, person: Person, names: Sequence[str] | None, *, skip_missing: bool = False
    ) -> Chosen:
        """Return the volumes that a session or a task of `person` gets, and mount them; the home is always the first.

        Reference data come along unasked. A volume that is out of reach does not stand in the way: it is among them
        with a notice, and is there when it comes back.

        Parameters
        ----------
        person
            Whose session it is.
        names
            The wanted volumes. Nothing: all within reach, but for those that other people share.
        skip_missing
            Leave out unknown names instead of refusing.

        Raises
        ------
        NotFoundError
            If the person has no volume of such a name.
        """
        places = await self._places(person)
        by_name = {place.volume.name: place for place in places}
        if names is None:
            wanted = self._unasked(person, places)
        else:
            wanted = [by_name[name] for name in dict.fromkeys(names) if name in by_name]
            missing = [name for name in names if name not in by_name and name != HOME]
            if missing and not skip_missing:
                raise _unknown(missing[0])
        asked = {place.volume.name for place in wanted}
        wanted += [place for place in places if place.volume.always and place.volume.name not in asked]
        volumes = await self._within_reach(wanted)
        if names is None:
            volumes = [volume for volume in volumes if volume.unavailable is None or volume.always]
        notices = [gone_notice(volume.name, volume.unavailable) for volume in volumes if volume.unavailable]
        return Chosen([self._home(person), *volumes], notices)

    async def uses(self, person: Person, name: str) -> list[VolumeUse]:
        """Return who uses a volume just now.

        Raises
        ------
        NotFoundError
            If the person has none of this name.
        """
        if name != HOME:
            await self._find(person, name)
        active = await self._sessions.active() if self._sessions else []
        return [
            VolumeUse(person=session.owner, session=session.id, since=session.started or session.created)
            for session in (stored.session for stored in active)
            if name in session.volumes and (name != HOME or session.owner == person.name)
        ]

    async def add(self, person: Person, new: NewVolume) -> Volume:
        """Add a volume.

        Raises
        ------
        NotAllowedError, InputError, ConflictError, LimitError, UnavailableError
            If that cannot be; the text says why.
        """
        custom = self._customs()
        reserved = {place.volume.name for place in self._platform}
        volume = await custom.add(person, new, reserved=reserved)
        self._looks.forget(volume.name)
        return await self._looks.look(self._place(volume, custom.keys_of(volume)))

    async def change(self, person: Person, name: str, change: VolumeChange) -> Volume:
        """Change a volume that somebody added.

        Raises
        ------
        NotFoundError, NotAllowedError, InputError, UnavailableError
            If that cannot be; the text says why.
        """
        custom = self._customs()
        place = await self._find(person, name)
        after = await custom.change(person, place.volume, change)
        self._looks.seen_again(name)
        return await self._looks.look(self._place(after, custom.keys_of(after)))

    async def remove(self, person: Person, name: str) -> None:
        """Remove a volume that somebody added; its files stay where they are.

        Raises
        ------
        NotFoundError, NotAllowedError
            If there is none, or it is somebody else's.
        ConflictError
            If sessions use it.
        """
        custom = self._customs()
        place = await self._find(person, name)
        await custom.remove(person, place.volume, users=[use.person for use in await self.uses(person, name)])
        self._looks.forget(name)
        if self._mounts:
            await self._mounts.drop(name, forget=True)

    async def reconcile(self) -> None:
        """Mend the mounts that sessions use, take away the others, and tell sessions what changed."""
        if self._mounts is None or self._sessions is None:
            return
        if self._custom:
            await self._custom.tidy()
        places = {place.volume.name: place for place in await self._all_places()}
        specs = {name: place.spec for name, place in places.items() if place.spec}
        active = [stored.session for stored in await self._sessions.active()]
        used = {name for session in active for name in session.volumes}
        busy = bool(await self._jobs.active()) if self._jobs else False
        await self._mounts.tend(specs, used=used, busy=busy)
        seen = await self._within_reach([place for name, place in places.items() if name in used])
        reach = {volume.name: volume.unavailable for volume in seen}
        for session in active:
            mine = {name: reach[name] for name in session.volumes if name in reach}
            if notices_after(session.notices, mine) != session.notices:
                await self._sessions.change_notices(session.id, partial(notices_after, reach=mine))

    async def aclose(self) -> None:
        """Stop looking; mounts stay."""
        await self._looks.aclose()

    async def taken(self) -> set[str]:
        """Return the names that no team may have: each volume's."""
        return {HOME, SAMPLES, *(place.volume.name for place in await self._all_places())}

    async def _within_reach(self, places: Sequence[Place]) -> list[Volume]:
        """Mount places and return their volumes; those that are away say so."""
        specs = [place.spec for place in places if place.spec]
        if self._mounts and specs:
            if self._containers:
                await self._mounts.make_places(specs)
            problems, volumes = await asyncio.gather(
                self._mounts.want(specs),
                asyncio.gather(*(self._looks.look(place, fresh=True) for place in places)),
            )
        else:
            problems, volumes = (
                {},
                await asyncio.gather(*(self._looks.look(place, fresh=True) for place in places)),
            )
        return [
            volume.model_copy(update={"unavailable": volume.unavailable or problems.get(volume.name)})
            for volume in volumes
        ]

    def _unasked(self, person: Person, places: Iterable[Place]) -> list[Place]:
        """Return what a session gets when nobody chose."""
        mine = [place for place in places if place.volume.owner in {None, person.name}]
        far = [place.volume.name for place in mine if place.far]
        left_out = set(far[_MOUNTED_UNASKED:])
        return [place for place in mine if place.volume.name not in left_out]

    async def _find(self, person: Person, name: str) -> Place:
        for place in await self._places(person):
            if place.volume.name == name:
                return place
        raise _unknown(name)

    async def _places(self, person: Person) -> list[Place]:
        """Return all that `person` may use but for the home: the platform's, the teams', and those of people."""
        roles = await self._roles(person)
        team_volumes = [self._place(self._team_volume(name, role)) for name, role in roles.items()]
        custom = await self._custom.visible_to(person, set(roles)) if self._custom else []
        return [*self._platform, *team_volumes, *(self._place_of_custom(volume) for volume in custom)]

    async def _all_places(self) -> list[Place]:
        custom = await self._custom.all() if self._custom else []
        return [*self._platform, *(self._place_of_custom(volume) for volume in custom)]

    async def _roles(self, person: Person) -> dict[str, Role]:
        """Return the teams of `person`, with what the person may do there."""
        if self._teams is None:
            return dict.fromkeys(sorted(person.teams), Role.MEMBER)
        return await self._teams.roles_of(person.name)

    def _customs(self) -> CustomVolumes:
        if self._custom is None:
            raise NotFoundError("This platform keeps no volumes of people.")
        return self._custom

    def _place_of_custom(self, volume: Volume) -> Place:
        custom = self._customs()
        return self._place(volume, custom.keys_of(volume), proxy=custom.proxy_of(volume))

    def _place(self, volume: Volume, keys: Path | None = None, proxy: str | None = None) -> Place:
        """Say how a volume is mounted, and where sessions then find it."""
        far = volume.bucket is not None or volume.export is not None
        if not far and (volume.kind is VolumeKind.TEAM or not (self._containers and self._mounts)):
            return Place(volume)
        spec = MountSpec(
            volume.name,
            bucket=volume.bucket,
            keys=keys,
            export=volume.export,
            folder=None if far else volume.source,
            write=volume.access is Access.WRITE,
            proxy=proxy,
        )
        at = self._paths.mounts / volume.name / "data"
        return Place(volume.model_copy(update={"source": at}), spec)

    def _home(self, person: Person) -> Volume:
        return Volume(
            name=HOME,
            title="Home",
            description="Your own files: they stay when a session ends.",
            kind=VolumeKind.HOME,
            source=self._paths.home(person.name),
            access=Access.WRITE,
        )

    def _team_volume(self, name: str, role: Role) -> Volume:
        return Volume(
            name=name,
            title=f"Team {name}",
            description="The files of the team.",
            kind=VolumeKind.TEAM,
            source=self._paths.team(name),
            access=Access.READ if role is Role.READER else Access.WRITE,
            team=name,
            visibility=Visibility.TEAM,
        )


def _unknown(name: str) -> CupolaError:
    return NotFoundError(f"There is no volume {name!r}: the page Data shows which there are.")


def _keys(settings: VolumeSettings) -> Path | None:
    return settings.bucket.keys if settings.bucket else None


def _from_settings(settings: VolumeSettings, paths: StatePaths) -> Volume:
    told = settings.model_dump(exclude={"path", "bucket", "export"})
    bucket = export = None
    if settings.bucket is not None:
        told_bucket = settings.bucket.model_dump(exclude={"keys"})
        bucket = Bucket(**told_bucket, anonymous=settings.bucket.keys is None)
    if settings.export is not None:
        export = Export(**settings.export.model_dump())
    source = settings.path or paths.mounts / settings.name / "data"
    return Volume(**told, kind=VolumeKind.ARCHIVE, source=source, bucket=bucket, export=export)


def _sample_archive(path: Path) -> Volume:
    return Volume(
        name=SAMPLES,
        title="Sample archive",
        description="Small made-up images of Earth, a planet and the sky, to try things with.",
        kind=VolumeKind.ARCHIVE,
        source=path,
        licence="CC0-1.0",
    )
