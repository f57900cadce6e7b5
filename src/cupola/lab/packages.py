"""What the user installed: a lock per version, and the way of the packages to another version.

The lock ``~/.cupola/packages/DIGEST12.json`` says exactly what the user's own environment on one version holds. On
another version nothing is installed by itself: the user is told what could be, and ``cupola packages restore`` does it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import ValidationError

from cupola.exceptions import ConflictError
from cupola.models.base import now
from cupola.models.packages import Fate, Package, PackageFate, PackageLock, PackagePlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Packages", "installed", "packages"]

LOCKS = "packages"
_LARGEST = 2 * 2**20
_MOST_LOCKS = 50
_SECONDS = 600
_TOLD = re.compile(r"^ERROR: (.+)$", re.MULTILINE)


class Packages:
    """The packages of one user on the version that runs now.

    Parameters
    ----------
    runtime
        ``~/.cupola``.
    digest
        Of the version that runs.
    locked
        Folder with the packages of the version itself; tests bring another.
    python
        The interpreter of the user's own environment.
    """

    def __init__(self, runtime: Path, digest: str, *, python: Path, locked: Path | None = None) -> None:
        self.digest = digest
        self.python = python
        self._folder = runtime / LOCKS
        self._overlay = python.parent.parent
        self._locked = locked

    @classmethod
    def here(cls) -> Packages:
        """Return those of this session.

        Raises
        ------
        ConflictError
            The session runs without the user's own packages.
        """
        home = Path(os.environ.get("HOME") or Path.home())
        runtime = Path(os.environ.get("CUPOLA_RUNTIME") or home / ".cupola")
        digest = os.environ.get("CUPOLA_VERSION", "")
        overlay = runtime / "environments" / _short(digest)
        if os.environ.get("CUPOLA_CLEAN") == "1" or not (overlay / "bin" / "python").exists():
            raise ConflictError(
                "This session runs without your own packages: launch one that is not started clean, then try again."
            )
        return cls(runtime, digest, python=overlay / "bin" / "python")

    # -- the lock -----------------------------------------------------------------------------------------------

    @property
    def site(self) -> Path:
        """Where the user's packages lie."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self._overlay / "lib" / version / "site-packages"

    @property
    def file(self) -> Path:
        """The lock of the version that runs."""
        return self._folder / f"{_short(self.digest)}.json"

    def record(self, *, answered: bool | None = None) -> PackageLock | None:
        """Write down what is installed now, if it is not written already.

        Parameters
        ----------
        answered
            Whether the user has said what is to become of the packages of another version; nothing: as it was.

        Returns
        -------
        :
            The lock; nothing where nothing was ever installed.

        Raises
        ------
        OSError
            It cannot be written.
        """
        found = installed(self.site)
        before = _read(self.file)
        said = answered if answered is not None else bool(before and before.answered)
        if before is None and not found and not said:
            return None
        if before is not None and before.packages == found and before.answered == said:
            return before
        moment = now()
        lock = PackageLock(
            digest=self.digest,
            label=_label(),
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            made=before.made if before else moment,
            changed=moment,
            answered=said,
            packages=found,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self.file, lock.model_dump_json(indent=1))
        return lock

    def other(self) -> PackageLock | None:
        """Return the lock of the version that was used last before this one and that nothing was decided about."""
        here = _read(self.file)
        if here is not None and here.answered:
            return None
        try:
            files = sorted(self._folder.glob("*.json"))[:_MOST_LOCKS]
        except OSError:
            return None
        found = [lock for file in files if file != self.file and (lock := _read(file)) and lock.packages]
        last = max(found, key=lambda lock: lock.changed, default=None)
        # Whoever has installed things here since then goes on without those of then.
        return None if here and last and here.packages and here.made > last.changed else last

    # -- on another version -------------------------------------------------------------------------------------

    def plan(self) -> PackagePlan | None:
        """Work out what would become of the packages of the version used before; takes seconds and changes nothing.

        Returns
        -------
        :
            Nothing where there is nothing to restore.
        """
        lock = self.other()
        if lock is None:
            return None
        mine = {package.name: package.version for package in installed(self.site)}
        theirs = {package.name: package.version for package in self._version_has()}
        fates: dict[str, PackageFate] = {}
        missing: list[Package] = []
        for package in lock.packages:
            have = mine.get(package.name) or theirs.get(package.name)
            if have == package.version or (have and not package.requested):
                fates[package.name] = PackageFate(
                    name=package.name, was=package.version, fate=Fate.THERE, now=have
                )
            else:
                missing.append(package)
        fates |= {fate.name: fate for fate in self._try(missing)}
        order = [fates[package.name] for package in lock.packages]
        return PackagePlan(label=lock.label or _short(lock.digest), changed=lock.changed, packages=order)

    def restore(self, say: Callable[[str], None] = lambda _: None) -> PackagePlan | None:
        """Install what :meth:`plan` says can be; to be called again goes on where it stopped.

        Parameters
        ----------
        say
            Gets a line for each step.

        Returns
        -------
        :
            What became of each package; nothing where there was nothing to restore.
        """
        plan = self.plan()
        if plan is None:
            return None
        wanted = plan.of(Fate.SAME, Fate.OTHER)
        fates = {package.name: package for package in plan.packages}
        say(f"installing {len(wanted)} of {len(plan.packages)} packages of version {plan.label}")
        failed = (
            self._pip([_requirement(p.name, p.now or p.was, p.source) for p in wanted]) if wanted else None
        )
        if failed:
            for package in wanted:
                say(f"installing {package.name} {package.now or package.was}")
                why = self._pip([_requirement(package.name, package.now or package.was, package.source)])
                if why:
                    fates[package.name] = package.model_copy(
                        update={"fate": Fate.NOT, "why": why, "now": None}
                    )
        result = plan.model_copy(update={"packages": list(fates.values())})
        self.record(answered=not result.of(Fate.NOT) or not failed)
        return result

    def dismiss(self) -> None:
        """Do without them: the user is not asked again on this version."""
        self.record(answered=True)

    def _version_has(self) -> list[Package]:
        if self._locked is not None:
            return installed(self._locked)
        import sysconfig

        if Path(sys.prefix) != self._overlay:
            return installed(Path(sysconfig.get_paths()["purelib"]))
        code = "import sys, json; print(json.dumps(sys.path))"
        path = json.loads(subprocess.check_output([str(self.python), "-c", code], text=True))
        return [
            package for folder in path if Path(folder) != self.site for package in installed(Path(folder))
        ]

    def _try(self, missing: list[Package]) -> list[PackageFate]:
        """Ask pip, without installing anything, first for all as they were and then for each."""
        if not missing:
            return []
        exact = [_requirement(package.name, package.version, package.source) for package in missing]
        if self._resolved(exact)[0] is not None:
            return [_fate(package, Fate.SAME, package.version) for package in missing]
        asked = [package for package in missing if package.requested] or missing
        found = [self._one(package) for package in asked]
        # What only others needed comes with those, in the release that fits.
        brought = {
            name: version
            for fate, more in found
            for name, version in more.items()
            if fate.fate is not Fate.NOT
        }
        rest = [
            _fate(
                package,
                Fate.SAME if brought[package.name] == package.version else Fate.OTHER,
                brought[package.name],
            )
            if package.name in brought
            else PackageFate(
                name=package.name, was=package.version, fate=Fate.THERE, why="Nothing needs it here."
            )
            for package in missing
            if package not in asked
        ]
        return [fate for fate, _ in found] + rest

    def _one(self, package: Package) -> tuple[PackageFate, dict[str, str]]:
        """Return what becomes of one package, and what else would be installed with it."""
        got, why = self._resolved([_requirement(package.name, package.version, package.source)])
        if got is not None:
            return _fate(package, Fate.SAME, package.version), got
        got, _ = self._resolved([package.name])
        if got is not None and package.name in got:
            fate = _fate(package, Fate.OTHER, got[package.name])
            return fate.model_copy(update={"why": why, "source": None}), got
        return PackageFate(name=package.name, was=package.version, fate=Fate.NOT, why=why), {}

    def _resolved(self, requirements: list[str]) -> tuple[dict[str, str] | None, str]:
        """Return the packages that pip would install, by name, or nothing and why not."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            why = self._pip([*requirements], "--dry-run", "--report", str(report))
            if why:
                return None, why
            told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return {
            _normalised(item["metadata"]["name"]): item["metadata"]["version"]
            for item in told.get("install", [])
        }, ""

    def _pip(self, requirements: list[str], *options: str) -> str:
        """Let pip install; return why it could not, in a sentence, or nothing."""
        command = [
            str(self.python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ]
        try:
            done = subprocess.run(
                [*command, *options, "--", *requirements],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return f"pip did not finish: {exc}"
        if done.returncode == 0:
            return ""
        said = _TOLD.findall(done.stderr) or [
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "?"
        ]
        return str(said[0])[:300]


def packages() -> list[Package]:
    """Return what you installed on this version, on top of what it brings.

    Returns
    -------
    :
        A list of :class:`~cupola.models.packages.Package`.

    Raises
    ------
    ConflictError
        This session was started clean.
    """
    return installed(Packages.here().site)


def installed(folder: Path) -> list[Package]:
    """Return the packages in a ``site-packages`` folder, by name; one that is broken is left out."""
    found: dict[str, Package] = {}
    for distribution in distributions(path=[str(folder)]):
        try:
            name, version = distribution.metadata["Name"], distribution.version
        except (KeyError, OSError, UnicodeDecodeError):
            continue
        if name and version and Path(str(distribution.locate_file(""))) == folder:
            found[_normalised(name)] = Package(
                name=_normalised(name),
                version=version,
                source=_source(distribution),
                requested=distribution.read_text("REQUESTED") is not None,
            )
    return [found[name] for name in sorted(found)]


def _source(distribution: Distribution) -> str | None:
    """Return where a package came from, without what opens that place."""
    try:
        told = json.loads(distribution.read_text("direct_url.json") or "null")
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("url"), str):
        return None
    url = urlsplit(told["url"])
    url = url._replace(netloc=url.netloc.rpartition("@")[2])
    version = told.get("vcs_info")
    if isinstance(version, dict):
        return f"{version.get('vcs', 'git')}+{urlunsplit(url)}@{version.get('commit_id', '')}"
    return urlunsplit(url)


def _requirement(name: str, version: str, source: str | None) -> str:
    return f"{name} @ {source}" if source else f"{name}=={version}"


def _fate(package: Package, fate: Fate, version: str) -> PackageFate:
    return PackageFate(name=package.name, was=package.version, fate=fate, now=version, source=package.source)


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or "unknown"


def _label() -> str:
    """Return the name of the version that runs, where it says so."""
    try:
        told = json.loads((Path(sys.prefix) / "version.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return os.environ.get("CUPOLA_VERSION_LABEL", "")
    return str(told.get("label", "")) if isinstance(told, dict) else ""


def _read(file: Path) -> PackageLock | None:
    try:
        with file.open("rb") as content:
            return PackageLock.model_validate_json(content.read(_LARGEST))
    except (OSError, ValidationError):
        return None


def _write(file: Path, text: str) -> None:
    """Replace a file as a whole."""
    handle, aside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as output:
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
        Path(aside).replace(file)
    finally:
        Path(aside).unlink(missing_ok=True)


def report(plan: PackagePlan, *, done: bool = False) -> Iterable[str]:
    """Yield what a person wants to read of a plan, a line for each kind of fate."""
    verb = "installed" if done else "can be installed again"
    words = {
        Fate.SAME: f"{verb} as they were",
        Fate.OTHER: f"{verb} in another release",
        Fate.THERE: "already here",
        Fate.NOT: "cannot be installed here",
    }
    yield f"Packages that you installed on version {plan.label}:"
    for fate, word in words.items():
        if found := plan.of(fate):
            yield f"  {word}: " + ", ".join(_line(package) for package in found)


def _line(package: PackageFate) -> str:
    if package.fate is Fate.OTHER:
        return f"{package.name} {package.was} -> {package.now}"
    why = f" ({package.why})" if package.fate is Fate.NOT and package.why else ""
    return f"{package.name} {package.was}{why}"


def main(arguments: list[str]) -> int:
    """Run ``python -m cupola.lab.packages record``: what pip's wrapper does when pip is done."""
    if arguments == ["record"]:
        try:
            Packages.here().record()
        except (ConflictError, OSError):
            return 1
        return 0
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
