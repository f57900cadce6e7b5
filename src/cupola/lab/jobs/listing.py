"""A person's jobs as a list that is asked by name and shows as a small table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, overload

from typing_extensions import override

from cupola.exceptions import NotFoundError
from cupola.lab.jobs.handle import Job
from cupola.models.base import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cupola.client import Client
    from cupola.models.job import Job as JobModel

__all__ = ["HEADINGS", "Jobs", "all_jobs", "row", "table"]

HEADINGS = ("name", "id", "state", "done", "failed", "engine", "started")
PAGE = 100
MOST_SHOWN = 30
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"))


class Jobs(Sequence[Job]):
    """The newest jobs of a person, at most 100; asked by name or id it knows the older ones too.

    Parameters
    ----------
    client
        For the portal.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        page = client.jobs(limit=PAGE)
        self._states = page.items
        self._more = page.next

    @overload
    def __getitem__(self, which: int | str) -> Job: ...

    @overload
    def __getitem__(self, which: slice) -> list[Job]: ...

    @override
    def __getitem__(self, which: int | str | slice) -> Job | list[Job]:
        if isinstance(which, slice):
            return [Job(state, self._client) for state in self._states[which]]
        state = self._called(which) if isinstance(which, str) else self._states[which]
        return Job(state, self._client)

    @override
    def __len__(self) -> int:
        return len(self._states)

    @override
    def __repr__(self) -> str:
        if not self._states:
            return "You have no jobs yet: cupola.map(function, inputs) starts one."
        return table([HEADINGS, *self._rows()]) + self._rest()

    def _repr_html_(self) -> str:
        if not self._states:
            return f"<p>{escape(repr(self))}</p>"
        head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in self._rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{escape(self._rest().strip())}"

    def _ipython_key_completions_(self) -> list[str]:
        return list(dict.fromkeys(state.name for state in self._states))

    def _rows(self) -> list[tuple[str, ...]]:
        return [row(state) for state in self._states[:MOST_SHOWN]]

    def _rest(self) -> str:
        left = len(self._states) - MOST_SHOWN
        return f"\n… and {left} more{' at least' if self._more else ''}." if left > 0 else ""

    def _called(self, name: str) -> JobModel:
        """Return the newest job with a name, or the one with an id."""
        seen: list[str] = []
        for state in all_jobs(self._client, self._states, self._more):
            if name in {state.name, state.id}:
                return state
            seen.append(state.name)
        known = ", ".join(islice(dict.fromkeys(seen), 10)) or "none yet"
        raise NotFoundError(f"You have no job {name!r}; there is: {known}.")


def all_jobs(client: Client, states: Sequence[JobModel] = (), more: str | None = "") -> Iterator[JobModel]:
    """Yield all jobs of a person, the newest first, asking for a page when it is needed.

    Parameters
    ----------
    client
        For the portal.
    states, more
        The first page and where the next one begins, if that is known.
    """
    yield from states
    while more is not None:
        page = client.jobs(more or None, limit=PAGE)
        yield from page.items
        more = page.next


def row(job: JobModel) -> tuple[str, ...]:
    """Return what a table tells of a job, as `HEADINGS` says."""
    counts = job.counts
    since = (now() - (job.started or job.created)).total_seconds()
    return (
        job.name,
        job.id,
        f"{job.state}, {job.ahead:,} before it" if job.ahead else str(job.state),
        f"{counts.done:,} of {counts.inputs:,}",
        f"{counts.failed:,}" if counts.failed else "",
        job.engine,
        f"{_span(since)} ago" if job.started else "not yet" if job.state.active else "never",
    )


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines of text whose columns stand below each other."""
    cells = [[" ".join(cell.split()) for cell in cells] for cells in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _span(seconds: float) -> str:
    """Return a length of time in one round number."""
    for size, unit in _SPANS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
