"""A real object store (S3) on the loopback: ``rclone serve s3`` over a folder."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupola.platform.storage.mounts.rclone import program
from support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class ObjectStore:
    """Serves each folder in `folder` as a bucket; `keys` are (id, secret) where not everybody may read."""

    folder: Path
    keys: tuple[str, str] | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [str(program()), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", str(self.folder)]
        if self.keys:
            command += ["--auth-key", ",".join(self.keys)]
        with (self.folder.parent / f"store-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--config", ""], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the object store did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)
            self.process = None
