"""Write the generated part of the reference, from the code itself: configuration, commands, REST.

``docs/conf.py`` calls :func:`write` before each build; the pages lie in ``docs/reference/generated``, which git ignores.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import typer

from cupola.cli import VERBS, app
from cupola.config import Config
from cupola.config.fields import Setting, settings
from cupola.platform.app import create_app
from cupola.platform.storage.hub.settings import HubSettings

__all__ = ["commands", "configuration", "rest", "write"]


def write(folder: Path) -> None:
    """Write all pages into `folder`; a page that would not change is left alone, so that builds stay quick."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"configuration.md": configuration(), "commands.md": commands()}
    document = openapi()
    pages |= {"rest.md": rest(document), "openapi.json": json.dumps(document, indent=2)}
    for name, text in pages.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


# -- configuration ----------------------------------------------------------------------------------------------


def configuration() -> str:
    """Return the page of all settings."""
    text = (
        "# Configuration\n\nAll keys of `cupola.yaml`. `cupola init` writes the file with every key commented out; "
        "{doc}`/howto/configure` shows how to use it. Relative paths start at the folder of the file.\n\n"
        "The variables `CUPOLA_CONFIG` (the file), `CUPOLA_STATE` and `CUPOLA_PORT` win over the file.\n"
    )
    return text + "".join(_setting(entry) for top in settings() for entry in top.walk())


def _setting(entry: Setting) -> str:
    """Return the section of one key."""
    rows = [("takes", entry.expects)]
    if entry.required:
        rows.append(("default", "none: it is needed"))
    elif entry.default_text:
        rows.append(("default", entry.default_text))
    elif not entry.below:
        shown = "nothing" if entry.default in {None, ""} else f"`{_yaml(entry.default)}`"
        rows.append(("default", shown))
    if entry.example is not None:
        rows.append(("example", f"`{entry.name}: {_yaml(entry.example)}`"))
    listed = "".join(f"\n- {name}: {value}" for name, value in rows if value)
    return f"\n## `{entry.key}`\n\n**{entry.title}.** {entry.description}\n{listed}\n"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- commands ---------------------------------------------------------------------------------------------------


def commands() -> str:
    """Return the page of all verbs."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("cupola", ["--help"], resilient_parsing=True)
    text = (
        "# Commands\n\n`cupola --help` lists the verbs, `cupola VERB --help` explains one. Errors are one sentence on stderr.\n\n"
        "| exit code | meaning |\n|---|---|\n| 0 | done |\n| 1 | it failed, or something is missing or does not run |\n"
        "| 2 | the configuration or the command line is wrong |\n| 130 | interrupted |\n"
    )
    return text + "".join(_verb(verb, group.get_command(context, verb)) for verb in VERBS)


def _verb(name: str, command: Any) -> str:
    """Return the section of one verb."""
    text = f"\n## `cupola {name}`\n\n{command.help}\n"
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            rows.append((parameter.name.upper(), parameter.help or ""))
        elif parameter.name != "help":
            # How the name of the value is called differs between releases of the library; the options are enough.
            rows.append((", ".join(parameter.opts), parameter.help or ""))
    if rows:
        text += "\n| option | meaning |\n|---|---|\n"
        text += "".join(f"| `{option}` | {_cell(meaning)} |\n" for option, meaning in rows)
    example = (command.epilog or "").removeprefix("Example: ")
    text += f"\n```console\n$ {example}\n```\n" if example else ""
    below = getattr(command, "commands", {})
    return text + "".join(_verb(f"{name} {verb}", each) for verb, each in below.items())


# -- REST -------------------------------------------------------------------------------------------------------


def openapi() -> dict[str, Any]:
    """Return the portal's OpenAPI document, without any portal that runs."""
    nothing = "-"  # no hub is asked
    hub = HubSettings(
        api_url="http://127.0.0.1/hub/api",
        api_token=nothing,
        internal_token=nothing,
        client_id="service-cupola",
        prefix="/services/cupola/",
        base_url="/",
        service_url="http://127.0.0.1",
        access_scopes=frozenset(),
    )
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Config(state=Path(folder)), hub).openapi()


def rest(document: dict[str, Any]) -> str:
    """Return the page of all addresses and all data that `document` describes."""
    text = f"# REST\n\n{document['info']['description']}\n"
    text += (
        "The same for machines, as OpenAPI 3.1: {download}`openapi.json`; a running platform has it at "
        "`/services/cupola/api/openapi.json`.\n\n## Addresses\n"
    )
    for path, methods in document["paths"].items():
        if "/api/" in path:
            text += "".join(_address(method, path, what) for method, what in methods.items())
    text += "\n## Data\n"
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema or "enum" in schema:
            text += _schema(name, schema)
    return text


def _address(method: str, path: str, what: dict[str, Any]) -> str:
    """Return the section of one address."""
    text = f"\n### `{method.upper()} {path}`\n\n{what.get('description') or what.get('summary', '')}\n"
    lines = [
        f"`{parameter['name']}` in the {parameter['in']}: {_type(parameter['schema'])}"
        for parameter in what.get("parameters", [])
        if parameter["in"] in {"path", "query"}
    ]
    lines += [f"body: {kind}" for kind in _contents(what.get("requestBody", {}))]
    for status, answer in what.get("responses", {}).items():
        if status.startswith("2"):
            lines += [f"answers {status}: {kind}" for kind in _contents(answer) or ["nothing"]]
    return text + "".join(f"\n- {line}" for line in lines) + "\n"


def _contents(holder: dict[str, Any]) -> list[str]:
    return [
        _type(content.get("schema", {})) or f"`{kind}`" if kind == "application/json" else f"`{kind}`"
        for kind, content in holder.get("content", {}).items()
    ]


def _schema(name: str, schema: dict[str, Any]) -> str:
    """Return the section of one type."""
    text = f"\n### {name}\n\n{schema.get('description', '')}\n"
    if "enum" in schema:
        return text + "\nOne of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".\n"
    text += "\n| field | type | needed |\n|---|---|---|\n"
    needed = schema.get("required", [])
    for field, kind in schema["properties"].items():
        text += f"| `{field}` | {_cell(_type(kind))} | {'yes' if field in needed else ''} |\n"
    return text


def _type(schema: dict[str, Any]) -> str:
    """Return a type for people."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return " or ".join(_type(kind) for kind in schema[union])
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_type(schema.get('items', {})) or 'anything'}"
    if kind == "null":
        return "nothing"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _cell(text: str) -> str:
    """Return `text` fit for a table."""
    return " ".join(text.split()).replace("|", "\\|")
