"""From a file and the environment to a :class:`Config`, or to sentences that say what is wrong in which line."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cupola.config.document import Document, Finding, Loc, parse
from cupola.config.fields import expects, group_of, settings
from cupola.config.paths import default_state
from cupola.config.root import Config
from cupola.config.server import Compute
from cupola.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from cupola.config.base import Settings
    from cupola.config.signin import SignInSettings
    from cupola.config.volumes import VolumeSettings

__all__ = ["load"]

FILE_NAME = "cupola.yaml"
_LARGEST = 2**20
"""In bytes. A configuration is a few kilobytes; whatever is larger is another file."""


def load(path: Path | None = None) -> Config:
    """Read the configuration.

    Parameters
    ----------
    path
        The file. Nothing: the file that ``CUPOLA_CONFIG`` names, else ``cupola.yaml`` in the working folder, else the
        defaults. ``CUPOLA_STATE`` and ``CUPOLA_PORT`` win over the file.

    Raises
    ------
    ConfigError
        With one line of text for everything that is wrong.
    """
    file = _find(path)
    document = parse(_text(file)) if file else Document()
    name = str(path) if path else FILE_NAME if file is None or file.parent == Path.cwd() else str(file)
    if document.findings:
        raise _error(name, document.findings)
    try:
        config = Config.model_validate(document.data)
    except ValidationError as exc:
        raise _error(name, [_finding(error, document) for error in exc.errors()]) from exc
    config = _resolved(config, file)
    config = _with_overrides(config)
    if findings := list(_sign_in_findings(config, document)):
        raise _error(name, findings)
    config._file = file  # noqa: SLF001 - pydantic has no other way to a private attribute
    return config


def _find(path: Path | None) -> Path | None:
    """Return the file to read, absolute."""
    named = path or (Path(value) if (value := os.environ.get("CUPOLA_CONFIG")) else None)
    if named is None:
        here = Path(FILE_NAME).absolute()
        return here if here.is_file() else None
    return named.expanduser().absolute()


def _text(file: Path) -> str:
    """Read `file`."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError as exc:
        raise ConfigError(f"there is no file {file}; `cupola init {file}` writes one") from exc
    except OSError as exc:
        raise ConfigError(f"{file} cannot be read: {exc.strerror}") from exc
    if len(content) > _LARGEST:
        raise ConfigError(f"{file} is larger than 1 MiB, so it is no configuration; name another file")
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{file.name}, line {line}: this is no UTF-8 text; save the file as UTF-8") from exc


def _resolved(config: Config, file: Path | None) -> Config:
    """Make every path absolute: a relative one starts at the folder of the file."""
    base = file.parent if file else Path.cwd()
    state = base / config.state if "state" in config.model_fields_set else default_state(file)
    folders = {name: base / value for name, value in config.folders if value is not None}
    volumes = [_volume_at(base, volume) for volume in config.volumes]
    return config.model_copy(
        update={
            "state": state,
            "datalabs": [base / place for place in config.datalabs],
            "folders": config.folders.model_copy(update=folders),
            "volumes": volumes,
            "sign_in": _resolved_sign_in(config.sign_in, base),
        }
    )


def _resolved_sign_in(settings: SignInSettings, base: Path) -> SignInSettings:
    """Make the paths of `settings` absolute."""
    methods = [
        method.model_copy(update={"client_secret_file": base / method.client_secret_file})
        if method.client_secret_file
        else method
        for method in settings.methods
    ]
    allow_list = base / settings.allow_list if settings.allow_list else None
    return settings.model_copy(update={"methods": methods, "allow_list": allow_list})


def _sign_in_findings(config: Config, document: Document) -> Iterator[Finding]:
    """Yield what is wrong with the sign-in as a whole: it must not start half-open, nor half-closed."""
    if config.sign_in.methods and config.compute is Compute.PROCESS:
        yield Finding(
            document.line(("sign_in",)),
            "sign_in lets other people in, but with `compute: process` all sessions run as one account of this machine "
            "and could read each other's files; set `compute: docker`, or take sign_in away",
        )
    for number, method in enumerate(config.sign_in.methods):
        try:
            method.secret()
        except ConfigError as exc:
            yield Finding(document.line(("sign_in", "methods", number)), str(exc))


def _volume_at(base: Path, volume: VolumeSettings) -> VolumeSettings:
    """Make the paths of a volume absolute."""
    if volume.path is not None:
        return volume.model_copy(update={"path": base / volume.path})
    if volume.bucket is not None and volume.bucket.keys is not None:
        bucket = volume.bucket.model_copy(update={"keys": base / volume.bucket.keys})
        return volume.model_copy(update={"bucket": bucket})
    return volume


def _with_overrides(config: Config) -> Config:
    """Let the environment win over the file."""
    if state := os.environ.get("CUPOLA_STATE"):
        config = config.model_copy(update={"state": Path(state).expanduser().absolute()})
    if port := os.environ.get("CUPOLA_PORT"):
        # isdecimal alone would let digits of other scripts through, and int() a number of any length
        if not (port.isascii() and port.isdecimal() and len(port) < 6 and 1 <= int(port) <= 65535):  # noqa: PLR2004
            raise ConfigError(f'CUPOLA_PORT is "{port}"; expected a whole number from 1 to 65535')
        config = config.model_copy(update={"server": config.server.model_copy(update={"port": int(port)})})
    return config


def _error(name: str, findings: list[Finding]) -> ConfigError:
    """Make one error of all findings, in the order of the file."""
    ordered = sorted(findings, key=lambda finding: finding.line or 0)
    return ConfigError(
        "\n".join(
            f"{name}, line {finding.line}: {finding.text}" if finding.line else f"{name}: {finding.text}"
            for finding in ordered
        )
    )


def _finding(error: ErrorDetails, document: Document) -> Finding:
    """Tell a finding of pydantic in the words of the file."""
    loc = error["loc"]
    line = document.line(loc)
    if error["type"] == "extra_forbidden":
        return Finding(line, _unknown_key(loc))
    if error["type"] == "missing":
        return Finding(line, f'{_place(loc[:-1])} has no "{loc[-1]}", which it needs')
    if error["type"] == "value_error" and loc and isinstance(error["input"], dict):
        # raised by a validator of a group, in our own words
        return Finding(line, f"{_place(loc)}: " + error["msg"].removeprefix("Value error, "))
    if not loc:  # raised by a validator of the whole
        return Finding(document.line(("volumes",)), error["msg"].removeprefix("Value error, "))
    if isinstance(loc[-1], int):
        return Finding(
            line, f"{_place(loc)} is {_shown(error['input'])}; expected settings such as name and title"
        )
    field = _field(loc)
    expected = expects(field) if field else ""
    if not expected:
        expected = "settings of its own, one per line below it" if field and group_of(field) else error["msg"]
    return Finding(line, f"{_place(loc)} is {_shown(error['input'])}; expected {expected}")


def _unknown_key(loc: Loc) -> str:
    """Say that the key at `loc` is unknown, and what was probably meant."""
    key, group = str(loc[-1]), _group(loc[:-1])
    where = f" in {_place(loc[:-1])}" if loc[:-1] else ""
    close = difflib.get_close_matches(key, group.model_fields, n=1, cutoff=0.6) if group else []
    if close:
        return f'unknown key "{key}"{where}; did you mean "{close[0]}"?'
    entries = [entry for top in settings() for entry in top.walk() if "[]" not in entry.key]
    # Of keys with one name the one that lies highest is the likely one: it is put in last.
    entries.sort(key=lambda entry: -entry.key.count("."))
    elsewhere = {entry.name: entry.key for entry in entries}
    if close := difflib.get_close_matches(key, elsewhere, n=1, cutoff=0.6):
        return f'unknown key "{key}"{where}; did you mean "{elsewhere[close[0]]}"?'
    known = ", ".join(group.model_fields) if group else ""
    return f'unknown key "{key}"{where}; known are {known}'


def _place(loc: Loc) -> str:
    """Return `loc` for people: ``server.port``, ``volumes, entry 2``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f", entry {part + 1}"
        else:
            text += f", {part}" if ", entry " in text else f".{part}" if text else part
    return text


def _shown(value: Any) -> str:
    """Return a value for people, short."""
    match value:
        case None:
            return "empty"
        case dict():
            return "a group of settings"
        case list():
            return "a list"
        case str():
            text = f'"{value}"'
        case _:
            text = json.dumps(value, default=str)
    longest = 60
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _field(loc: Loc) -> FieldInfo | None:
    """Return the field at `loc`."""
    names = [part for part in loc if isinstance(part, str)]
    group: type[Settings] | None = Config
    field: FieldInfo | None = None
    for name in names:
        field = group.model_fields.get(name) if group else None
        group = group_of(field) if field else None
    return field


def _group(loc: Loc) -> type[Settings] | None:
    """Return the settings that stand at `loc`."""
    if not loc:
        return Config
    field = _field(loc)
    return group_of(field) if field else None
