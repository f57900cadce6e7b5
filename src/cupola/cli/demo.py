"""``cupola demo``: the main job from signing in to stopping, done and checked without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table

from cupola.cli.opinions import second_opinion
from cupola.cli.options import ConfigOption, JsonOption, StateOption, configuration
from cupola.exceptions import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cupola.config import Config
    from cupola.monitor.report import Report, Stage

START_SECONDS = 1800
"""A first start builds the Lab's environment, which may have to be fetched over a slow line."""
STOP_SECONDS = 60


def demo(
    config: ConfigOption = None,
    state: StateOption = None,
    *,
    json: JsonOption = False,
    temporary: Annotated[
        bool,
        typer.Option("--temporary", help="Use a temporary platform even where one runs."),
    ] = False,
) -> None:
    """Do the main job end to end and verify every stage.

    It signs in with a one-time link, presses play, runs the tour notebook in a real kernel, fetches map tiles, runs the
    job, and compares tiles and products pixel by pixel with a direct computation. It uses the platform that runs in the
    state folder; where none runs, it starts a temporary one and removes it afterwards.

    Exit code 0 only when every stage was verified.
    """
    settings = configuration(config, state)
    console = Console(stderr=json, highlight=False)
    with contextlib.ExitStack() as stack:
        if temporary or not _runs(settings):
            settings = stack.enter_context(_temporary_platform(settings, console))
        report = _perform(settings, console)
    if json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        console.print(_table(report))
    raise typer.Exit(0 if report.ok else 1)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo", epilog="Example: cupola demo --json")(demo)


def _runs(settings: Config) -> bool:
    from cupola.hub.platform import Living

    living = Living.find(settings.paths)
    return living is not None and living.ready


def _perform(settings: Config, console: Console) -> Report:
    from cupola.hub.links import Links
    from cupola.monitor.main_job import Platform, perform

    link = f"{settings.address}/hub/sign-in?token={Links(settings.paths.links).create(settings.owner)}"

    def tell(stage: Stage) -> None:
        mark = "[green]✓[/]" if stage.ok else "[red]✗[/]"
        console.print(f"{mark} {stage.title} [dim]{stage.seconds:.1f} s[/]")
        if stage.error:
            console.print(f"  {stage.error}", style="red", markup=False)

    platform = Platform(address=settings.address, link=link, opinion=second_opinion(settings))
    return asyncio.run(perform(platform, tell))


@contextlib.contextmanager
def _temporary_platform(settings: Config, console: Console) -> Iterator[Config]:
    """Run a platform of its own in a temporary folder; only the built environments are shared."""
    with tempfile.TemporaryDirectory(prefix="cupola-demo-") as folder:
        file = Path(folder, "cupola.yaml")
        paths = settings.paths
        wanted = {
            "state": str(Path(folder, "state")),
            "server": {"port": _free_port()},
            "compute": settings.compute.value,
            "docker": {
                **settings.docker.model_dump(mode="json", exclude_defaults=True),
                "build": False,
            },
            "folders": {"environments": str(paths.environments), "images": str(paths.images)},
        }
        file.write_text(yaml.safe_dump(wanted), encoding="utf-8")
        for name in ("CUPOLA_STATE", "CUPOLA_PORT"):
            os.environ.pop(name, None)
        temporary = configuration(file)
        console.print(f"Starting a temporary platform in {folder}", markup=False)
        log = Path(folder, "up.log")
        with log.open("wb") as output:
            up = subprocess.Popen(
                [sys.executable, "-m", "cupola.cli", "up", "--config", str(file)],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            _wait_until_ready(temporary, up, log)
            yield temporary
        finally:
            up.send_signal(signal.SIGTERM)
            try:
                up.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                up.kill()
                up.wait()


def _wait_until_ready(settings: Config, up: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not _runs(settings):
        if up.poll() is not None or time.monotonic() > until:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise StartError(f"the temporary platform did not start: {' / '.join(last)}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _table(report: Report) -> Table:
    table = Table(title=f"The main job at {report.address}: {'verified' if report.ok else 'NOT verified'}")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("what was counted")
    for stage in report.stages:
        counted = ", ".join(f"{name} {value}" for name, value in stage.counts.items())
        name = stage.name if stage.ok else f"[red]{stage.name}[/]"
        table.add_row(name, f"{stage.seconds:.1f}", counted)
    return table
