"""Buckets through rclone: its words and its environment, and short calls that read without a mount.

Keys never stand on a command line or in an environment, where other programs could see them: rclone is told the file
that holds them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.exceptions import UnavailableError
from cupola.platform.storage.mounts.table import command_output

if TYPE_CHECKING:
    from cupola.models.volume import Bucket

__all__ = ["Remote", "mount_command", "program", "read_object", "total_size"]

_KEPT = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_BOUNDS = ("--contimeout", "10s", "--timeout", "30s", "--low-level-retries", "2", "--retries", "1")
"""A store that does not answer costs a reader half a minute, not rclone's usual hour."""


@dataclass(frozen=True)
class Remote:
    """A bucket and how it is reached."""

    bucket: Bucket
    keys: Path | None = None
    """A credentials file in AWS's form."""
    proxy: str | None = None
    """What every connection goes through, for buckets of people."""

    @property
    def place(self) -> str:
        """What rclone calls it."""
        return f"volume:{self.bucket.bucket}" + (f"/{self.bucket.prefix}" if self.bucket.prefix else "")

    def environment(self) -> dict[str, str]:
        """Return the environment that rclone runs in; the portal's own tokens are not in it."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        if self.proxy is None:
            kept |= {name: os.environ[name] for name in _PROXIES if name in os.environ}
        else:
            kept["RCLONE_HTTP_PROXY"] = self.proxy
        remote = {
            "TYPE": "s3",
            "PROVIDER": "AWS" if self.bucket.endpoint.rstrip("/").endswith(".amazonaws.com") else "Other",
            "ENDPOINT": self.bucket.endpoint.rstrip("/"),
            "REGION": self.bucket.region,
            "NO_CHECK_BUCKET": "true",
            "ENV_AUTH": "true" if self.keys else "false",
        }
        # The account's own keys, and those of the machine at its provider, are nobody's business here.
        around = {"AWS_CONFIG_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true", "HOME": os.devnull}
        if self.keys:
            around["AWS_SHARED_CREDENTIALS_FILE"] = remote["SHARED_CREDENTIALS_FILE"] = str(self.keys)
        return kept | around | {f"RCLONE_CONFIG_VOLUME_{name}": value for name, value in remote.items()}


def program() -> Path:
    """Return rclone: the one of this environment, else the one on the path.

    Raises
    ------
    UnavailableError
        If there is none.
    """
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise UnavailableError("There is no rclone on this machine: install cupola[platform] again.")
    return Path(found)


def mount_command(  # noqa: PLR0913 - each by its name
    remote: Remote, *, target: Path, name: str, cache: Path, cache_gib: int, log: Path, write: bool
) -> list[str]:
    """Return the command that mounts a bucket and stays while it is mounted.

    Parameters
    ----------
    remote, target
        What is mounted where.
    name
        What the table of mounts calls it.
    cache, cache_gib
        Where what was read is kept, and how much of it.
    log
        Where it complains.
    write
        Whether it may be changed through the mount.
    """
    # Sessions run under numbers of their own: all may read, or write, what the mount as a whole allows.
    access = ["--umask", "000"] if write else ["--read-only", "--umask", "022"]
    others = ["--allow-other"] if _others_allowed() else []
    return [
        *(str(program()), "mount", remote.place, str(target), "--config", ""),
        *access,
        *others,
        *("--devname", name),
        *("--vfs-cache-mode", "full", "--cache-dir", str(cache), "--vfs-cache-max-size", f"{cache_gib}G"),
        *("--vfs-cache-max-age", "24h", "--vfs-cache-min-free-space", "1G"),
        *("--dir-cache-time", "1m", "--attr-timeout", "10s", "--poll-interval", "0", "--use-server-modtime"),
        *("--log-file", str(log), "--log-level", "NOTICE", "--log-file-max-size", "5M"),
        *("--log-file-max-backups", "1"),
        *_BOUNDS,
    ]


def _others_allowed() -> bool:
    """Return whether the mounts of this account may be seen by other accounts."""
    if os.geteuid() == 0:
        return True
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def read_object(remote: Remote, path: str, *, longest: int, seconds: float = 30) -> bytes:
    """Return the first `longest` bytes of one object.

    Raises
    ------
    UnavailableError
        If there is none of this name, or the store does not answer.
    """
    count = ["--count", str(longest)]
    command = [str(program()), "cat", f"{remote.place}/{path}", "--config", "", *count, *_BOUNDS]
    return command_output(command, environment=remote.environment(), seconds=seconds)


def total_size(remote: Remote, *, seconds: float) -> int:
    """Return the size of all objects, in bytes.

    Raises
    ------
    UnavailableError
        If the store does not answer, or has too much to be counted in the time.
    """
    command = [str(program()), "size", remote.place, "--json", "--config", "", "--fast-list", *_BOUNDS]
    answer = command_output(command, environment=remote.environment(), seconds=seconds)
    try:
        return int(json.loads(answer)["bytes"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError("rclone did not tell a size.") from error
