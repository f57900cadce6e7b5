"""The folders of a running platform, and where the shipped environments are found."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cupola.exceptions import StartError

__all__ = ["StatePaths", "default_state", "environments_source"]


@dataclass(frozen=True)
class StatePaths:
    """Names every file and folder of a running platform; it makes none of them."""

    state: Path
    """The root, absolute."""
    other_homes: Path | None = None
    """Another place for `homes`, if the configuration names one."""
    other_environments: Path | None = None
    """Another place for `environments`, if the configuration names one."""
    other_images: Path | None = None
    """Another place for `images`, if the configuration names one."""

    @property
    def key(self) -> str:
        """Eight letters that tell this platform's containers and networks from those of another one on the same engine."""
        return hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]

    @property
    def lock(self) -> Path:
        """The file that the living ``cupola up`` holds a lock on."""
        return self.state / "run" / "lock"

    @property
    def platform(self) -> Path:
        """What is known of the living platform, as JSON: pid, creation time, address, start."""
        return self.state / "run" / "platform.json"

    @property
    def ports(self) -> Path:
        """The loopback ports chosen once, as JSON."""
        return self.state / "run" / "ports.json"

    @property
    def zygotes(self) -> Path:
        """Folder of the sockets of the fork servers."""
        return self.state / "run" / "zygotes"

    @property
    def running(self) -> Path:
        """Folder of the records of running sessions."""
        return self.state / "run" / "sessions"

    @property
    def frozen(self) -> Path:
        """Folder of the kernels of hibernated sessions, as they stood; for the platform's account only."""
        return self.state / "frozen"

    @property
    def secrets(self) -> Path:
        """Folder of the secrets made at first start; for the owner only."""
        return self.state / "secrets"

    @property
    def hub(self) -> Path:
        """Folder of the hub."""
        return self.state / "hub"

    @property
    def people(self) -> Path:
        """Who is known, and under which name: an SQLite file; for the owner only."""
        return self.state / "hub" / "people.sqlite"

    @property
    def links(self) -> Path:
        """Folder of the one-time sign-in links; for the owner only."""
        return self.state / "hub" / "links"

    @property
    def portal_database(self) -> Path:
        """The portal's SQLite file."""
        return self.state / "portal" / "cupola.sqlite"

    @property
    def proxy(self) -> Path:
        """Folder of the proxy's configuration and routes."""
        return self.state / "proxy"

    @property
    def log(self) -> Path:
        """Folder of the logs."""
        return self.state / "log"

    @property
    def homes(self) -> Path:
        """Folder of the homes, one folder per person."""
        return self.other_homes or self.state / "homes"

    @property
    def archives(self) -> Path:
        """Folder of the archives that Cupola itself made."""
        return self.state / "archives"

    @property
    def sample_archive(self) -> Path:
        """The sample data, made at first start."""
        return self.archives / "sample-archive"

    @property
    def environments(self) -> Path:
        """Folder of the locked environments: ``DATALAB/DIGEST12/bin/python``."""
        return self.other_environments or self.state / "environments"

    @property
    def network(self) -> Path:
        """What is known of the network of the containers, as JSON."""
        return self.state / "run" / "network.json"

    @property
    def images(self) -> Path:
        """Folder of what is known of built images: ``DATALAB/DIGEST12/version.json``, ``sbom.json``, ``build.log``."""
        return self.other_images or self.state / "images"

    @property
    def teams(self) -> Path:
        """Folder of the team volumes, beside the homes, so that one file system holds both."""
        return self.homes.with_name("teams")

    @property
    def mounts(self) -> Path:
        """Folder where buckets and exports are mounted: ``NAME/data``."""
        return self.state / "mounts"

    @property
    def mount_records(self) -> Path:
        """Folder of the records of the programs that keep mounts."""
        return self.state / "run" / "mounts"

    @property
    def mount_cache(self) -> Path:
        """Folder of what was read from buckets; may be emptied while nothing is mounted."""
        return self.state / "cache" / "mounts"

    @property
    def volume_notes(self) -> Path:
        """Folder of what was found out about volumes; may be emptied at any time."""
        return self.state / "cache" / "volumes"

    @property
    def accounts(self) -> Path:
        """Folder of the files that containers see as ``/etc/passwd`` and ``/etc/group``."""
        return self.state / "run" / "accounts"

    def team(self, name: str) -> Path:
        """Return the folder of the volume of a team."""
        return self.teams / name

    def home(self, person: str) -> Path:
        """Return what a session of `person` has as ``$HOME``."""
        return self.homes / person

    def passwd(self, person: str) -> Path:
        """Return the file that containers of `person` see as ``/etc/passwd``."""
        return self.accounts / f"{person}.passwd"

    def group(self, person: str) -> Path:
        """Return the file that containers of `person` see as ``/etc/group``."""
        return self.accounts / f"{person}.group"

    def zygote(self, person: str, digest: str) -> Path:
        """Return the socket of the fork server of `person` with the version `digest`."""
        return self.zygotes / f"{person}-{digest.removeprefix('sha256:')[:12]}.sock"

    def session_log(self, session: str) -> Path:
        """Return the file that takes the output of the session with the id `session`."""
        return self.log / "sessions" / f"{session}.log"


def default_state(file: Path | None) -> Path:
    """Return the state folder where nobody named one: beside `file`, else among the account's own data."""
    if file is not None:
        return file.absolute().parent / "cupola-state"
    data = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification says to ignore a relative value.
    root = Path(data) if data.startswith("/") else Path.home() / ".local" / "share"
    return root / "cupola"


def environments_source() -> Path:
    """Return the folder with the shipped datalabs (``lab/datalab.yaml``, ``lab/requirements.lock`` ...).

    Raises
    ------
    StartError
        If this installation carries none.
    """
    package = Path(__file__).resolve().parent.parent
    # An installed wheel carries them in the package; a checkout (src/cupola) has them at its root.
    for folder in (package / "environments", package.parent.parent / "environments"):
        if (folder / "lab" / "datalab.yaml").is_file():
            return folder
    raise StartError(
        f"the installation of Cupola in {package} lacks the folder 'environments'; install Cupola again"
    )
