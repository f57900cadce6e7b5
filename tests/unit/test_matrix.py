"""The matrix of trust: each row that is promised has a test that gives a figure, and the other way round."""

from __future__ import annotations

import re

import pytest

from support.matrix import Row

PROMISED = {*range(18, 26), *range(30, 33)}
"""Of the issue that brought sessions for groups."""


def test_each_promised_row_has_a_test(repository):
    told = (repository / "docs" / "explanation" / "trust.md").read_text()
    rows = {int(number) for number in re.findall(r"^\| (\d+) \|", told, re.MULTILINE)}
    tested = {
        int(number)
        for file in (repository / "tests").rglob("test_*.py")
        for number in re.findall(r"^@pytest\.mark\.row\((\d+)\)", file.read_text(), re.MULTILINE)
    }
    assert tested == rows
    assert rows >= PROMISED


def test_a_figure_above_its_limit_fails_and_is_kept():
    figures = []
    row = Row(18, "a test", figures)
    row("sockets", 0, limit=0, seen_red=True)
    with pytest.raises(AssertionError, match="row 18: sockets is 1, at most 0"):
        row("sockets", 1, limit=0)
    assert [figure.holds for figure in figures] == [True, False]
    assert [figure.seen_red for figure in figures] == [True, False]
    assert row.given == 2
