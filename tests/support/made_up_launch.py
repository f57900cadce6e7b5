"""What the launch form and the pages of sessions ask for, made up: capacity, prices, sizes, ends."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

from cupola.config import DockerSettings, PriceSettings
from cupola.models.base import now
from cupola.models.packages import PackageHint
from cupola.models.resources import Capacity, Resources, Usage
from cupola.models.session import EndCause, Session, SessionEnd
from cupola.models.share import Share, ShareAccess
from cupola.models.storage import StorageUsage
from cupola.platform.services.prices import Prices
from cupola.platform.services.sessions.computing import ComputingService
from cupola.platform.services.sessions.reruns import Rerun
from cupola.platform.services.sessions.sizes import bigger, most

START = now()
SIZE = Resources(cores=2, memory_mib=4096)
USAGE = Usage(cores=0.37, memory_mib=1630, peak_memory_mib=2210, processes=14)
OUT_OF_MEMORY = SessionEnd(
    cause=EndCause.OUT_OF_MEMORY,
    exit_code=137,
    signal="SIGKILL",
    peak_memory_mib=4096,
    memory_limit_mib=4096,
    log=["[I 05:12:07 ServerApp] Kernel started", "Killed"],
)
CAPACITY = Capacity(
    total_cores=32,
    most_cores=8,
    total_memory_mib=65536,
    total_gpus=2,
    free_cores=9.5,
    free_memory_mib=11264,
    free_gpus=1,
)


class CapacityOf:
    """A capacity that never changes."""

    def __init__(self):
        self.limited = True
        self.now = CAPACITY

    async def capacity(self):
        return self.now

    total = capacity


class FoundAgain:
    """Says of each version that it is gone, and of the newest that it is nearest."""

    def __init__(self, datalabs):
        self.datalabs = datalabs

    async def find(self, digest, **_):
        lab = self.datalabs()[0]
        exact = next((version for version in lab.versions if version.digest == digest), None)
        return Rerun(lab, exact, None if exact else lab.versions[0])


class Groups:
    """What others share, what a home holds, and what was installed."""

    async def shared_with(self, _person):
        session = Session(
            id="lab-grace234",
            owner="grace",
            datalab="lab",
            version="sha256:1",
            title="Craters, together",
            state="ready",
            url="/user/grace/lab-grace234/lab",
            created=now(),
            shared_by="grace",
            shared_access=ShareAccess.VIEW,
        )
        return [session]

    async def shares(self, _person, session):
        about = {"session": session, "owner": "ada", "created": START, "expires": START + timedelta(hours=8)}
        return [Share(id="s1", person="grace", team=None, access=ShareAccess.FULL, **about)]

    async def usages(self, person):
        return [StorageUsage(kind="home", name=person.name, used_bytes=7 * 2**30, limit_bytes=20 * 2**30)]

    async def hint(self, _person, _digest):
        return PackageHint(
            here=3, sentence="The 3 packages that you installed on this version are there again."
        )


def next_sizes(person, sessions):
    """Return the next size of each that ran out of memory."""
    largest = most(person.profile, CAPACITY)
    return {
        one.id: bigger(one.resources, largest, CAPACITY.free_memory_mib, "default")
        for one in sessions
        if one.end and one.resources
    }


def parts(datalabs):
    """Return what a factory has of all this."""
    usual = Resources(cores=DockerSettings().cores, memory_mib=DockerSettings().memory_mib)
    groups = Groups()
    return {
        "shares": groups,
        "quotas": groups,
        "packages": groups,
        "capacity": CapacityOf(),
        "prices": Prices(PriceSettings(currency="EUR", core_hour=0.02, gib_hour=0.003)),
        "launches": SimpleNamespace(usual=lambda datalab: datalab.resources or usual),
        "reruns": FoundAgain(datalabs),
    }


def computing(session):
    service = ComputingService()
    service.tell(session, ["mars/dust storms.ipynb"])
    return service
