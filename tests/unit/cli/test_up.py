"""``cupola up``: what it prepares before the platform starts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from cupola.cli.up import Screen, _make_samples
from cupola.config import Config
from cupola.lab.samples.archive import MARKER, VERSION


@pytest.mark.parametrize(
    ("version", "words"),
    [(None, [[]]), (VERSION - 1, [["--force"]]), (VERSION, []), ("of another program", [])],
)
def test_the_sample_archive_is_made_once_for_each_version(tmp_path, version, words):
    config = Config.model_validate({"state": str(tmp_path / "state")})
    archive = config.paths.sample_archive
    if version is not None:
        archive.mkdir(parents=True)
        (archive / MARKER).write_text(json.dumps({"archive": "cupola-sample-archive", "version": version}))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 4; echo "[$*]" >> {tmp_path}/asked\n')
    python.chmod(0o755)
    _make_samples(config, SimpleNamespace(python=python), Screen(Console(quiet=True)))
    asked = tmp_path / "asked"
    assert (asked.read_text().split() if asked.exists() else []) == [f"[{' '.join(one)}]" for one in words]
