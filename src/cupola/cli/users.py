"""``cupola users``: who may come in, who waits, and the end of somebody's access."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cupola.cli.options import ConfigOption, JsonOption, StateOption, configuration
from cupola.exceptions import InputError, NotFoundError

if TYPE_CHECKING:
    from cupola.hub.signin.admission import Admission
    from cupola.hub.signin.people import Request

__all__ = ["register"]

NameArgument = Annotated[str, typer.Argument(help="The user name.", show_default=False)]
LoginArgument = Annotated[
    str, typer.Argument(help="Who asked, as METHOD:LOGIN; `cupola users list` shows it.", show_default=False)
]
AdminOption = Annotated[
    bool | None,
    typer.Option("--admin/--member", help="Make them an administrator, or no longer.", show_default=False),
]
AsOption = Annotated[str, typer.Option("--as", help="Another user name than the login.", show_default=False)]


def _admission(config: ConfigOption, state: StateOption) -> Admission:
    from cupola.hub.signin.admission import Admission

    found = Admission(configuration(config, state))
    found.list.refresh()
    if found.list.problem:
        typer.echo(found.list.problem, err=True)
    return found


def list_users(
    config: ConfigOption = None, state: StateOption = None, *, as_json: JsonOption = False
) -> None:
    """Show who may come in, why, and who waits."""
    from cupola.hub.signin.api import describe

    found = describe(_admission(config, state))
    typer.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{person['name']:<24} {'administrator' if person['admin'] else '':<14} {person['standing']:<8} "
        f"by {person['source']:<14} {' '.join(person['logins'])}".rstrip()
        for person in found["people"]
    ]
    waiting = [
        f"{request['method']}:{request['login']} would be {request['name']}, asked on {request['asked'][:10]}"
        for request in found["requests"]
    ]
    return [*(lines or ["Nobody is known yet."]), *(["", "Waiting:", *waiting] if waiting else [])]


def add(
    name: NameArgument, config: ConfigOption = None, state: StateOption = None, *, admin: AdminOption = None
) -> None:
    """Let somebody in, or back in; they sign in with a link (`cupola users link`) or a method bound to the name."""
    from cupola.hub.signin.api import add as let_in
    from cupola.hub.signin.api import change_role

    admission = _admission(config, state)
    known = admission.people.find(name)
    if known is not None and admin is not None:
        change_role(admission, name, admin=admin)
    new = let_in(admission, name, admin=admin)
    typer.echo(
        f"{name} may come in{'' if new else ' again'}"
        if new or (known and known.removed)
        else f"{name} is in"
    )


def remove(name: NameArgument, config: ConfigOption = None, state: StateOption = None) -> None:
    """End somebody's access: logins, tokens and sessions end within a minute; the files are kept."""
    from cupola.hub.signin.api import remove as shut_out

    shut_out(_admission(config, state), name)
    typer.echo(
        f"{name} may not come in any more; what they have open ends within a minute, their files are kept"
    )


def approve(
    login: LoginArgument, config: ConfigOption = None, state: StateOption = None, *, name: AsOption = ""
) -> None:
    """Let in somebody who asked."""
    admission = _admission(config, state)
    known = admission.approve(_request(admission, login), name)
    typer.echo(f"{login} may come in as {known.name}")


def refuse(login: LoginArgument, config: ConfigOption = None, state: StateOption = None) -> None:
    """Forget that somebody asked."""
    admission = _admission(config, state)
    admission.people.forget(_request(admission, login).identity)
    typer.echo(f"{login} is forgotten")


def bind(
    login: LoginArgument, name: NameArgument, config: ConfigOption = None, state: StateOption = None
) -> None:
    """Say that somebody who asked is the person of that user name."""
    admission = _admission(config, state)
    admission.people.bind(_request(admission, login).identity, name, create=False)
    typer.echo(f"{login} is {name} from now on")


def link(name: NameArgument, config: ConfigOption = None, state: StateOption = None) -> None:
    """Make a one-time sign-in link for somebody who may come in, and print only that."""
    from cupola.cli.up import sign_in_link
    from cupola.hub.links import Links

    admission = _admission(config, state)
    if admission.enter_by_link(name) is None:
        raise NotFoundError(f'"{name}" is not let in; do that first: cupola users add {name}')
    settings = configuration(config, state)
    typer.echo(sign_in_link(settings, Links(settings.paths.links).create(name)))


def _request(admission: Admission, login: str) -> Request:
    method, colon, account = login.partition(":")
    if not colon:
        raise InputError(f'"{login}" names no method; write METHOD:LOGIN, as `cupola users list` does')
    return admission.people.request(method, account)


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.callback(no_args_is_help=True, epilog="Example: cupola users list")(_users)
    app.command("list", epilog="Example: cupola users list")(list_users)
    app.command("add", epilog="Example: cupola users add maria --admin")(add)
    app.command("remove", epilog="Example: cupola users remove maria")(remove)
    app.command("approve", epilog="Example: cupola users approve github:maria")(approve)
    app.command("refuse", epilog="Example: cupola users refuse github:maria")(refuse)
    app.command("bind", epilog="Example: cupola users bind institute:maria.k maria")(bind)
    app.command("link", epilog="Example: cupola users link maria")(link)


def _users() -> None:
    """Show and change who may come in."""
