"""``cupola up``: start the platform and keep it running until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from cupola.cli.options import ConfigOption, PortOption, StateOption, configuration
from cupola.cli.others import building_others
from cupola.exceptions import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cupola.config import Config
    from cupola.hub.supervisor import Supervisor
    from cupola.platform.storage.environments import BuiltVersion

__all__ = ["Screen", "register", "up"]

DATALAB = "lab"
"""The datalab whose environment is built before the start, so that the first click finds it."""


class Screen:
    """What a person sees: in a terminal a moving line under what was done, elsewhere plain lines.

    Parameters
    ----------
    console
        Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str) -> None:
        """Show a line that stays."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show that something is under way; the function it gives shows what it does just now."""
        begun = time.monotonic()
        if not self.console.is_terminal:
            self.line(f"{title} ...")
            yield lambda text: self.line(f"  {text}")
        else:
            with self.console.status(title) as status:
                yield lambda text: status.update(f"{title}  [dim]{_shortened(text)}[/dim]")
        self.line(f"{title}: done in {time.monotonic() - begun:.1f} s")


def _shortened(text: str) -> str:
    from rich.markup import escape

    longest = 70
    return escape(text if len(text) <= longest else text[: longest - 1] + "…")


def up(config: ConfigOption = None, state: StateOption = None, port: PortOption = None) -> None:
    """Start the platform, and keep it running until Ctrl-C.

    The terminal shows the address and a one-time sign-in link. Ctrl-C stops everything that was started; a second
    start finds the same state.
    """
    from cupola.hub import platform
    from cupola.hub.signin.start import check_sign_in
    from cupola.hub.supervisor import Supervisor

    settings = configuration(config, state, port)
    check_sign_in(settings)
    screen = Screen(Console())
    # A stop that comes while the start is still preparing must run the same way out as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with platform.hold(settings):
        supervisor = Supervisor(settings, screen.line)
        try:
            supervisor.prepare()
            built = _build_environment(settings, screen)
            if settings.sample_archive:
                _make_samples(settings, built, screen)
            with building_others(settings):
                asyncio.run(_run(supervisor, built, screen))
        except KeyboardInterrupt:
            asyncio.run(supervisor.stop(quietly=True))
            screen.line("Stopped before it was ready.")
            raise typer.Exit(130) from None
    screen.line("Stopped. `cupola up` starts again with the same state.")


async def _run(supervisor: Supervisor, built: BuiltVersion, screen: Screen) -> None:
    """Start, watch until asked to stop, stop."""
    from cupola.config import Compute
    from cupola.hub.supervisor import WarmUp

    config, loop = supervisor.config, asyncio.get_running_loop()
    # Asked twice, it must still not leave half of it running: so a signal only says that it is time.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves the end of the terminal
            loop.add_signal_handler(number, supervisor.stopping.set)
    try:
        with screen.step("Starting hub and portal") as tell:
            supervisor.tell = tell
            if config.compute is Compute.PROCESS:
                # It loads libraries while the hub does the same on another core.
                supervisor.warm_up(WarmUp(built.python, config.owner, built.version.digest))
            await supervisor.start()
        if not supervisor.stopping.is_set():
            _welcome(config, screen)
        supervisor.tell = screen.line
        await supervisor.watch()
    except (StartError, OSError) as exc:
        supervisor.tell = screen.line
        await supervisor.give_up()
        if isinstance(exc, StartError):
            raise
        raise StartError(f"{exc.filename or config.paths.state}: {exc.strerror or exc}") from exc
    except BaseException:
        await supervisor.stop(quietly=True)
        raise
    screen.line("Stopping, as asked")
    await supervisor.stop()


def _build_environment(config: Config, screen: Screen) -> BuiltVersion:
    """Build what sessions run in; at later starts it is there."""
    from cupola.config import Compute, environments_source

    if config.compute is Compute.DOCKER:
        from cupola.platform.storage.docker.building import prepare

        with screen.step("Preparing the image of Cupola Lab") as tell:
            return prepare(config, tell)
    from cupola.platform.storage.environments import EnvironmentStore

    store = EnvironmentStore(config.paths.environments, environments_source())
    with screen.step("Preparing the environment of Cupola Lab") as tell:
        return store.build(DATALAB, tell)


def _make_samples(config: Config, built: BuiltVersion, screen: Screen) -> None:
    """Make the sample archive, with the Lab's own interpreter: the libraries it takes are there.

    One that is there stays, unless an earlier version of Cupola made it: the how-tos need the collections of today.
    """
    from cupola.config import Compute
    from cupola.lab.samples.archive import is_older

    archive = config.paths.sample_archive
    older = is_older(archive)
    if archive.is_dir() and not older:
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    again = ["--force"] if older else []
    command = [str(built.python), "-P", "-m", "cupola.lab.samples", str(archive), *again]
    if config.compute is Compute.DOCKER:
        from cupola.platform.storage.docker.building import command_inside

        command = command_inside(config, built, command, folder=archive.parent)
    with screen.step("Making the sample archive" + (" of this version" if older else "")) as tell:
        from cupola.hub.zygotes import plain_environment

        last = ""
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=plain_environment(archive.parent),
            cwd=archive.parent,
        ) as maker:
            try:
                for line in maker.stdout or ():
                    if text := line.strip():
                        last = text
                        tell(text)
            except BaseException:
                maker.terminate()
                raise
        if maker.returncode != 0:
            raise StartError(
                f"the sample archive could not be made: {last or 'no reason was given'}; "
                "set `sample_archive: false` in cupola.yaml to start without it"
            )


def _welcome(config: Config, screen: Screen) -> None:
    """Show how to get in."""
    from cupola.config import Compute
    from cupola.hub.links import LIFETIME, Links

    token = Links(config.paths.links).create(config.owner)
    minutes = int(LIFETIME.total_seconds() // 60)
    screen.line("")
    screen.line(f"{config.title} runs at {config.address}")
    screen.line(f"Sign in as {config.owner}, once, within {minutes} minutes: {sign_in_link(config, token)}")
    everybody = config.server.address not in {"127.0.0.1", "::1", "localhost"}
    if everybody and config.compute is Compute.PROCESS:
        screen.line(
            "Sessions are processes of this account, without isolation: let only people you trust reach this address."
        )
    screen.line("Ctrl-C stops everything. Another link: cupola status --link")
    sys.stdout.flush()


def sign_in_link(config: Config, token: str) -> str:
    """Return the address that signs in with `token`."""
    return f"{config.address}/hub/sign-in?token={token}"


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("up", epilog="Example: cupola up --port 8080")(up)
