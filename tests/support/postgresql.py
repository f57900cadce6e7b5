"""A real PostgreSQL of the tests' own: Debian's programs, a folder of its own, a socket instead of a port."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = "-c fsync=off -c full_page_writes=off -c listen_addresses='' -c log_min_messages=fatal"


@dataclass
class Server:
    """A server, running or not."""

    programs: Path
    folder: Path

    def as_its_user(self, *command: str) -> None:
        """Run one of PostgreSQL's programs: none of them runs as root."""
        user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        words = [*(user if os.geteuid() == 0 else []), str(self.programs / command[0]), *command[1:]]
        subprocess.run(words, check=True, capture_output=True, text=True, cwd=self.folder)

    def start(self) -> None:
        options = f"-k {self.folder} {QUIET}"
        log = str(self.folder / "log")
        self.as_its_user("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self.as_its_user("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def address(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Make an empty database and return its address."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.address(name)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Start a server; the test is skipped where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    beside = shutil.which("initdb")
    if not found and not beside:
        pytest.skip("PostgreSQL is not installed")
    programs = Path(beside).parent if beside else found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="cupola-pg-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
    made = Server(programs, folder)
    try:
        data = str(folder / "data")
        made.as_its_user("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        made.start()
        yield made
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)
