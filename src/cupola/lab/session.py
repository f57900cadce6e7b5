"""``python -m cupola.lab.session``: prepare the home, then be the Jupyter server of a session.

The home belongs to the user and may be full or odd: whatever cannot be prepared is said in the log and left out, so that
the user can still open the session and mend it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from pathlib import Path

from pydantic import TypeAdapter

from cupola.exceptions import CupolaError
from cupola.lab.guardian import is_on
from cupola.lab.guardian.folder import hold_session
from cupola.lab.home import copy_examples, link_volumes
from cupola.lab.keeper import Keeper
from cupola.lab.overlay import Overlay, write_kernel
from cupola.lab.packages import Packages
from cupola.lab.storage import leave, make_room
from cupola.lab.unused import leave_out
from cupola.models.volume import Mount

__all__ = ["main", "prepare", "settings"]

EXTENSION = "cupola.lab.extension"


def say(text: str) -> None:
    """Write a line into the session's log."""
    sys.stderr.write(f"[cupola] {text}\n")
    sys.stderr.flush()


def prepare() -> None:
    """Prepare the home, and put into the environment what kernels and terminals need to find."""
    home = Path(os.environ["HOME"])
    runtime = Path(os.environ.setdefault("CUPOLA_RUNTIME", str(home / ".cupola")))
    if full := make_room(home):
        say(full)
    locked = Path(sys.prefix)
    python = locked / "bin" / "python"
    path = [str(python.parent)]
    if os.environ.get("CUPOLA_CLEAN") != "1":
        overlay = Overlay(runtime / "environments" / _digest())
        try:
            overlay.prepare()
        except OSError as exc:
            say(
                f"started without your own packages: {overlay.folder} cannot be written: {exc.strerror or exc}"
            )
        else:
            python = overlay.python
            record_packages()
            path.insert(0, str(python.parent))
            # Only data (kernels, front ends of widgets): extensions of the server are not looked for here.
            _prepend("JUPYTER_PATH", str(overlay.folder / "share" / "jupyter"))
    else:
        _clean_kernel(runtime, python)
    os.environ["CUPOLA_PYTHON"] = str(python)
    # Widgets are saved with their notebook: a job's panel and a map live again when it is opened, without a kernel.
    _prepend("JUPYTER_CONFIG_PATH", str(Path(__file__).parent / "settings"))
    # Which parts of JupyterLab give way to ours, or that ours are not there.
    _prepend("JUPYTER_CONFIG_PATH", str(Path(__file__).parent / "guardian" / ("on" if is_on() else "off")))
    for folder in reversed(path):
        _prepend("PATH", folder)
    _fill_home(home, runtime, locked)


def _clean_kernel(runtime: Path, python: Path) -> None:
    """Make the kernel of the locked environment known: the home may hold one of the user's under the same name."""
    folder = runtime / "clean" / _digest()
    try:
        write_kernel(folder, python)
    except OSError as exc:
        say(f"{folder} cannot be written: {exc.strerror or exc}")
    else:
        _prepend("JUPYTER_PATH", str(folder / "share" / "jupyter"))


def _fill_home(home: Path, runtime: Path, locked: Path) -> None:
    mounts = TypeAdapter(list[Mount]).validate_json(os.environ.get("CUPOLA_VOLUMES") or "[]")
    for problem in link_volumes(mounts, home / "volumes"):
        say(problem)
    try:
        copy_examples(locked / "share" / "cupola" / "examples", home / "examples", runtime / "examples.json")
    except OSError as exc:
        say(f"the examples cannot be copied: {exc.strerror or exc}")


def _digest() -> str:
    return os.environ.get("CUPOLA_VERSION", "").removeprefix("sha256:")[:12] or "unknown"


def _prepend(name: str, value: str) -> None:
    there = os.environ.get(name)
    os.environ[name] = f"{value}{os.pathsep}{there}" if there else value


def settings() -> list[str]:
    """Return the Jupyter server's settings, as its command line takes them."""
    chosen = [
        f"--ServerApp.root_dir={os.environ['HOME']}",
        "--ServerApp.terminals_enabled=True",
        # The trash lies in the home and counts: nothing could be deleted from a full one.
        "--FileContentsManager.delete_to_trash=False",
        # Nothing is asked of the internet.
        "--LabApp.news_url=None",
        # Whoever is not the owner: what they may do, and until when.
        "--ServerApp.identity_provider_class=cupola.lab.access.Doorkeeper",
        "--ServerApp.authorizer_class=cupola.lab.access.ViewersRead",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        # It asks npm for language servers at each start, and the locked environment has none.
        "--LanguageServerManager.autodetect=False",
        # How full the home is, and what became of installed packages.
        f"--LabApp.extra_labextensions_path={Path(__file__).parent / 'labextension'}",
        # Our kernel stands in for the one of the server's own environment.
        "--KernelSpecManager.ensure_native_kernel=False",
    ]
    if os.geteuid() == 0:
        # The system account that runs the platform is root: in a container, mostly.
        chosen.append("--ServerApp.allow_root=True")
    if importlib.util.find_spec(EXTENSION) is not None:
        # Voilà is loaded at the first dashboard: see cupola.lab.dashboards.
        chosen.append(
            f"--ServerApp.jpserver_extensions={{'{EXTENSION}': True, 'voila.server_extension': False}}"
        )
    if not is_on():
        return chosen
    # Not before it is needed: the keeper of the server is to be small.
    from cupola.lab.guardian.settings import server_settings

    return chosen + server_settings()


def pass_over_home() -> None:
    """Let the Jupyter server read its settings nowhere in the home: a wrong line there would lock its owner out.

    They are Python that runs in the server before anybody is asked who they are. How the Lab looks is kept elsewhere.
    """
    from jupyter_core.application import JupyterApp
    from jupyter_core.paths import ENV_CONFIG_PATH, SYSTEM_CONFIG_PATH

    places = [*ENV_CONFIG_PATH, *SYSTEM_CONFIG_PATH]
    JupyterApp.config_file_paths = property(lambda _: list(places))  # type: ignore[assignment,method-assign]


def main(args: list[str]) -> None:
    """Prepare and serve until told to end.

    Parameters
    ----------
    args
        More settings for the Jupyter server.
    """
    leave_out()
    prepare()
    code = 0
    try:
        if is_on():
            code = keep(args)
        else:
            serve(args)
    finally:
        record_packages()
        # A process forked by the fork server ends without Python's own clean-up.
        leave()
    if code < 0:
        # Whoever looks after the session is to see what its server ended by.
        with contextlib.suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    elif code > 0:
        sys.exit(code)


def keep(args: list[str]) -> int:
    """Serve, again after each crash; return what the last server ended with."""
    held = hold_session()
    if not held:
        say("another server of this session runs: its kernels are left to it")
    session = os.environ.get("CUPOLA_SESSION", "") if held else None
    return Keeper(lambda: serve(args), say, session).run()


def serve(args: list[str]) -> None:
    """Be the Jupyter server."""
    pass_over_home()
    sys.argv = ["jupyterhub-singleuser", *settings(), *args]
    from jupyterhub.singleuser import main as run

    run()


def record_packages() -> None:
    """Write down what the user installed; a full home or a clean session is no reason to fail."""
    with contextlib.suppress(CupolaError, OSError):
        Packages.here().record()


if __name__ == "__main__":
    main(sys.argv[1:])
