"""Changelog fragments: one small file per change in ``changelog.d``, gathered into ``CHANGELOG.md`` at a release.

A fragment is Markdown: one or more of the four headings ``### Breaking``, ``### New``, ``### Fixed``, ``### Other``, and
below each a list of sentences for users.

Usage: ``python tools/changes.py`` checks the fragments; ``--release VERSION`` gathers them under that version.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADINGS = ("Breaking", "New", "Fixed", "Other")
MARK = "<!-- releases -->\n"
"""Where a new release goes in ``CHANGELOG.md``."""


def read(file: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Return the entries of a fragment by heading, and what is wrong with it."""
    entries: dict[str, list[str]] = {}
    wrong = []
    heading = None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#"):
            heading = line.removeprefix("### ")
            if line != f"### {heading}" or heading not in HEADINGS:
                wrong.append(
                    f"{file}:{number}: the headings are {', '.join('### ' + name for name in HEADINGS)}"
                )
        elif line.startswith("- ") and heading:
            entries.setdefault(heading, []).append(line)
        elif line.startswith("  ") and heading and entries.get(heading):
            entries[heading][-1] += f"\n{line}"
        elif line.strip():
            wrong.append(f"{file}:{number}: write a list entry ('- ...') below a heading")
    if not entries and not wrong:
        wrong.append(f"{file}: it has no entry")
    return entries, wrong


def fragments(root: Path) -> list[Path]:
    """Return the fragments, in the order of their names."""
    return sorted(file for file in (root / "changelog.d").glob("*.md") if file.name != "README.md")


def check(root: Path) -> list[str]:
    """Return what is wrong with the fragments."""
    return [line for file in fragments(root) for line in read(file)[1]]


def release(root: Path, version: str) -> None:
    """Move all fragments into the changelog, under `version`."""
    gathered: dict[str, list[str]] = {}
    for file in fragments(root):
        for heading, entries in read(file)[0].items():
            gathered.setdefault(heading, []).extend(entries)
    text = f"## {version} ({datetime.now(UTC).date()})\n"
    for heading in HEADINGS:
        if heading in gathered:
            text += f"\n### {heading}\n\n" + "\n".join(gathered[heading]) + "\n"
    changelog = root / "CHANGELOG.md"
    before, mark, after = changelog.read_text(encoding="utf-8").partition(MARK)
    aside = changelog.with_suffix(".new")
    aside.write_text(f"{before}{mark}\n{text}{after}", encoding="utf-8")
    aside.replace(changelog)
    for file in fragments(root):
        file.unlink()


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Check, or gather with ``--release VERSION``; return the exit code."""
    wrong = check(root)
    match arguments:
        case []:
            pass
        case ["--release", version] if re.fullmatch(r"\d+\.\d+\.\d+", version):
            if not fragments(root):
                wrong.append("there are no fragments in changelog.d to release")
            if not wrong:
                release(root, version)
        case _:
            wrong.append("usage: python tools/changes.py [--release MAJOR.MINOR.PATCH]")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
