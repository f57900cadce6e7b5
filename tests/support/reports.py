"""Reports of failures that can be read: of what a test and its programs printed, the beginning and the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["pytest_runtest_makereport", "shortened"]

FIRST, LAST = 1_000, 4_000
"""Characters of each section that stay; where CI cuts its own output, the failures after a long one would be lost."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shorten what was captured where a test has failed."""
    report = yield
    if report.failed:
        report.sections = [(title, shortened(text)) for title, text in report.sections]
    return report


def shortened(text: str) -> str:
    """Leave the middle out of a long text, in whole lines where it has some."""
    if len(text) <= FIRST + LAST:
        return text
    first, last = text[:FIRST], text[-LAST:]
    first = first[: first.rfind("\n") + 1] or f"{first}\n"
    last = last[last.find("\n") + 1 :] or last
    return f"{first}[{len(text) - len(first) - len(last)} characters left out]\n{last}"
