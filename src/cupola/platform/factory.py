"""The only file that sees every class: it builds the services."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sqlalchemy import text

from cupola.config import Compute, environments_source
from cupola.config.root import RESERVED_VOLUMES
from cupola.platform.services.datalabs.builds import BuildService
from cupola.platform.services.datalabs.catalogue import CatalogueService
from cupola.platform.services.datalabs.fetches import FetchService
from cupola.platform.services.jobs.engines import EngineService
from cupola.platform.services.jobs.jobs import JobService
from cupola.platform.services.jobs.places import JobPlaces
from cupola.platform.services.jobs.shares import JobLimits
from cupola.platform.services.notices.deliveries import Deliverer, Messenger
from cupola.platform.services.notices.notifications import NotificationService
from cupola.platform.services.people.accounts import AccountService
from cupola.platform.services.people.people import PeopleService, Profiles
from cupola.platform.services.people.shares import ShareService
from cupola.platform.services.people.signin import AdmissionService
from cupola.platform.services.people.teams import TeamService
from cupola.platform.services.people.teamwatch import TeamWatch
from cupola.platform.services.prices import Prices
from cupola.platform.services.quotas import QuotaService
from cupola.platform.services.sessions.capacity import CapacityService, Machine
from cupola.platform.services.sessions.computing import ComputingService
from cupola.platform.services.sessions.hub import Bells, SessionHub
from cupola.platform.services.sessions.idle import IdleService
from cupola.platform.services.sessions.launches import Launches
from cupola.platform.services.sessions.maintenance import Maintenances
from cupola.platform.services.sessions.packages import PackageService
from cupola.platform.services.sessions.places import ContainerPlaces, ProcessPlaces
from cupola.platform.services.sessions.reruns import Reruns
from cupola.platform.services.sessions.sessions import SessionService
from cupola.platform.services.sessions.sights import Sights
from cupola.platform.services.sessions.stops import Switchboard
from cupola.platform.services.sessions.usage import UsageService
from cupola.platform.services.volumes.custom import CustomVolumes
from cupola.platform.services.volumes.mounts import VolumeMounts
from cupola.platform.services.volumes.volumes import VolumeService
from cupola.platform.storage.database.accounts import AccountStore
from cupola.platform.storage.database.connection import Database
from cupola.platform.storage.database.jobs import JobStore
from cupola.platform.storage.database.notifications import NotificationStore
from cupola.platform.storage.database.sessions import SessionStore
from cupola.platform.storage.database.shares import ShareStore
from cupola.platform.storage.database.stops import StopStore
from cupola.platform.storage.database.teams import TeamStore
from cupola.platform.storage.database.volumes import VolumeStore
from cupola.platform.storage.docker.containers import SessionContainers
from cupola.platform.storage.docker.engine import Engine
from cupola.platform.storage.docker.images import ImageStore
from cupola.platform.storage.docker.usage import ContainerMeter
from cupola.platform.storage.engines import open_engines
from cupola.platform.storage.environments import EnvironmentStore
from cupola.platform.storage.files.datalabs import DatalabFolder
from cupola.platform.storage.files.teams import let_members_write
from cupola.platform.storage.files.volumekeys import VolumeKeys
from cupola.platform.storage.hub.client import HubClient
from cupola.platform.storage.hub.groups import HubGroups
from cupola.platform.storage.hub.people import HubPeople
from cupola.platform.storage.hub.shares import HubShares
from cupola.platform.storage.mail import Mailer
from cupola.platform.storage.mounts.addresses import AddressRule
from cupola.platform.storage.mounts.keeper import MountKeeper
from cupola.platform.storage.mounts.way import GuardedWay
from cupola.platform.storage.processes import ProcessMeter
from cupola.platform.storage.quotas import open_quota
from cupola.platform.storage.webhooks import HookStore, WebhookCaller

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from cupola.config import Config
    from cupola.models.person import Profile
    from cupola.platform.services.sessions.places import SessionPlaces
    from cupola.platform.storage.hub.settings import HubSettings

__all__ = ["Factory"]


class Factory:
    """Holds the configuration and one of each service.

    Parameters
    ----------
    config
        The platform's configuration.
    hub_settings
        How to reach the hub.
    hub_transport
        Another way to the hub than the network, for tests.
    datalabs
        Another folder with datalabs than the shipped one, for tests.
    """

    def __init__(
        self,
        config: Config,
        hub_settings: HubSettings,
        *,
        hub_transport: httpx.AsyncBaseTransport | None = None,
        datalabs: Path | None = None,
    ) -> None:
        self.config = config
        self.hub_settings = hub_settings
        self._source = datalabs or environments_source()
        self._database = Database.of(config)
        self._hub = HubClient(hub_settings, hub_transport)
        self.people = PeopleService(
            hub=self._hub,
            access_scopes=hub_settings.access_scopes,
            profiles=Profiles(config.profile, config.profiles),
            teams=self._teams_of,
        )
        self.admissions = AdmissionService(hub=HubPeople(self._hub), people=self.people)
        self.accounts = AccountService(AccountStore(self._database))
        self.quotas = self._build_quotas()
        self.packages = PackageService(paths=config.paths)
        self._bells, self._switchboard = Bells(), Switchboard()
        versions = self._version_store()
        self._at_hub = self._build_at_hub(versions)
        self.teams = self._build_teams()
        self.volumes = self._build_volumes()
        self.catalogue = CatalogueService(
            folder=DatalabFolder.of(config, self._source),
            versions=versions,
            compute=config.compute,
        )
        self.builds = BuildService(
            catalogue=self.catalogue,
            versions=versions,
            fetches=versions if isinstance(versions, ImageStore) else None,
        )
        self._meter = self._build_meter()
        self._usages = UsageService(self._meter)
        self.capacity = CapacityService(
            store=SessionStore(self._database),
            machine=self._machine,
            docker=config.docker if config.compute is Compute.DOCKER else None,
        )
        self.prices = Prices(config.prices)
        self.reruns = Reruns(catalogue=self.catalogue, store=SessionStore(self._database))
        self.sessions = self._build_sessions()
        self.computing = ComputingService()
        self._notices = NotificationStore(self._database)
        self._engines = open_engines(config)
        self.jobs = self._build_jobs()
        self.engines = EngineService(self._engines, used=self.jobs.cores_in_use)
        self.notifications, self.deliverer = self._build_notifications()
        self.maintenances = Maintenances(stops=StopStore(self._database), clock=self._switchboard.clock)
        self.idle = self._build_idle()
        self.shares = self._build_shares()
        self.teams.listeners.append(self.shares.follow_team)

    def _build_shares(self) -> ShareService:
        return ShareService(
            store=ShareStore(self._database),
            sessions=SessionStore(self._database),
            teams=self.teams,
            catalogue=self.catalogue,
            hub=HubShares(self._hub),
            groups=HubGroups(self._hub),
            base_url=self.hub_settings.base_url,
        )

    def _build_meter(self) -> ContainerMeter | ProcessMeter:
        if self.config.compute is Compute.DOCKER:
            return ContainerMeter(self.config.docker.host, self.config.paths.key)
        return ProcessMeter(self.config.paths.running)

    async def _machine(self) -> Machine:
        return Machine(*await asyncio.to_thread(self._meter.machine))

    async def _teams_of(self, person: str) -> list[str]:
        return await self.teams.names_of(person)

    def _version_store(self) -> EnvironmentStore | ImageStore:
        if self.config.compute is Compute.DOCKER:
            return ImageStore(self.config.paths.images, Engine(self.config.docker.host))
        return EnvironmentStore(self.config.paths.environments, self._source, self.config.datalabs)

    def _build_teams(self) -> TeamService:
        store, groups = TeamStore(self._database), HubGroups(self._hub)
        watch = TeamWatch(
            teams=store,
            sessions=SessionStore(self._database),
            shares=ShareStore(self._database),
            groups=groups,
            at_hub=self._at_hub,
            prepare=self._prepare_team,
            folder=self.config.paths.teams,
        )
        return TeamService(
            store=store,
            groups=groups,
            watch=watch,
            paths=self.config.paths,
            volumes={*RESERVED_VOLUMES, *(volume.name for volume in self.config.volumes)},
            pages=f"{self.config.address}{self.hub_settings.prefix}",
        )

    async def _prepare_team(self, team: str) -> None:
        folder = await self.quotas.prepare("team", team, await self.accounts.team(team))
        await asyncio.to_thread(let_members_write, folder)

    def _build_volumes(self) -> VolumeService:
        config, paths = self.config, self.config.paths
        way = GuardedWay(
            records=paths.mount_records,
            door=paths.secrets / "volume-guard.json",
            log=paths.log / "mounts",
            allow=tuple(config.custom_volumes.allow),
        )
        keeper = MountKeeper(
            folder=paths.mounts,
            records=paths.mount_records,
            cache=paths.mount_cache,
            log=paths.log / "mounts",
            cache_gib=config.mounts.cache_gib,
        )
        custom = CustomVolumes(
            store=VolumeStore(self._database),
            keys=VolumeKeys(paths.secrets / "volumes"),
            settings=config.custom_volumes,
            rule=AddressRule(tuple(config.custom_volumes.allow)),
            way=way,
            mounts=paths.mounts,
            teams=self.teams,
        )
        return VolumeService(
            settings=config.volumes,
            paths=paths,
            samples=config.sample_archive,
            containers=config.compute is Compute.DOCKER,
            mounts=VolumeMounts(keeper=keeper, way=way, idle=config.mounts.idle_minutes * 60),
            custom=custom,
            teams=self.teams,
            sessions=SessionStore(self._database),
            jobs=JobStore(self._database),
        )

    def _build_at_hub(self, versions: EnvironmentStore | ImageStore) -> SessionHub:
        return SessionHub(
            store=SessionStore(self._database),
            hub=self._hub,
            bells=self._bells,
            fetches=FetchService(versions) if isinstance(versions, ImageStore) else None,
        )

    def _build_sessions(self) -> SessionService:
        store, bells = SessionStore(self._database), self._bells
        settings = self.hub_settings
        self._places = self._build_places()
        self.launches = Launches(
            catalogue=self.catalogue,
            volumes=self.volumes,
            capacity=self.capacity,
            prices=self.prices,
            places=self._places,
            docker=self.config.docker,
        )
        return SessionService(
            store=store,
            at_hub=self._at_hub,
            bells=bells,
            launches=self.launches,
            capacity=self.capacity,
            meter=self._usages,
            switchboard=self._switchboard,
            base_url=settings.base_url,
            frozen=self.config.paths.frozen,
            running_log=self._running_log(),
        )

    def _build_idle(self) -> IdleService:
        return IdleService(
            store=SessionStore(self._database),
            stops=StopStore(self._database),
            sessions=self.sessions,
            at_hub=self._at_hub,
            bells=self._bells,
            switchboard=self._switchboard,
            sights=Sights(
                switchboard=self._switchboard,
                at_hub=self._at_hub,
                meter=self._usages,
                jobs=JobStore(self._database),
                clock=time.monotonic,
            ),
            maintenances=self.maintenances,
            notices=self._notices,
            settings=self.config.sessions.idle,
        )

    def _build_places(self) -> SessionPlaces:
        config, settings = self.config, self.hub_settings
        if config.compute is Compute.DOCKER:
            return ContainerPlaces(
                paths=config.paths,
                settings=config.docker,
                accounts=self.accounts,
                homes=self.quotas,
                shared=lambda: self.volumes.shared,
                guardian=config.sessions.guardian,
            )
        # Past the proxy: a session's own calls work while the proxy restarts.
        api_url = f"{settings.service_url}{settings.prefix}api"
        return ProcessPlaces(
            paths=config.paths,
            api_url=api_url,
            homes=self.quotas,
            guardian=config.sessions.guardian,
        )

    def _running_log(self) -> Callable[[str], str] | None:
        if self.config.compute is not Compute.DOCKER:
            return None
        return SessionContainers(host=self.config.docker.host, key=self.config.paths.key).log

    def _build_jobs(self) -> JobService:
        paths = self.config.paths
        places = JobPlaces(
            catalogue=self.catalogue,
            sessions=SessionStore(self._database),
            volumes=self.volumes,
            places=self._places,
            packages=self.packages,
            homes=paths.homes,
        )
        store = JobStore(self._database, self._notices)
        limits = JobLimits(profile_of=self._profile_of, role_of=self.teams.role, teams=self.config.teams)
        return JobService(store=store, engines=self._engines, places=places, limits=limits)

    def _build_notifications(self) -> tuple[NotificationService, Deliverer]:
        config, store = self.config, self._notices
        settings, people = config.notifications, HubPeople(self._hub)

        async def address_of(person: str) -> str | None:
            return (await store.settings(person)).address or await people.mail_of(person)

        messenger = Messenger(
            mailer=Mailer(settings.mail, config.title) if settings.mail else None,
            caller=WebhookCaller(tuple(settings.webhooks.allow)) if settings.webhooks.enabled else None,
            hooks=HookStore(config.paths.secrets / "webhooks"),
            address_of=address_of,
            title=config.title,
            pages=f"{config.address}{self.hub_settings.prefix}",
        )
        deliverer = Deliverer(store, messenger)
        store.wake = deliverer.wake
        service = NotificationService(store=store, messenger=messenger, sign_in_address=people.mail_of)
        return service, deliverer

    def _build_quotas(self) -> QuotaService:
        config = self.config
        return QuotaService(
            quota=open_quota(config.quotas.kind, [config.paths.homes, config.paths.teams]),
            paths=config.paths,
            settings=config.quotas,
            limit_of=self._home_limit,
        )

    async def _profile_of(self, person: str) -> Profile:
        profiles = Profiles(self.config.profile, self.config.profiles)
        return profiles.of(person, await self.teams.names_of(person))

    async def _home_limit(self, person: str) -> int | None:
        """Return how many bytes the profile of `person` allows the home; nothing: what holds for all."""
        gib = (await self._profile_of(person)).home_gib
        return None if gib is None else int(gib * 2**30)

    async def start(self) -> None:
        """Bring the database to what this code expects.

        Raises
        ------
        UnavailableError
            If the database does not answer.
        StartError
            If the configured kind of quota does not work here.
        """
        await self._database.migrate()
        await self.quotas.start()

    async def check(self) -> None:
        """Return if the database answers.

        Raises
        ------
        UnavailableError
            If it does not.
        """
        async with self._database.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def aclose(self) -> None:
        """Let everything go; sessions and tasks run on."""
        await self.idle.aclose()
        await self.sessions.aclose()
        await self.engines.aclose()
        await self.jobs.aclose()
        await self.volumes.aclose()
        await self._hub.aclose()
        await self._database.aclose()
        self._meter.close()
