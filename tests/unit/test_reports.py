"""What is left of long output in the report of a failure."""

from __future__ import annotations

from support.reports import FIRST, LAST, shortened


def test_short_texts_stay():
    assert shortened("one\ntwo\n") == "one\ntwo\n"


def test_long_texts_lose_their_middle_in_whole_lines():
    lines = [f"line {number}\n" for number in range(2_000)]
    kept = shortened("".join(lines)).splitlines(keepends=True)
    assert kept[0] == lines[0]
    assert kept[-1] == lines[-1]
    assert {line for line in kept if not line.startswith("[")} <= set(lines)
    assert sum(map(len, kept)) < FIRST + LAST + 100


def test_a_long_line_is_cut():
    text = shortened("a" * 20_000 + "z")
    assert text.endswith("z")
    assert len(text) < FIRST + LAST + 100
