"""Chains in files, so that the tile workers of a session find what its notebooks defined."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.chains.chain import Chain

__all__ = ["folder", "load", "save"]

_HASH = re.compile(r"[0-9a-f]{64}")


def folder() -> Path:
    """Return where chains are kept: ``chains`` below ``$CUPOLA_RUNTIME`` (``~/.cupola``)."""
    runtime = os.environ.get("CUPOLA_RUNTIME")
    return (Path(runtime) if runtime else Path.home() / ".cupola") / "chains"


def save(chain: Chain) -> str:
    """Keep a chain and return its hash; one that is kept already is left alone."""
    text = chain.to_json()
    place = folder()
    path = place / f"{chain.hash}.json"
    if path.exists():
        return chain.hash
    # A chain holds a person's code: only its owner may read or replace it.
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, aside = tempfile.mkstemp(dir=place, prefix=".", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return chain.hash


def load(name: str) -> Chain:
    """Return the chain with this hash.

    Raises
    ------
    NotFoundError
        When no such chain is kept.
    InputError
        When its file was changed: its content no longer fits its name.
    """
    if not _HASH.fullmatch(name):
        raise NotFoundError("A chain is named by the 64 hexadecimal digits of its hash.")
    try:
        text = (folder() / f"{name}.json").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"There is no chain {name[:12]} here: run the notebook cell that makes it."
        ) from error
    # Of the text, not of the chain: those kept by an earlier version of Cupola had another JSON.
    if hashlib.sha256(text.encode()).hexdigest() != name:
        raise InputError(
            f"The file of chain {name[:12]} was changed: run the notebook cell that makes it again."
        )
    return Chain.from_json(text)
