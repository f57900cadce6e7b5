"""RO-Crate of a folder of products: its files and how each was made, in the words of https://w3id.org/ro/crate/1.2.

It follows the profile Process Run Crate: one CreateAction for each product, with what computed it (``instrument``), who
(``agent``), from which files and parameters (``object``) and what came of it (``result``).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.chains.products.cog import disk_errors
from cupola.lab.chains.products.files import aside, read_product
from cupola.lab.chains.products.provenance import checksum
from cupola.lab.collections.images import local_path
from cupola.lab.collections.scan import read_document

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["METADATA", "write_crate"]

METADATA = "ro-crate-metadata.json"
_SPECIFICATION = "https://w3id.org/ro/crate/1.2"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_SHA256 = "1220"
"""The beginning of a multihash of that kind."""
_SHOWN = 5
_NO_LICENCE = "No licence was given: ask the author before using these files."

Entity = dict[str, Any]


@dataclass
class _Known:
    """Entities that several products share, by their ids."""

    entities: dict[str, Entity] = field(default_factory=dict)

    def add(self, kind: str, identifier: str, /, **said: Any) -> dict[str, str]:
        """Add an entity, once, and return the reference to it."""
        self.entities.setdefault(identifier, {"@id": identifier, "@type": kind, **said})
        return {"@id": identifier}


def write_crate(
    folder: str | os.PathLike[str], *, licence: str | None = None, author: str | None = None
) -> Path:
    """Describe a folder of products as an RO-Crate, in ``ro-crate-metadata.json`` beside them.

    Every file is read again for its checksum. The folder can then be given to others, or to an archive, as it is.

    Parameters
    ----------
    folder
        With the products of one or several runs.
    licence
        Address of the licence under which others may use it, such as ``https://spdx.org/licenses/CC-BY-4.0``.
    author
        Who publishes it; those who made the products where nothing is said.

    Returns
    -------
    path
        Of the description.

    Raises
    ------
    NotFoundError
        When there is no such folder, or it holds no products.
    InputError
        When products were changed after they were written.
    LimitError
        When the disk is full; an older description stays then.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotFoundError(f"There is no folder {root}.")
    items = [path for path in sorted(root.glob("*.json")) if path.name != METADATA and _is_product(path)]
    if not items:
        raise NotFoundError(f"The folder {root} holds no products of Cupola.")
    _check(items)
    draft = aside(root, "ro-crate-metadata", ".json")
    try:
        with disk_errors(root), draft.open("w", encoding="utf-8") as file:
            _write(file, _graph(root, items, licence, author))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(root / METADATA)
    finally:
        draft.unlink(missing_ok=True)
    return root / METADATA


def _write(file: Any, graph: Iterator[Entity]) -> None:
    """Write one entity after another: a hundred thousand products need not be in memory at once."""
    file.write(f'{{"@context": {json.dumps(f"{_SPECIFICATION}/context")},\n "@graph": [')
    for number, entity in enumerate(graph):
        file.write(",\n  " if number else "\n  ")
        json.dump(entity, file, ensure_ascii=False, allow_nan=False)
    file.write("\n]}\n")


def _is_product(path: Path) -> bool:
    document = read_product(path)
    return document is not None and "cupola:chain" in document["properties"]


def _product(path: Path) -> dict[str, Any]:
    document = read_product(path)
    if document is None:
        raise NotFoundError(
            f"The item {path} is not there any more: describe the folder when nothing changes in it."
        )
    return document


def _files(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the description of each of a product's files."""
    for asset in document["assets"].values():
        yield str(asset.get("href", "")).removeprefix("./"), asset


def _check(items: list[Path]) -> None:
    """Refuse products whose files are others than they were."""
    changed = []
    for path in items:
        for name, asset in _files(_product(path)):
            file = path.parent / name
            if not file.is_file() or checksum(str(file))[1] != asset.get("file:checksum"):
                changed.append(name)
    if changed:
        shown = ", ".join(changed[:_SHOWN]) + (
            f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        )
        raise InputError(
            f"These products were changed or removed after they were written: {shown}; run them again, or take them and "
            "their items out of the folder."
        )


def _graph(root: Path, items: list[Path], licence: str | None, author: str | None) -> Iterator[Entity]:
    """Yield all entities: first what describes the whole, then products, what they share, and the inputs."""
    known = _Known()
    inputs: dict[str, dict[str, Any]] = {}
    parts: list[str] = []
    actions: list[str] = []
    makers: dict[str | None, None] = {}
    for path in items:
        document = _product(path)
        parts.extend([path.name, *(name for name, _ in _files(document))])
        actions.append(f"#make-{quote(path.stem)}")
        for entry in document["properties"].get("cupola:inputs", []):
            for file in entry.get("files", []):
                inputs.setdefault(_address(str(file.get("href"))), file)
        makers[document["properties"].get("cupola:by")] = None
    others = [name for name in ("collection.json",) if (root / name).is_file()]
    people = [_person(known, name) for name in ([author] if author else makers) if name]
    yield {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _SPECIFICATION},
        "about": {"@id": "./"},
    }
    collection = read_document(root / "collection.json") or {}
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": str(collection.get("title") or root.name),
        "description": str(collection.get("description") or f"{len(items)} products of Cupola."),
        "datePublished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "conformsTo": {"@id": _PROFILE},
        "license": _licence(known, licence),
        **({"author": people} if people else {}),
        "hasPart": [{"@id": quote(name)} for name in [*others, *parts]] + [{"@id": one} for one in inputs],
        "mentions": [{"@id": action} for action in actions],
    }
    known.add("CreativeWork", _PROFILE, name="Process Run Crate", version="0.5")
    for name in others:
        yield _file(root / name, "application/json")
    for path in items:
        yield from _of_product(path, _product(path), known)
    yield from known.entities.values()
    for address, file in inputs.items():
        yield _input(address, file)


def _of_product(path: Path, document: dict[str, Any], known: _Known) -> Iterator[Entity]:
    """Yield a product's files and the action that made them."""
    said = document["properties"]
    results = [{"@id": quote(path.name)}]
    yield _file(path, "application/geo+json", name=f"STAC item of {path.stem}")
    for name, asset in _files(document):
        results.append({"@id": quote(name)})
        yield _file(path.parent / name, str(asset.get("type") or "application/octet-stream"), name=path.stem)
    used = [
        {"@id": _address(str(file.get("href")))}
        for entry in said.get("cupola:inputs", [])
        for file in entry.get("files", [])
    ]
    person = said.get("cupola:by")
    yield {
        "@id": f"#make-{quote(path.stem)}",
        "@type": "CreateAction",
        "name": str(said.get("processing:lineage") or path.stem),
        "endTime": said.get("processing:datetime"),
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "instrument": _instruments(known, said),
        **({"agent": _person(known, person)} if person else {}),
        "object": [*used, *_parameters(known, said)],
        "result": results,
    }


def _file(path: Path, encoding: str, name: str | None = None) -> Entity:
    size, digest = checksum(str(path))
    return {
        "@id": quote(path.name),
        "@type": "File",
        "name": name or path.name,
        "encodingFormat": encoding,
        "contentSize": str(size),
        "sha256": digest.removeprefix(_SHA256),
        "dateModified": f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _address(href: str) -> str:
    """Return the URI of an input: it lies outside of the crate."""
    return Path(href).absolute().as_uri() if local_path(href) is not None else href


def _input(address: str, file: dict[str, Any]) -> Entity:
    href = str(file.get("href"))
    entity: Entity = {"@id": address, "@type": "File", "name": href.rpartition("/")[2] or href}
    if "file:size" in file:
        entity["contentSize"] = str(file["file:size"])
    if str(file.get("file:checksum", "")).startswith(_SHA256):
        entity["sha256"] = str(file["file:checksum"]).removeprefix(_SHA256)
    return entity


def _person(known: _Known, name: object) -> dict[str, str]:
    return known.add("Person", f"#person-{quote(str(name))}", name=str(name))


def _licence(known: _Known, licence: str | None) -> dict[str, str]:
    if licence is None:
        return known.add("CreativeWork", "#licence", name="None given", description=_NO_LICENCE)
    if "://" not in licence:
        raise InputError(
            f"licence={licence!r} is no address: write one such as https://spdx.org/licenses/CC-BY-4.0."
        )
    return known.add("CreativeWork", licence, name=licence.rstrip("/").rpartition("/")[2])


def _instruments(known: _Known, said: dict[str, Any]) -> list[dict[str, str]]:
    """Return what computed a product: Cupola in its release, the datalab's version, the chain with its functions."""
    software = said.get("processing:software") or {}
    release = str(software.get("cupola", "unknown"))
    libraries = [
        known.add(
            "SoftwareApplication",
            f"#software-{quote(name)}-{quote(str(version))}",
            name=name,
            softwareVersion=version,
        )
        for name, version in software.items()
        if name != "cupola"
    ]
    more = {}
    if digest := said.get("cupola:version"):
        more["softwareRequirements"] = [
            *libraries,
            known.add(
                "SoftwareApplication",
                f"#datalab-{quote(str(digest))}",
                name="Datalab version",
                softwareVersion=digest,
            ),
        ]
    elif libraries:
        more["softwareRequirements"] = libraries
    requirements = hashlib.sha256(json.dumps(more, sort_keys=True).encode()).hexdigest()[:8]
    engine = known.add(
        "SoftwareApplication",
        f"#cupola-{quote(release)}-{requirements}",
        name="Cupola",
        softwareVersion=release,
        **more,
    )
    functions = [
        known.add(
            "SoftwareSourceCode",
            f"#function-{one['sha256']}",
            name=one["name"],
            text=one.get("source", ""),
            programmingLanguage=f"Python {one.get('python', '')}".strip(),
        )
        for one in said.get("cupola:functions", [])
    ]
    expression = (said.get("processing:expression") or {}).get("expression")
    chain = known.add(
        "SoftwareSourceCode",
        f"#chain-{said['cupola:chain']}",
        name=f"Chain {str(said['cupola:chain'])[:12]}",
        programmingLanguage="cupola-chain (JSON)",
        text=json.dumps(expression, sort_keys=True, separators=(",", ":")),
        **({"hasPart": functions} if functions else {}),
    )
    return [engine, chain]


def _parameters(known: _Known, said: dict[str, Any]) -> list[dict[str, str]]:
    """Return the parameters of a run."""
    found = {**(said.get("cupola:parameters") or {}), **(said.get("cupola:stored") or {})}
    return [
        known.add(
            "PropertyValue",
            f"#parameter-{quote(str(name))}-{quote(json.dumps(value))}",
            name=str(name),
            value=value if isinstance(value, str | int | float | bool) else json.dumps(value),
        )
        for name, value in sorted(found.items())
        if value is not None
    ]
